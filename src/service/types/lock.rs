//! Wire types of git's lock files.

use serde::{Deserialize, Serialize};

use crate::world::ExistingLock;

/// A lock file of git's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LockView {
    /// Where it is.
    pub path: String,
    /// How long it has been there, in seconds.
    pub age_seconds: u64,
    /// The process that holds it; null when none is known.
    pub pid: Option<u32>,
    /// The name of that process.
    pub process: Option<String>,
    /// What to do about it.
    pub hint: String,
}

impl LockView {
    pub(crate) fn of(existing: &ExistingLock) -> Self {
        let (pid, process) = existing.holder.clone().unzip();
        Self {
            path: existing.path.display().to_string(),
            age_seconds: existing.age.as_secs(),
            pid,
            process,
            hint: existing.hint(),
        }
    }
}
