//! How many directories may be watched: read from the system, half of it left to others.

use std::path::Path;

/// What is assumed where the system does not tell.
const UNKNOWN: usize = 8_192;
/// Most directories of one environment: more is no checkout but a mistake.
const TREE_MAX: usize = 32_768;

/// Bounds on watched directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of one environment.
    pub tree: usize,
    /// Of all together.
    pub host: usize,
    /// What the system allows this user.
    pub system: usize,
}

impl Budget {
    /// Half of what the system allows.
    #[must_use]
    pub fn of_system() -> Self {
        let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
        let system = text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(UNKNOWN);
        Self { tree: TREE_MAX, host: system / 2, system }
    }
}

/// Whether a file system tells of changes that others make to it: those across a network do not.
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
    // Where it is not known, the watch itself will tell.
    rustix::fs::statfs(dir).map_or(true, |found| !REMOTE.contains(&found.f_type))
}
