//! Refusing new work while there is still room to record the end of the old.
//!
//! A log that cannot be written ends the daemon. So before the disk is quite full, requests that
//! would use more of it are refused with `disk_full`, and the daemon goes on serving reads,
//! removals and the effects under way. What is under way may still fill the disk to the last byte;
//! for that there is a ballast file, which is let go of to make room for the records of the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::{Code, Command, Fault};

/// Free bytes below which new work is refused.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// How long one look at the file system is believed.
const BELIEVED: Duration = Duration::from_millis(500);

/// Bytes that are set aside, enough for thousands of records.
const BALLAST_BYTES: u64 = 8 << 20;
/// Free bytes below which the ballast is let go of.
const BALLAST_AT: u64 = 2 << 20;
/// Free bytes above which there is enough to set some aside.
const AMPLE: u64 = 64 << 20;

/// Lets go of the ballast when there is hardly any space left. Called before a log is opened and
/// before each commit. Returns the free bytes that were found.
pub fn make_room(root: &Path) -> u64 {
    let free = free_below(root);
    if free < BALLAST_AT && std::fs::remove_file(ballast(root)).is_ok() {
        tracing::warn!("the disk is full; the space that was set aside is used now");
    }
    free
}

fn ballast(root: &Path) -> PathBuf {
    root.join("ballast")
}

/// Sets space aside if there is enough and none is yet. That it fails is no reason not to run.
fn set_aside(root: &Path) {
    let path = ballast(root);
    if path.exists() || free_below(root) < AMPLE {
        return;
    }
    let fresh = path.with_extension("new");
    let made = std::fs::File::create(&fresh).and_then(|file| {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, BALLAST_BYTES)?;
        std::fs::rename(&fresh, &path)
    });
    if let Err(e) = made {
        drop(std::fs::remove_file(&fresh));
        tracing::debug!(error = %e, "no space is set aside");
    }
}

fn free_below(root: &Path) -> u64 {
    // A file system that cannot be asked is found out by whoever writes to it.
    rustix::fs::statvfs(root).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

/// Watches the free space of the data directory's file system.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    seen: Option<(Instant, u64)>,
    low: u64,
}

impl Space {
    pub(super) fn new(path: &Path) -> Self {
        set_aside(path);
        Self { path: path.to_owned(), seen: None, low: 0 }
    }

    /// Free bytes below which what is kept in the trash has to make room.
    pub(super) fn set_low(&mut self, bytes: u64) {
        self.low = bytes;
    }

    /// Whether what is kept in the trash has to make room.
    pub(super) fn is_low(&mut self) -> bool {
        self.free() < self.low
    }

    /// Makes sure that a commit finds the little space that it needs.
    pub(super) fn before_commit(&mut self) {
        let free = make_room(&self.path);
        self.seen = Some((Instant::now(), free));
    }

    /// Refuses a command that would use space when there is hardly any.
    pub(super) fn allows(&mut self, command: &Command) -> Result<(), Fault> {
        if !matches!(command, Command::Provision { .. }) || self.free() >= FREE_BYTES_MIN {
            return Ok(());
        }
        let free = self.free() >> 20;
        let message = format!("only {free} MiB are free below {}", self.path.display());
        let hint = "free some space; environments can still be removed with `groundskeeper rm`";
        Err(Fault::new(Code::DiskFull, message, hint))
    }

    fn free(&mut self) -> u64 {
        if let Some((at, bytes)) = self.seen
            && at.elapsed() < BELIEVED
        {
            return bytes;
        }
        let bytes = free_below(&self.path);
        self.seen = Some((Instant::now(), bytes));
        bytes
    }
}
