//! Commands in progress, and the cached answers of finished ones. It starts no command.
//!
//! A command is carried out once however often it arrives. While it runs, its request id is known;
//! afterwards its answer is cached for a while; after that, or after a restart, the idempotency key
//! leads to the same records of the log and so to the same answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::{Code, Fault};
use crate::session::answers::refusal;
use crate::session::protocol::{Answer, HostCommand};

/// Answers that are cached for repeated commands.
pub(super) const ANSWERS_MAX: usize = 1_024;
/// Bound on the cached answers in bytes.
const ANSWERS_BYTES_MAX: usize = 32 << 20;
/// Provisions of one environment that wait to begin.
const QUEUED_MAX: usize = 16;
/// Commands in progress, including those that wait and those that overtake.
const RUNNING_MAX: usize = 2_048;

/// Commands in progress, and the cached answers of finished ones.
#[derive(Default)]
pub(crate) struct CommandRegistry {
    running: BTreeSet<String>,
    /// Provisions that have not begun, by environment: request ids that a cancel can still remove.
    queued: BTreeMap<String, BTreeSet<String>>,
    answers: BTreeMap<String, (Answer, usize)>,
    oldest: VecDeque<String>,
    bytes: usize,
}

/// What to do with a command that arrives.
pub(crate) enum Admission {
    /// Send this answer: the command has finished before, or is refused.
    Answered(Answer),
    /// Do nothing: the same command is in progress and will be answered.
    InProgress,
    /// Carry it out; it is registered as in progress.
    Started,
}

/// An answer that is ready to be sent.
pub(crate) enum ReadyAnswer {
    /// The answer is in the cache under this request id.
    Cached(String),
    /// The answer is not cached, because it reflects a passing condition: a retry may succeed.
    Uncached(Answer),
}

impl CommandRegistry {
    /// Decides what to do with a command that arrives, and registers a new one.
    pub(crate) fn admit(&mut self, command: &HostCommand) -> Admission {
        if let Some((answer, _)) = self.answers.get(&command.request) {
            return Admission::Answered(answer.clone());
        }
        if self.running.contains(&command.request) {
            return Admission::InProgress;
        }
        match self.begin(command) {
            Ok(()) => Admission::Started,
            Err(fault) => Admission::Answered(refusal(command.request.clone(), &fault)),
        }
    }

    /// Returns the answer of a finished command, unless the cache has evicted it.
    pub(crate) fn answer(&self, done: ReadyAnswer) -> Option<Answer> {
        match done {
            ReadyAnswer::Uncached(answer) => Some(answer),
            ReadyAnswer::Cached(request) => {
                self.answers.get(&request).map(|(answer, _)| answer.clone())
            }
        }
    }

    /// Lets a command that passed its checks act on the queue: a cancel removes the provisions that
    /// wait, and one that has lost its entry never begins. A refused cancel removes none.
    pub(crate) fn accepted(&mut self, command: &HostCommand) {
        if command.name == "environment.cancel" {
            self.queued.remove(&command.environment);
        }
    }

    /// Unregisters a command that was refused at once or panicked. Not cached: a retry may succeed.
    pub(crate) fn unregister(&mut self, command: &HostCommand) {
        self.running.remove(&command.request);
        self.unqueue(&command.environment, &command.request);
    }

    /// Registers a command as in progress.
    fn begin(&mut self, command: &HostCommand) -> Result<(), Fault> {
        let full = |message: String| {
            Err(Fault::new(Code::LimitReached, message, "retry when one has ended").transient())
        };
        if self.running.len() >= RUNNING_MAX {
            return full(format!("{RUNNING_MAX} commands are in progress"));
        }
        if command.name == "environment.provision" {
            let queue = self.queued.entry(command.environment.clone()).or_default();
            if queue.len() >= QUEUED_MAX {
                let environment = &command.environment;
                return full(format!("{QUEUED_MAX} provisions of {environment} are queued"));
            }
            queue.insert(command.request.clone());
        }
        self.running.insert(command.request.clone());
        Ok(())
    }

    /// Removes a waiting provision; returns false if it was cancelled or had begun.
    pub(crate) fn unqueue(&mut self, environment: &str, request: &str) -> bool {
        let Some(queue) = self.queued.get_mut(environment) else { return false };
        let was_there = queue.remove(request);
        if queue.is_empty() {
            self.queued.remove(environment);
        }
        was_there
    }

    pub(crate) fn finish(&mut self, answer: Answer) -> ReadyAnswer {
        self.running.remove(&answer.request);
        // The daemon is overloaded or shutting down, which is no result of the command.
        if matches!(answer.status, 429 | 503) {
            return ReadyAnswer::Uncached(answer);
        }
        let (bytes, request) = (answer.body.to_string().len(), answer.request.clone());
        self.oldest.push_back(request.clone());
        self.bytes += bytes;
        self.answers.insert(request.clone(), (answer, bytes));
        while self.oldest.len() > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let Some(oldest) = self.oldest.pop_front() else { break };
            if let Some((_, bytes)) = self.answers.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
        ReadyAnswer::Cached(request)
    }
}

pub(crate) fn cancelled() -> Fault {
    let message = "the provision was cancelled before it began";
    Fault::new(Code::Cancelled, message, "send it again to provision the environment")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn host_command(command: &str, environment: &str, body: Value) -> HostCommand {
        let (request, command) = ("r".to_owned(), command.to_owned());
        HostCommand { request, name: command, environment: environment.to_owned(), body }
    }

    /// The queue is bounded; a full one still accepts a cancel, and each command begins once.
    #[test]
    fn cancel_drops_all_queued_provisions() {
        let mut registry = CommandRegistry::default();
        let named = |request: String, command: &str| HostCommand {
            request,
            ..host_command(command, "demo", Value::Null)
        };
        let provision = |n: usize| named(format!("p{n}"), "environment.provision");
        for n in 0..QUEUED_MAX {
            registry.begin(&provision(n)).expect("room");
        }
        let full = registry.begin(&provision(QUEUED_MAX)).expect_err("full");
        assert_eq!(full.code, Code::LimitReached);
        assert!(
            registry.unqueue("demo", "p0") && !registry.unqueue("demo", "p0"),
            "a queued command begins once"
        );
        let refused = named("refused".to_owned(), "environment.cancel");
        registry.begin(&refused).expect("room");
        registry.unregister(&refused);
        assert!(registry.unqueue("demo", "p1"), "a refused cancel removes nothing");
        let cancel = named("c".to_owned(), "environment.cancel");
        registry.begin(&cancel).expect("a full queue accepts a cancel");
        registry.accepted(&cancel);
        assert!((1..QUEUED_MAX).all(|n| !registry.unqueue("demo", &format!("p{n}"))));
        assert!(registry.queued.is_empty());
        for n in registry.running.len()..RUNNING_MAX {
            registry.begin(&named(format!("s{n}"), "workspace.status")).expect("room");
        }
        let full = registry.begin(&named("more".to_owned(), "environment.cancel"));
        assert_eq!(full.expect_err("full").code, Code::LimitReached);
    }

    /// Answers to transient refusals are not cached, so the command may come again.
    #[test]
    fn answer_cache_is_bounded() {
        let mut registry = CommandRegistry::default();
        for n in 0..2 * ANSWERS_MAX {
            let body = json!("x".repeat(10));
            drop(registry.finish(Answer { request: n.to_string(), status: 200, body }));
        }
        assert_eq!((registry.answers.len(), registry.oldest.len()), (ANSWERS_MAX, ANSWERS_MAX));
        let body = json!("x".repeat(ANSWERS_BYTES_MAX));
        drop(registry.finish(Answer { request: "large".to_owned(), status: 200, body }));
        assert_eq!(
            (registry.answers.len(), registry.bytes),
            (0, 0),
            "an answer over the limit is not cached"
        );
        registry.running.insert("busy".to_owned());
        let body = json!({ "code": "limit_reached" });
        let passing = registry.finish(Answer { request: "busy".to_owned(), status: 429, body });
        assert!(matches!(passing, ReadyAnswer::Uncached(_)));
        assert!(
            registry.answers.is_empty() && registry.running.is_empty(),
            "the command may be repeated"
        );
    }
}
