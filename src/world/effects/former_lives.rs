//! What a sweep asks about lives that the state has forgotten. The engine answers from the index of
//! the log, which this layer does not know.

use std::fmt::Debug;

use crate::core::{Environment, EnvironmentId};

/// Finds the last lives of environments that the state has forgotten.
pub trait FormerLives: Debug + Send + Sync {
    /// Returns the last forgotten life of an environment.
    fn life(&self, id: &EnvironmentId) -> Option<Environment>;
}
