//! Refusing new work while there is still room to record the end of the old.
//!
//! A log that cannot be written ends the daemon. So before the disk is quite full, requests that
//! would use more of it are refused with `disk_full`, and the daemon goes on serving reads,
//! removals and the effects under way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::{Code, Command, Fault};

/// Free bytes below which new work is refused.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// How long one look at the file system is believed.
const BELIEVED: Duration = Duration::from_millis(500);

/// Watches the free space of the data directory's file system.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    seen: Option<(Instant, u64)>,
}

impl Space {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
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
        // A file system that cannot be asked is found out by whoever writes to it.
        let bytes = rustix::fs::statvfs(&self.path)
            .map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
        self.seen = Some((Instant::now(), bytes));
        bytes
    }
}
