//! The result type of a decision, and refusals that several areas share.

use crate::event::Event;
use crate::fault::{Code, Fault};
use crate::id::EnvironmentId;
use crate::model::environment::Environment;

/// The events a command leads to, or why it is refused.
pub type Decision = Result<Vec<Event>, Fault>;

pub(super) fn not_ready(env: &Environment) -> Fault {
    let message = format!("environment {} is {}", env.id, env.phase.as_str());
    Fault::new(Code::EnvironmentBusy, message, "wait until it is ready")
}

/// Returns the fault for an id that was never used.
#[must_use]
pub fn not_found(id: &EnvironmentId) -> Fault {
    let message = format!("there is no environment {id}");
    Fault::new(Code::EnvironmentNotFound, message, "`groundskeeper ls` lists those that exist")
}

/// Returns the fault for an incarnation that ended.
#[must_use]
pub fn destroyed(id: &EnvironmentId) -> Fault {
    let message = format!("environment {id} is destroyed");
    let hint = format!(
        "`groundskeeper restore {id}` brings it back, `groundskeeper new {id}` makes a new one"
    );
    Fault::new(Code::EnvironmentDestroyed, message, hint)
}

pub(super) fn limit(what: &str, max: usize) -> Fault {
    Fault::new(Code::LimitReached, format!("{max} {what} are allowed"), "remove some first")
}
