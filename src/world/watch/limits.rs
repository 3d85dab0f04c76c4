//! Limits on watched directories: read from the system, half of them left to other programs.

/// Assumed limit where the system does not report one.
const UNKNOWN: usize = 8_192;
/// Bound on the directories of one environment: with more it is no ordinary checkout.
const TREE_MAX: usize = 32_768;

/// Bounds on watched directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bound on the directories of one environment.
    pub tree: usize,
    /// Bound on the directories of all environments together.
    pub host: usize,
    /// Limit of the system for this user.
    pub system: usize,
}

impl Budget {
    /// Creates the budget: half of the system's limit for the host.
    #[must_use]
    pub fn of_system() -> Self {
        let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
        let system = text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(UNKNOWN);
        Self { tree: TREE_MAX, host: system / 2, system }
    }
}
