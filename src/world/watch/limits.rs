//! Limits on watched directories: read from the system, half of them left to other programs.

use std::path::Path;

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

/// Reports whether a file system reports changes by other machines: network file systems do not.
#[must_use]
pub(super) fn is_local(dir: &Path) -> bool {
    const REMOTE: [i64; 8] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xfe53_4d42, // SMB2
        0xff53_4d42, // CIFS
        0x0102_1997, // 9p
        0x6573_5546, // FUSE
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
    ];
    // If the type is unknown, the attempt to watch decides.
    rustix::fs::statfs(dir).map_or(true, |found| !REMOTE.contains(&found.f_type))
}
