//! Commands of a server: checked, queued per environment, sent to the API, and answered.
//!
//! A command is carried out once however often it arrives. While it runs, its request id is known;
//! afterwards its answer is cached for a while; after that, or after a restart, the idempotency key
//! leads to the same records of the log and so to the same answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::api::App;
use crate::api::problem::{invalid, status};
use crate::api::types::Problem;
use crate::api::unix_socket::BY_SESSION;
use crate::core::event::Actor;
use crate::core::{Code, EnvironmentId, Fault, LeaseId, Phase, RequestId, destroyed, not_found};
use crate::session::protocol::{Answer, HostCommand};
use crate::session::scheduler::{Access, Permit, Scheduler};

/// Longest wait for an operation in the API, in seconds.
const WAIT_SECONDS: u64 = 24 * 3_600;
/// Bound on one answer in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Answers that are cached for repeated commands, and capacity of the `done` channel.
const ANSWERS_MAX: usize = 1_024;
/// Bound on the cached answers in bytes.
const ANSWERS_BYTES_MAX: usize = 32 << 20;
/// Provisions of one environment that wait to begin.
const QUEUED_MAX: usize = 16;
/// Commands in progress, including those that wait and those that overtake.
const RUNNING_MAX: usize = 2_048;

/// A command as a request to the API.
struct ApiCall {
    access: Access,
    method: Method,
    path: String,
    body: Value,
}

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

/// Carries out the commands of one daemon, across its sessions.
pub(crate) struct CommandDispatcher {
    router: Router,
    scheduler: Scheduler,
    registry: Arc<Mutex<CommandRegistry>>,
    /// Receives each command whose answer is ready.
    pub(crate) done: mpsc::Receiver<ReadyAnswer>,
    answers: mpsc::Sender<ReadyAnswer>,
}

fn locked(registry: &Mutex<CommandRegistry>) -> MutexGuard<'_, CommandRegistry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Unregisters a command that was refused at once. Not cached: a retry may succeed.
    pub(crate) fn refused(&mut self, command: &HostCommand) {
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
        match command.name.as_str() {
            "environment.provision" => {
                let queue = self.queued.entry(command.environment.clone()).or_default();
                if queue.len() >= QUEUED_MAX {
                    return full(format!(
                        "{QUEUED_MAX} provisions of {} are queued",
                        command.environment
                    ));
                }
                queue.insert(command.request.clone());
            }
            // A waiting provision that has lost its entry never begins.
            "environment.cancel" => drop(self.queued.remove(&command.environment)),
            _ => {}
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

impl CommandDispatcher {
    pub(crate) fn new(router: Router) -> Self {
        let (answers, done) = mpsc::channel(ANSWERS_MAX);
        Self { router, scheduler: Scheduler::default(), registry: Arc::default(), done, answers }
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
        let ready = check(app, &command).and_then(|()| {
            let call = call(&command)?;
            // Queued here and not in the task, because tasks may start in any order.
            let permit = self.scheduler.enqueue(&command.environment, call.access)?;
            Ok((call, permit))
        });
        let (call, permit) = match ready {
            Ok(ready) => ready,
            Err(fault) => {
                locked(&self.registry).refused(&command);
                return Some(refusal(request, &fault));
            }
        };
        let task = CommandTask {
            router: self.router.clone(),
            registry: Arc::clone(&self.registry),
            app: Arc::clone(app),
            answers: self.answers.clone(),
        };
        tokio::spawn(task.carry_out(command, call, permit));
        None
    }
}

/// What the task of one command needs.
struct CommandTask {
    router: Router,
    registry: Arc<Mutex<CommandRegistry>>,
    app: Arc<App>,
    answers: mpsc::Sender<ReadyAnswer>,
}

impl CommandTask {
    async fn carry_out(self, command: HostCommand, call: ApiCall, mut permit: Permit) {
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
        let permit = (command.name != "exec").then_some(permit);
        let answer = match held {
            Ok(()) => perform(self.router, request, call).await,
            Err(fault) => refusal(request, &fault),
        };
        drop(permit);
        let done = locked(&self.registry).finish(answer);
        // The receiver is gone if the daemon is shutting down.
        drop(self.answers.send(done).await);
    }
}

pub(crate) fn cancelled() -> Fault {
    let message = "the provision was cancelled before it began";
    Fault::new(Code::Cancelled, message, "send it again to provision the environment")
}

pub(crate) fn refusal(request: String, fault: &Fault) -> Answer {
    let status = status(fault.code).as_u16();
    let problem = Problem { status, ..Problem::of(fault) };
    Answer { request, status, body: serde_json::to_value(problem).unwrap_or_default() }
}

/// Checks what can be checked before queueing: the names are valid, the path is right, and an
/// environment that is to be used exists.
fn check(app: &App, command: &HostCommand) -> Result<(), Fault> {
    RequestId::parse(&command.request)
        .map_err(|e| invalid(format!("the request id is invalid: {e}")))?;
    if command.name != "environment.provision" && !command.environment.is_empty() {
        let id = EnvironmentId::parse(&command.environment).map_err(|e| {
            invalid(format!("{:?} is not a valid environment id: {e}", command.environment))
        })?;
        own_path(app, command, &id)?;
        let serves = ["workspace.status", "workspace.diff", "lease.acquire", "exec"];
        if serves.contains(&command.name.as_str()) {
            app.handle.view(|state| match state.environment(&id) {
                None => Err(not_found(&id)),
                Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(&id)),
                Some(_) => Ok(()),
            })?;
        }
    }
    // Only the form of a lease name is checked here; whether the lease exists, at its turn.
    command
        .body
        .get("lease")
        .and_then(Value::as_str)
        .map_or(Ok(()), |name| lease_id(name).map(drop))
}

fn lease_id(name: &str) -> Result<LeaseId, Fault> {
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
    let ours = app.handle.view(|state| state.environment(id).map(|e| e.plan.path.to_string()));
    match ours {
        Some(ours) if ours != path => {
            let message = format!("environment {id} is at {ours}, not at {path}");
            Err(Fault::new(Code::NotOurs, message, "omit `path`"))
        }
        _ => Ok(()),
    }
}

fn known_lease(app: &App, name: &str) -> Result<(), Fault> {
    let (id, now) = (lease_id(name)?, crate::api::app::now());
    app.handle.view(|state| state.lease_in_force(&id, now).map(|_| ()))
}

fn call(command: &HostCommand) -> Result<ApiCall, Fault> {
    let id = &command.environment;
    let of = |rest: &str| format!("/v1/environments/{id}{rest}");
    let flag = |name: &str| command.body.get(name).and_then(Value::as_bool).unwrap_or(false);
    let body = || match &command.body {
        Value::Object(fields) => {
            let mut fields = fields.clone();
            fields.remove("path");
            Value::Object(fields)
        }
        _ => json!({}),
    };
    let (access, method, path, body) = match command.name.as_str() {
        "environment.provision" => {
            let mut body = body();
            body["id"] = json!(id);
            let path = format!("/v1/environments?wait={WAIT_SECONDS}");
            (Access::Write, Method::POST, path, body)
        }
        "environment.cancel" => (Access::Overtake, Method::POST, of("/cancel"), json!({})),
        "environment.destroy" => {
            let life = command.body.get("incarnation").and_then(Value::as_u64);
            let life = life.map(|n| format!("&incarnation={n}")).unwrap_or_default();
            let (force, retire) = (flag("force"), flag("retire"));
            let path = of(&format!("?wait={WAIT_SECONDS}&force={force}&retire={retire}{life}"));
            (Access::Write, Method::DELETE, path, Value::Null)
        }
        "environment.restore" => {
            (Access::Write, Method::POST, of(&format!("/restore?wait={WAIT_SECONDS}")), body())
        }
        "workspace.status" => (Access::Read, Method::GET, of("/status"), Value::Null),
        "workspace.diff" => {
            let bytes = command.body.get("bytes").and_then(Value::as_u64).unwrap_or(256 * 1024);
            let head = flag("head");
            let query = format!("/diff?head={head}&max_bytes={}", bytes.min(1 << 20));
            (Access::Read, Method::GET, of(&query), Value::Null)
        }
        "lease.acquire" => (Access::Write, Method::POST, of("/leases"), body()),
        "lease.release" => {
            let lease = command.body.get("lease").and_then(Value::as_str).unwrap_or_default();
            let path = format!("/v1/leases/{lease}");
            (Access::Write, Method::DELETE, path, Value::Null)
        }
        "exec" => (Access::Read, Method::POST, of("/run"), body()),
        other => {
            let message = format!("unknown command {other:?}");
            let hint = "update this daemon; the server may be newer";
            return Err(Fault::new(Code::UnsupportedCommand, message, hint));
        }
    };
    if id.is_empty() && command.name != "lease.release" {
        return Err(invalid(format!("command {} names no environment", command.name)));
    }
    Ok(ApiCall { access, method, path, body })
}

async fn perform(router: Router, request: String, call: ApiCall) -> Answer {
    let actor =
        Actor { door: BY_SESSION.to_owned(), uid: rustix::process::geteuid().as_raw(), pid: 0 };
    let asked = Request::builder()
        .method(call.method)
        .uri(&call.path)
        .header("content-type", "application/json")
        .header("idempotency-key", &request)
        .extension(actor)
        .body(Body::from(call.body.to_string()));
    let asked = match asked {
        Ok(asked) => asked,
        Err(e) => {
            return refusal(request, &invalid(format!("cannot build the request: {e}")));
        }
    };
    let Ok(answer) = router.oneshot(asked).await;
    let status = answer.status().as_u16();
    match axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await {
        Ok(bytes) => {
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            Answer { request, status, body }
        }
        Err(e) => {
            let message = format!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
            let fault = Fault::new(Code::RequestTooLarge, message, "request less data").because(e);
            refusal(request, &fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_command(command: &str, environment: &str, body: Value) -> HostCommand {
        let (request, command) = ("r".to_owned(), command.to_owned());
        HostCommand { request, name: command, environment: environment.to_owned(), body }
    }

    #[test]
    fn commands_map_to_api_requests() {
        let made = call(&host_command(
            "environment.provision",
            "demo",
            json!({"repo": "/r", "path": "/x"}),
        ));
        let made = made.expect("known");
        assert_eq!((made.body["id"].as_str(), made.body.get("path")), (Some("demo"), None));
        let gone = call(&host_command("environment.destroy", "demo", json!({"force": true})));
        assert!(gone.expect("known").path.contains("force=true"));
        assert_eq!(
            call(&host_command("environment.cancel", "demo", Value::Null)).map(|c| c.access).ok(),
            Some(Access::Overtake)
        );
        let unknown = call(&host_command("environment.dance", "demo", Value::Null));
        assert_eq!(unknown.map(|c| c.path).expect_err("unknown").code, Code::UnsupportedCommand);
        let nameless = call(&host_command("workspace.status", "", Value::Null));
        assert_eq!(nameless.map(|c| c.path).expect_err("nameless").code, Code::InvalidRequest);
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
        registry.begin(&named("c".to_owned(), "environment.cancel")).expect("a cancel is accepted");
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
