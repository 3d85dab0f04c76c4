//! What a sweep asks about lives that the state has forgotten, and about the time since its copy of
//! the state. The engine answers from the index of the log, which this layer does not know.

use std::fmt::Debug;

use crate::core::{Environment, EnvironmentId, Seq};

/// Finds the last lives of environments that the state has forgotten.
pub trait FormerLives: Debug + Send + Sync {
    /// Returns the last forgotten life of an environment.
    fn life(&self, id: &EnvironmentId) -> Option<Environment>;

    /// Returns whether anything happened to an environment after this record, apart from attempts
    /// to fold its rescue. Also if the log cannot be read.
    fn has_changed_since(&self, id: &EnvironmentId, seq: Seq) -> bool;
}
