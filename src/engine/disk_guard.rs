//! Refuses new work while there is still room to record the end of the old.
//!
//! A log that cannot be written ends the daemon. So before the disk is full, requests that would
//! use more of it are refused with `disk_full`, and the daemon continues to serve reads, removals
//! and running effects. Running effects can still fill the disk to the last byte; for that case
//! there is a reserve ([`reserve`]), which is given back to make room for the last records.

use std::time::{Duration, Instant};

use crate::core::{Code, Fault};
use crate::engine::reserve::{self, Space};
use crate::world::fs::data_dir::Layout;

/// Interval of attempts to set the reserve aside again.
const RESERVED_EVERY: Duration = Duration::from_secs(60);

/// Measures the free space of the data directory's file system. Each question is a measurement of
/// its own: it costs a microsecond, and a disk can fill up within milliseconds.
#[derive(Debug)]
pub(super) struct DiskGuard {
    layout: Layout,
    reserved: Instant,
    low: u64,
}

impl DiskGuard {
    pub(super) fn new(layout: &Layout) -> Self {
        reserve::set_aside(layout);
        Self { layout: layout.clone(), reserved: Instant::now(), low: 0 }
    }

    /// Sets the free bytes below which trash entries are removed early.
    pub(super) fn set_low(&mut self, bytes: u64) {
        self.low = bytes;
    }

    /// Returns whether trash entries must be removed early.
    pub(super) fn is_low(&self) -> bool {
        self.space().bytes.free < self.low
    }

    /// Gives the reserve back if a commit might not find the little room that it needs, and makes
    /// it whole again once there is plenty.
    pub(super) fn before_commit(&mut self) {
        reserve::make_room(&self.layout);
        if self.reserved.elapsed() >= RESERVED_EVERY {
            self.reserved = Instant::now();
            reserve::set_aside(&self.layout);
        }
    }

    /// Returns whether work that writes up to this many bytes leaves enough free.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let space = self.space();
        // On a small disk no log is as long as the longest.
        let bytes = bytes.min(space.bytes.total / 8);
        !space.bytes.is_short() && !space.inodes.is_short() && space.bytes.free >= 2 * bytes
    }

    /// Refuses work that uses space when almost none is free.
    pub(super) fn check_space(&self) -> Result<(), Fault> {
        let space = self.space();
        let left = if space.bytes.is_short() {
            format!("{} MiB", space.bytes.free >> 20)
        } else if space.inodes.is_short() {
            format!("{} inodes", space.inodes.free)
        } else {
            return Ok(());
        };
        let root = self.layout.root().display();
        let message = format!("only {left} are free on the file system of {root}");
        let hint = "free some space; environments can still be removed with `groundskeeper rm ID`";
        Err(Fault::new(Code::DiskFull, message, hint))
    }

    fn space(&self) -> Space {
        Space::of(self.layout.root())
    }
}
