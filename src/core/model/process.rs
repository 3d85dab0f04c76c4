//! The identity of a process.

use serde::{Serialize, Serializer};

/// Identifies one process for ever: a later process may have the pid, but not the start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time as the kernel reports it.
    pub start_time: u64,
}

// In JSON it is a pair, as it was before it had names.
impl Serialize for ProcessId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (self.pid, self.start_time).serialize(s)
    }
}
