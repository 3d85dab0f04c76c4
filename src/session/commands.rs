//! Commands of a server: checked, queued per environment, carried out by use cases, and answered.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::core::{Code, EnvironmentId, Fault, LeaseId, Phase, RequestId, State, destroyed};
use crate::service::App;
use crate::service::app::now;
use crate::service::requests::{environment_id, invalid};
use crate::session::answers::refusal;
use crate::session::calls::Call;
use crate::session::protocol::{Answer, HostCommand};
use crate::session::registry::{ANSWERS_MAX, Admission, CommandRegistry, ReadyAnswer, cancelled};
use crate::session::scheduler::{Permit, Scheduler};

/// Carries out the commands of one daemon, across its sessions.
pub(crate) struct CommandDispatcher {
    scheduler: Scheduler,
    registry: Arc<Mutex<CommandRegistry>>,
    /// Receives each command whose answer is ready.
    pub(crate) done: mpsc::Receiver<ReadyAnswer>,
    answers: mpsc::Sender<ReadyAnswer>,
}

fn locked(registry: &Mutex<CommandRegistry>) -> MutexGuard<'_, CommandRegistry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CommandDispatcher {
    pub(crate) fn new() -> Self {
        let (answers, done) = mpsc::channel(ANSWERS_MAX);
        Self { scheduler: Scheduler::default(), registry: Arc::default(), done, answers }
    }

    /// Returns the answer of a finished command, unless the cache has evicted it.
    pub(crate) fn answer(&self, done: ReadyAnswer) -> Option<Answer> {
        locked(&self.registry).answer(done)
    }

    /// Accepts a command. Returns an answer that is known at once; otherwise one follows in `done`.
    pub(crate) fn handle(&self, app: &Arc<App>, command: HostCommand) -> Option<Answer> {
        let request = command.request.clone();
        match locked(&self.registry).admit(&command) {
            Admission::Answered(answer) => return Some(answer),
            Admission::InProgress => return None,
            Admission::Started => {}
        }
        let ready = prepared(&command, || {
            check(app, &command)?;
            let call = Call::of(&command)?;
            // Queued here and not in the task, because tasks may start in any order.
            let permit = self.scheduler.enqueue(&command.environment, call.access())?;
            Ok((call, permit))
        });
        let (call, permit) = match ready {
            Ok(ready) => ready,
            Err(fault) => {
                locked(&self.registry).unregister(&command);
                return Some(refusal(request, &fault));
            }
        };
        locked(&self.registry).accepted(&command);
        let task = CommandTask { registry: Arc::clone(&self.registry), app: Arc::clone(app) };
        self.start(command.clone(), task.carry_out(command, call, permit));
        None
    }

    /// Starts the work of a command. The command is answered however the work ends.
    fn start(&self, command: HostCommand, work: impl Future<Output = Answer> + Send + 'static) {
        let (registry, answers) = (Arc::clone(&self.registry), self.answers.clone());
        tokio::spawn(async move {
            // A task of its own: a panic ends the work, and this task still answers.
            let done = match tokio::spawn(work).await {
                Ok(answer) => locked(&registry).finish(answer),
                Err(error) => {
                    tracing::error!(command = command.name, %error, "a command panicked");
                    locked(&registry).unregister(&command);
                    let fault = panicked(&command, error.try_into_panic().ok().as_deref());
                    ReadyAnswer::Uncached(refusal(command.request, &fault))
                }
            };
            // The receiver is gone if the daemon is shutting down.
            drop(answers.send(done).await);
        });
    }
}

/// Does what precedes the work of a command. A panic refuses the command like any other fault; it
/// would otherwise end the session.
fn prepared<T>(command: &HostCommand, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(panicked(command, Some(panic.as_ref()))))
}

/// Returns the fault of a command whose work panicked.
fn panicked(command: &HostCommand, panic: Option<&(dyn Any + Send)>) -> Fault {
    let text = panic.and_then(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied())
    });
    let message = format!("command {} panicked: {}", command.name, text.unwrap_or("no message"));
    Fault::new(Code::Defect, message, "report this defect with the daemon log")
}

/// What the work of one command needs.
struct CommandTask {
    registry: Arc<Mutex<CommandRegistry>>,
    app: Arc<App>,
}

impl CommandTask {
    async fn carry_out(self, command: HostCommand, call: Call, mut permit: Permit) -> Answer {
        permit.granted().await;
        let request = command.request.clone();
        let held = match command.name.as_str() {
            "environment.provision" => {
                let queued = locked(&self.registry).unqueue(&command.environment, &request);
                queued.then_some(()).ok_or_else(cancelled)
            }
            // Checked only now: an earlier command may grant or end the lease.
            "lease.release" | "exec" => named_lease(&self.app, &command),
            _ => Ok(()),
        };
        // `exec` may run for hours: it gives up its permit, so that no later command waits for it.
        let _permit = (command.name != "exec").then_some(permit);
        match held {
            Ok(()) => call.answer(&self.app, request).await,
            Err(fault) => refusal(request, &fault),
        }
    }
}

/// Checks what can be checked before queueing: the names are valid, the path is right, and an
/// environment that is to be used exists.
fn check(app: &App, command: &HostCommand) -> Result<(), Fault> {
    RequestId::parse(&command.request)
        .map_err(|e| invalid(format!("the request id is invalid: {e}")))?;
    if command.name != "environment.provision" && !command.environment.is_empty() {
        let id = environment_id(&command.environment)?;
        own_path(app, command, &id)?;
        let serves = ["workspace.status", "workspace.diff", "lease.acquire", "exec"];
        if serves.contains(&command.name.as_str()) {
            let is_over =
                |state: &State| state.environment(&id).map(|e| e.phase == Phase::Tombstoned);
            match app.handle.view(is_over) {
                None => return Err(app.handle.absent(&id)),
                Some(true) => return Err(destroyed(&id)),
                Some(false) => {}
            }
        }
    }
    // Only the form of a lease name is checked here; whether the lease exists, at its turn.
    command
        .body
        .get("lease")
        .and_then(Value::as_str)
        .map_or(Ok(()), |name| parsed_lease(name).map(drop))
}

fn parsed_lease(name: &str) -> Result<LeaseId, Fault> {
    LeaseId::parse(name).map_err(|e| invalid(format!("lease: {e}")))
}

/// Returns an error if the command names a lease that is not in force.
fn named_lease(app: &App, command: &HostCommand) -> Result<(), Fault> {
    match command.body.get("lease").and_then(Value::as_str) {
        Some(lease) => known_lease(app, lease),
        None => Ok(()),
    }
}

/// Refuses a command whose `path` is not the environment's path in the log. The server's path is
/// never used, but a server that is wrong about it must not act on the environment.
fn own_path(app: &App, command: &HostCommand, id: &EnvironmentId) -> Result<(), Fault> {
    let Some(path) = command.body.get("path").and_then(Value::as_str) else { return Ok(()) };
    let ours = app.handle.environment(id)?.map(|env| env.plan.path.to_string());
    match ours {
        Some(ours) if ours != path => {
            let message = format!("environment {id} is at {ours}, not at {path}");
            Err(Fault::new(Code::NotOurs, message, "omit `path`"))
        }
        _ => Ok(()),
    }
}

fn known_lease(app: &App, name: &str) -> Result<(), Fault> {
    let (id, now) = (parsed_lease(name)?, now());
    app.handle.view(|state| state.lease_in_force(&id, now).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::scheduler::Access;

    /// Without an answer the test ends here; a panic is answered at once.
    const ANSWER_LIMIT: Duration = Duration::from_secs(20);

    fn command(name: &str) -> HostCommand {
        let (request, environment) = ("r1".to_owned(), "demo".to_owned());
        HostCommand { request, name: name.to_owned(), environment, body: Value::Null }
    }

    /// The command is answered and nothing waits for it: neither its own retry, nor its queue.
    #[tokio::test]
    async fn panicking_command_is_answered_and_may_be_repeated() {
        for name in ["workspace.status", "environment.provision"] {
            let mut commands = CommandDispatcher::new();
            let command = command(name);
            let admitted = locked(&commands.registry).admit(&command);
            assert!(matches!(admitted, Admission::Started), "{name} is new");
            let repeated = locked(&commands.registry).admit(&command);
            assert!(matches!(repeated, Admission::InProgress), "{name} is in progress");
            let mut permit = commands.scheduler.enqueue("demo", Access::Write).expect("room");
            commands.start(command.clone(), async move {
                permit.granted().await;
                panic!("a defect of {}", "the test")
            });
            let done = tokio::time::timeout(ANSWER_LIMIT, commands.done.recv()).await;
            let done = done.expect("within the limit").expect("an answer");
            let answer = commands.answer(done).expect("kept for its sender");
            assert_eq!((answer.request.as_str(), answer.status), ("r1", 500));
            assert_eq!(answer.body["code"], "defect");
            let message = format!("command {name} panicked: a defect of the test");
            assert_eq!(answer.body["message"], message);
            let mut next = commands.scheduler.enqueue("demo", Access::Write).expect("room");
            next.granted().await;
            assert!(!locked(&commands.registry).unqueue("demo", "r1"), "it waits no more");
            let again = locked(&commands.registry).admit(&command);
            assert!(matches!(again, Admission::Started), "a retry of {name} is carried out");
        }
    }

    #[test]
    fn panic_before_the_work_is_a_fault() {
        let command = command("exec");
        let refused = prepared(&command, || -> Result<(), Fault> { panic!("a defect") });
        let fault = refused.expect_err("it panicked");
        assert_eq!((fault.code, fault.transient), (Code::Defect, false));
        assert_eq!(fault.message, "command exec panicked: a defect");
        assert_eq!(prepared(&command, || Ok(7)), Ok(7));
    }

    #[tokio::test]
    async fn finished_command_is_answered_from_cache() {
        let mut commands = CommandDispatcher::new();
        let command = command("workspace.status");
        locked(&commands.registry).admit(&command);
        let request = command.request.clone();
        commands
            .start(command.clone(), async { Answer { request, status: 204, body: Value::Null } });
        let done = commands.done.recv().await.expect("an answer");
        assert!(matches!(done, ReadyAnswer::Cached(_)));
        let repeated = locked(&commands.registry).admit(&command);
        assert!(matches!(repeated, Admission::Answered(Answer { status: 204, .. })));
    }
}
