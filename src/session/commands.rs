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
use crate::api::door::BY_SESSION;
use crate::api::problem::{invalid, status};
use crate::api::types::Problem;
use crate::core::event::Actor;
use crate::core::{Code, EnvironmentId, Fault, LeaseId, Phase, RequestId, destroyed, not_found};
use crate::session::protocol::{Answer, Order};
use crate::session::scheduler::{Access, Place, Scheduler};

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
struct Call {
    access: Access,
    method: Method,
    path: String,
    body: Value,
}

/// Commands in progress, and the cached answers of finished ones.
#[derive(Default)]
pub(crate) struct Known {
    running: BTreeSet<String>,
    /// Provisions that have not begun, by environment: request ids that a cancel can still remove.
    queued: BTreeMap<String, BTreeSet<String>>,
    answers: BTreeMap<String, (Answer, usize)>,
    order: VecDeque<String>,
    bytes: usize,
}

/// What to do with a command that arrives.
pub(crate) enum Met {
    /// Send this answer: the command has finished before, or is refused.
    Answered(Answer),
    /// Do nothing: the same command is in progress and will be answered.
    UnderWay,
    /// Carry it out; it is registered as in progress.
    Begins,
}

/// An answer that is ready to be sent.
pub(crate) enum Done {
    /// The answer is in the cache under this request id.
    Kept(String),
    /// The answer is not cached, because it reflects a passing condition: a retry may succeed.
    Passing(Answer),
}

/// Carries out the commands of one daemon, across its sessions.
pub(crate) struct CommandDispatcher {
    router: Router,
    lanes: Scheduler,
    known: Arc<Mutex<Known>>,
    /// Receives each command whose answer is ready.
    pub(crate) done: mpsc::Receiver<Done>,
    tell: mpsc::Sender<Done>,
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Decides what to do with a command that arrives, and registers a new one.
    pub(crate) fn meet(&mut self, order: &Order) -> Met {
        if let Some((answer, _)) = self.answers.get(&order.request) {
            return Met::Answered(answer.clone());
        }
        if self.running.contains(&order.request) {
            return Met::UnderWay;
        }
        match self.begin(order) {
            Ok(()) => Met::Begins,
            Err(fault) => Met::Answered(refusal(order.request.clone(), &fault)),
        }
    }

    /// Returns the answer of a finished command, unless the cache has evicted it.
    pub(crate) fn answer(&self, done: Done) -> Option<Answer> {
        match done {
            Done::Passing(answer) => Some(answer),
            Done::Kept(request) => self.answers.get(&request).map(|(answer, _)| answer.clone()),
        }
    }

    /// Unregisters a command that was refused at once. Not cached: a retry may succeed.
    pub(crate) fn refused(&mut self, order: &Order) {
        self.running.remove(&order.request);
        self.unqueue(&order.environment, &order.request);
    }

    /// Registers a command as in progress.
    fn begin(&mut self, order: &Order) -> Result<(), Fault> {
        let full = |message: String| {
            Err(Fault::new(Code::LimitReached, message, "retry when one has ended").transient())
        };
        if self.running.len() >= RUNNING_MAX {
            return full(format!("{RUNNING_MAX} commands are in progress"));
        }
        match order.command.as_str() {
            "environment.provision" => {
                let queue = self.queued.entry(order.environment.clone()).or_default();
                if queue.len() >= QUEUED_MAX {
                    return full(format!(
                        "{QUEUED_MAX} provisions of {} are queued",
                        order.environment
                    ));
                }
                queue.insert(order.request.clone());
            }
            // A waiting provision that has lost its entry never begins.
            "environment.cancel" => drop(self.queued.remove(&order.environment)),
            _ => {}
        }
        self.running.insert(order.request.clone());
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

    pub(crate) fn keep(&mut self, answer: Answer) -> Done {
        self.running.remove(&answer.request);
        // The daemon is overloaded or shutting down, which is no result of the command.
        if matches!(answer.status, 429 | 503) {
            return Done::Passing(answer);
        }
        let (bytes, request) = (answer.body.to_string().len(), answer.request.clone());
        self.order.push_back(request.clone());
        self.bytes += bytes;
        self.answers.insert(request.clone(), (answer, bytes));
        while self.order.len() > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some((_, bytes)) = self.answers.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
        Done::Kept(request)
    }
}

impl CommandDispatcher {
    pub(crate) fn new(router: Router) -> Self {
        let (tell, done) = mpsc::channel(ANSWERS_MAX);
        Self { router, lanes: Scheduler::default(), known: Arc::default(), done, tell }
    }

    /// Returns the answer of a finished command, unless the cache has evicted it.
    pub(crate) fn answer(&self, done: Done) -> Option<Answer> {
        locked(&self.known).answer(done)
    }

    /// Accepts a command. Returns an answer that is known at once; otherwise one follows in `done`.
    pub(crate) fn take(&self, app: &Arc<App>, order: Order) -> Option<Answer> {
        let request = order.request.clone();
        match locked(&self.known).meet(&order) {
            Met::Answered(answer) => return Some(answer),
            Met::UnderWay => return None,
            Met::Begins => {}
        }
        let ready = check(app, &order).and_then(|()| {
            let call = call(&order)?;
            // Queued here and not in the task, because tasks may start in any order.
            let place = self.lanes.enter(&order.environment, call.access)?;
            Ok((call, place))
        });
        let (call, place) = match ready {
            Ok(ready) => ready,
            Err(fault) => {
                locked(&self.known).refused(&order);
                return Some(refusal(request, &fault));
            }
        };
        let work = Work {
            router: self.router.clone(),
            known: Arc::clone(&self.known),
            app: Arc::clone(app),
            tell: self.tell.clone(),
        };
        tokio::spawn(work.carry_out(order, call, place));
        None
    }
}

/// What the task of one command needs.
struct Work {
    router: Router,
    known: Arc<Mutex<Known>>,
    app: Arc<App>,
    tell: mpsc::Sender<Done>,
}

impl Work {
    async fn carry_out(self, order: Order, call: Call, mut place: Place) {
        place.turn().await;
        let request = order.request.clone();
        let held = match order.command.as_str() {
            "environment.provision" => {
                let queued = locked(&self.known).unqueue(&order.environment, &request);
                queued.then_some(()).ok_or_else(cancelled)
            }
            // Checked only now: an earlier command may grant or end the lease.
            "lease.release" | "exec" => named_lease(&self.app, &order),
            _ => Ok(()),
        };
        // `exec` may run for hours: it gives up its permit, so that no later command waits for it.
        let place = (order.command != "exec").then_some(place);
        let answer = match held {
            Ok(()) => perform(self.router, request, call).await,
            Err(fault) => refusal(request, &fault),
        };
        drop(place);
        let done = locked(&self.known).keep(answer);
        // The receiver is gone if the daemon is shutting down.
        drop(self.tell.send(done).await);
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
fn check(app: &App, order: &Order) -> Result<(), Fault> {
    RequestId::parse(&order.request)
        .map_err(|e| invalid(format!("the request id is invalid: {e}")))?;
    if order.command != "environment.provision" && !order.environment.is_empty() {
        let id = EnvironmentId::parse(&order.environment).map_err(|e| {
            invalid(format!("{:?} is not a valid environment id: {e}", order.environment))
        })?;
        own_path(app, order, &id)?;
        let serves = ["workspace.status", "workspace.diff", "lease.acquire", "exec"];
        if serves.contains(&order.command.as_str()) {
            app.handle.view(|state| match state.environment(&id) {
                None => Err(not_found(&id)),
                Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(&id)),
                Some(_) => Ok(()),
            })?;
        }
    }
    // Only the form of a lease name is checked here; whether the lease exists, at its turn.
    order.body.get("lease").and_then(Value::as_str).map_or(Ok(()), |name| lease_id(name).map(drop))
}

fn lease_id(name: &str) -> Result<LeaseId, Fault> {
    LeaseId::parse(name).map_err(|e| invalid(format!("lease: {e}")))
}

/// Returns an error if the command names a lease that is not in force.
fn named_lease(app: &App, order: &Order) -> Result<(), Fault> {
    match order.body.get("lease").and_then(Value::as_str) {
        Some(lease) => known_lease(app, lease),
        None => Ok(()),
    }
}

/// Refuses a command whose `path` is not the environment's path in the log. The server's path is
/// never used, but a server that is wrong about it must not act on the environment.
fn own_path(app: &App, order: &Order, id: &EnvironmentId) -> Result<(), Fault> {
    let Some(path) = order.body.get("path").and_then(Value::as_str) else { return Ok(()) };
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
    let id = lease_id(name)?;
    let now = crate::api::app::now();
    app.handle.view(|state| {
        let hint = "acquire a lease first";
        match state.lease(&id) {
            Some(lease) if lease.until > now => Ok(()),
            None if !state.has_ended(&id) => {
                Err(Fault::new(Code::LeaseNotFound, format!("there is no lease {id}"), hint))
            }
            _ => Err(Fault::new(Code::LeaseEnded, format!("lease {id} has ended"), hint)),
        }
    })
}

fn call(order: &Order) -> Result<Call, Fault> {
    let id = &order.environment;
    let of = |rest: &str| format!("/v1/environments/{id}{rest}");
    let flag = |name: &str| order.body.get(name).and_then(Value::as_bool).unwrap_or(false);
    let body = || match &order.body {
        Value::Object(fields) => {
            let mut fields = fields.clone();
            fields.remove("path");
            Value::Object(fields)
        }
        _ => json!({}),
    };
    let (access, method, path, body) = match order.command.as_str() {
        "environment.provision" => {
            let mut body = body();
            body["id"] = json!(id);
            let path = format!("/v1/environments?wait={WAIT_SECONDS}");
            (Access::Write, Method::POST, path, body)
        }
        "environment.cancel" => (Access::Overtake, Method::POST, of("/cancel"), json!({})),
        "environment.destroy" => {
            let life = order.body.get("incarnation").and_then(Value::as_u64);
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
            let bytes = order.body.get("bytes").and_then(Value::as_u64).unwrap_or(256 * 1024);
            let head = flag("head");
            let query = format!("/diff?head={head}&max_bytes={}", bytes.min(1 << 20));
            (Access::Read, Method::GET, of(&query), Value::Null)
        }
        "lease.acquire" => (Access::Write, Method::POST, of("/leases"), body()),
        "lease.release" => {
            let lease = order.body.get("lease").and_then(Value::as_str).unwrap_or_default();
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
    if id.is_empty() && order.command != "lease.release" {
        return Err(invalid(format!("command {} names no environment", order.command)));
    }
    Ok(Call { access, method, path, body })
}

async fn perform(router: Router, request: String, call: Call) -> Answer {
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

    fn order(command: &str, environment: &str, body: Value) -> Order {
        let (request, command) = ("r".to_owned(), command.to_owned());
        Order { request, command, environment: environment.to_owned(), body }
    }

    #[test]
    fn commands_map_to_api_requests() {
        let made =
            call(&order("environment.provision", "demo", json!({"repo": "/r", "path": "/x"})));
        let made = made.expect("known");
        assert_eq!((made.body["id"].as_str(), made.body.get("path")), (Some("demo"), None));
        let gone = call(&order("environment.destroy", "demo", json!({"force": true})));
        assert!(gone.expect("known").path.contains("force=true"));
        assert_eq!(
            call(&order("environment.cancel", "demo", Value::Null)).map(|c| c.access).ok(),
            Some(Access::Overtake)
        );
        let unknown = call(&order("environment.dance", "demo", Value::Null));
        assert_eq!(unknown.map(|c| c.path).expect_err("unknown").code, Code::UnsupportedCommand);
        let nameless = call(&order("workspace.status", "", Value::Null));
        assert_eq!(nameless.map(|c| c.path).expect_err("nameless").code, Code::InvalidRequest);
    }

    /// The queue is bounded; a full one still accepts a cancel, and each command begins once.
    #[test]
    fn cancel_drops_all_queued_provisions() {
        let mut known = Known::default();
        let named = |request: String, command: &str| Order {
            request,
            ..order(command, "demo", Value::Null)
        };
        let provision = |n: usize| named(format!("p{n}"), "environment.provision");
        for n in 0..QUEUED_MAX {
            known.begin(&provision(n)).expect("room");
        }
        let full = known.begin(&provision(QUEUED_MAX)).expect_err("full");
        assert_eq!(full.code, Code::LimitReached);
        assert!(
            known.unqueue("demo", "p0") && !known.unqueue("demo", "p0"),
            "a queued command begins once"
        );
        known.begin(&named("c".to_owned(), "environment.cancel")).expect("a cancel is accepted");
        assert!((1..QUEUED_MAX).all(|n| !known.unqueue("demo", &format!("p{n}"))));
        assert!(known.queued.is_empty());
        for n in known.running.len()..RUNNING_MAX {
            known.begin(&named(format!("s{n}"), "workspace.status")).expect("room");
        }
        let full = known.begin(&named("more".to_owned(), "environment.cancel"));
        assert_eq!(full.expect_err("full").code, Code::LimitReached);
    }

    /// Answers to transient refusals are not cached, so the command may come again.
    #[test]
    fn answer_cache_is_bounded() {
        let mut known = Known::default();
        for n in 0..2 * ANSWERS_MAX {
            let body = json!("x".repeat(10));
            drop(known.keep(Answer { request: n.to_string(), status: 200, body }));
        }
        assert_eq!((known.answers.len(), known.order.len()), (ANSWERS_MAX, ANSWERS_MAX));
        let body = json!("x".repeat(ANSWERS_BYTES_MAX));
        drop(known.keep(Answer { request: "large".to_owned(), status: 200, body }));
        assert_eq!(
            (known.answers.len(), known.bytes),
            (0, 0),
            "an answer over the limit is not cached"
        );
        known.running.insert("busy".to_owned());
        let body = json!({ "code": "limit_reached" });
        let passing = known.keep(Answer { request: "busy".to_owned(), status: 429, body });
        assert!(matches!(passing, Done::Passing(_)));
        assert!(
            known.answers.is_empty() && known.running.is_empty(),
            "the command may be repeated"
        );
    }
}
