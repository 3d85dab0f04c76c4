//! The event about what people call an environment.

use serde::{Deserialize, Serialize};

use crate::event::common::Actor;
use crate::id::EnvironmentId;
use crate::label::Label;

/// Kind 102: an environment got a label, another one, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentLabeled {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its label from here on; none takes the label away.
    pub label: Option<Label>,
    /// Who asked for it.
    pub actor: Actor,
}
