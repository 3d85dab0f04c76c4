//! Commands of a server: checked, queued per environment, carried out by use cases, and answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::core::{Code, EnvironmentId, Fault, LeaseId, Phase, RequestId, destroyed, not_found};
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
        let ready = check(app, &command).and_then(|()| {
            let call = Call::of(&command)?;
            // Queued here and not in the task, because tasks may start in any order.
            let permit = self.scheduler.enqueue(&command.environment, call.access())?;
            Ok((call, permit))
        });
        let (call, permit) = match ready {
            Ok(ready) => ready,
            Err(fault) => {
                locked(&self.registry).refused(&command);
                return Some(refusal(request, &fault));
            }
        };
        locked(&self.registry).accepted(&command);
        let task = CommandTask {
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
    registry: Arc<Mutex<CommandRegistry>>,
    app: Arc<App>,
    answers: mpsc::Sender<ReadyAnswer>,
}

impl CommandTask {
    async fn carry_out(self, command: HostCommand, call: Call, mut permit: Permit) {
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
            Ok(()) => call.answer(&self.app, request).await,
            Err(fault) => refusal(request, &fault),
        };
        drop(permit);
        let done = locked(&self.registry).finish(answer);
        // The receiver is gone if the daemon is shutting down.
        drop(self.answers.send(done).await);
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
    let (id, now) = (parsed_lease(name)?, now());
    app.handle.view(|state| state.lease_in_force(&id, now).map(|_| ()))
}
