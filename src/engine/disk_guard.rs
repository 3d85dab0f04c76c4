//! Refuses new work while there is still space to record the end of the old.
//!
//! A log that cannot be written ends the daemon. So before the disk is full, requests that would
//! use more of it are refused with `disk_full`, and the daemon continues to serve reads, removals
//! and running effects. Running effects can still fill the disk to the last byte; for that case
//! there is a ballast file, which is removed to make room for the last records.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::{Code, Fault};

/// Free bytes below which new work is refused.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// How long one measurement of free space is reused.
const REUSED_FOR: Duration = Duration::from_millis(500);

/// Size of the ballast file, enough for thousands of records.
const BALLAST_BYTES: u64 = 8 << 20;
/// Free bytes below which the ballast is removed.
const BALLAST_AT: u64 = 2 << 20;
/// Free bytes above which a ballast is set aside.
const AMPLE: u64 = 64 << 20;

/// Removes the ballast when almost no space is left. Called before a log is opened and before each
/// commit. Returns the free bytes that were measured before the removal.
pub fn make_room(root: &Path) -> u64 {
    let free = free_below(root);
    if free < BALLAST_AT && std::fs::remove_file(ballast(root)).is_ok() {
        tracing::warn!("the disk is full; the reserved space is released");
    }
    free
}

fn ballast(root: &Path) -> PathBuf {
    root.join("ballast")
}

/// Sets the ballast aside if there is ample space and none exists. The daemon also runs without it.
fn set_aside(root: &Path) {
    let path = ballast(root);
    if path.exists() || free_below(root) < AMPLE {
        return;
    }
    // Under another name until its blocks are allocated: a sparse file would free nothing.
    let fresh = path.with_extension("new");
    let made = std::fs::File::create(&fresh).and_then(|file| {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, BALLAST_BYTES)?;
        std::fs::rename(&fresh, &path)
    });
    if let Err(e) = made {
        drop(std::fs::remove_file(&fresh));
        tracing::debug!(error = %e, "cannot reserve space");
    }
}

fn free_below(root: &Path) -> u64 {
    // A failed query counts as ample space; a later write reports the real error.
    rustix::fs::statvfs(root).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

/// Measures the free space of the data directory's file system.
#[derive(Debug)]
pub(super) struct DiskGuard {
    path: PathBuf,
    seen: Option<(Instant, u64)>,
    low: u64,
}

impl DiskGuard {
    pub(super) fn new(path: &Path) -> Self {
        set_aside(path);
        Self { path: path.to_owned(), seen: None, low: 0 }
    }

    /// Sets the free bytes below which trash entries are removed early.
    pub(super) fn set_low(&mut self, bytes: u64) {
        self.low = bytes;
    }

    /// Returns whether trash entries must be removed early.
    pub(super) fn is_low(&mut self) -> bool {
        self.free() < self.low
    }

    /// Frees the ballast if a commit might not find the little space that it needs.
    pub(super) fn before_commit(&mut self) {
        let free = make_room(&self.path);
        self.seen = Some((Instant::now(), free));
    }

    /// Refuses work that uses space when almost none is free.
    pub(super) fn check_space(&mut self) -> Result<(), Fault> {
        if self.free() >= FREE_BYTES_MIN {
            return Ok(());
        }
        let free = self.free() >> 20;
        let message =
            format!("only {free} MiB are free on the file system of {}", self.path.display());
        let hint = "free some space; environments can still be removed with `groundskeeper rm`";
        Err(Fault::new(Code::DiskFull, message, hint))
    }

    fn free(&mut self) -> u64 {
        if let Some((at, bytes)) = self.seen
            && at.elapsed() < REUSED_FOR
        {
            return bytes;
        }
        let bytes = free_below(&self.path);
        self.seen = Some((Instant::now(), bytes));
        bytes
    }
}
