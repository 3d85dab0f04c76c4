//! The result type of a decision, and refusals that several areas share.

use crate::event::Event;
use crate::fault::{Code, Fault};
use crate::id::EnvironmentId;
use crate::model::environment::Environment;

/// The events a command leads to, or why it is refused.
pub type Decision = Result<Vec<Event>, Fault>;

pub(super) fn not_ready(env: &Environment) -> Fault {
    let message = format!("environment {} is {}", env.id, env.phase.as_str());
    let hint = format!("retry when it is ready; `groundskeeper show {}` shows its state", env.id);
    Fault::new(Code::EnvironmentBusy, message, hint)
}

/// Returns the fault for an id that was never used.
#[must_use]
pub fn not_found(id: &EnvironmentId) -> Fault {
    let message = format!("there is no environment {id}");
    Fault::new(Code::EnvironmentNotFound, message, "run `groundskeeper ls` to list environments")
}

/// Returns the fault for an incarnation that ended.
#[must_use]
pub fn destroyed(id: &EnvironmentId) -> Fault {
    let message = format!("environment {id} is destroyed");
    let hint = format!(
        "run `groundskeeper restore {id}` to restore it, or `groundskeeper new {id}` to create it"
    );
    Fault::new(Code::EnvironmentDestroyed, message, hint)
}

pub(super) fn limit(what: &str, max: usize) -> Fault {
    let message = format!("the limit of {max} {what} is reached");
    Fault::new(Code::LimitReached, message, "remove or release one of them, or wait until one ends")
}
