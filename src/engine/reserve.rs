//! Room that is set aside while there is plenty, and given back when almost none is left: bytes in
//! the ballast file, and inodes in spare files. Without it a full disk could not be emptied, since
//! a removal needs records, locks and a folder in the trash first.
//!
//! All sizes follow the size of the disk, so that a small one is not taken up by the reserve.

use std::fs::File;
use std::path::Path;

use groundskeeper_system::own_file;

use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Most bytes of the ballast, enough for thousands of records.
const BALLAST_BYTES: u64 = 8 << 20;
/// Most spare files. A removal makes some dozens: locks, a git directory, refs.
const SPARE_FILES: u64 = 64;
/// Divisors of the size of a disk, for what would otherwise be too much of a small one.
const BALLAST_PART: u64 = 16;
const AMPLE_PART: u64 = 4;
const SHORT_PART: u64 = 8;
const ALMOST_NONE_PART: u64 = 32;

/// Free room of the data directory's file system, in bytes or in inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    pub(super) total: u64,
    /// Bound on what is set aside, and the free room below which new work is refused, below which
    /// the reserve is given back, and above which one is set aside.
    sizes: [u64; 4],
}

impl Room {
    fn new(free: u64, total: u64, sizes: [u64; 4]) -> Self {
        Self { free, total, sizes }
    }

    fn part(self, size: usize, divisor: u64) -> u64 {
        self.sizes[size].min(self.total / divisor)
    }

    /// Returns how much is set aside.
    fn reserve(self) -> u64 {
        self.part(0, BALLAST_PART)
    }

    /// Returns whether new work must be refused.
    pub(super) fn is_short(self) -> bool {
        self.free < self.part(1, SHORT_PART)
    }

    fn is_almost_gone(self) -> bool {
        self.free < self.part(2, ALMOST_NONE_PART)
    }

    fn is_ample(self) -> bool {
        self.free >= self.part(3, AMPLE_PART)
    }
}

/// Free room of a file system, of both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) bytes: Room,
    pub(super) inodes: Room,
}

impl Space {
    /// Measures the file system of a directory. What cannot be measured counts as ample; a later
    /// write reports the real error.
    pub(super) fn of(root: &Path) -> Self {
        let unknown = (u64::MAX, u64::MAX);
        let (bytes, inodes) = rustix::fs::statvfs(root).map_or((unknown, unknown), |s| {
            let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
            // Without a number of inodes they are made as they are needed.
            let inodes = if s.f_files == 0 { unknown } else { (s.f_favail, s.f_files) };
            ((bytes(s.f_bavail), bytes(s.f_blocks)), inodes)
        });
        Self {
            bytes: Room::new(bytes.0, bytes.1, [BALLAST_BYTES, 16 << 20, 2 << 20, 64 << 20]),
            inodes: Room::new(inodes.0, inodes.1, [SPARE_FILES, 256, 32, 1_024]),
        }
    }
}

/// Gives the reserve back where almost nothing is left. Called before a log is opened and before
/// each commit.
pub fn make_room(layout: &Layout) {
    let space = Space::of(layout.root());
    if space.bytes.is_almost_gone() && std::fs::remove_file(layout.ballast()).is_ok() {
        tracing::warn!("the disk is full; the reserved space is released");
    }
    if space.inodes.is_almost_gone() && remove_spare_files(layout) > 0 {
        tracing::warn!("the disk has no inodes left; the reserved files are removed");
    }
}

fn remove_spare_files(layout: &Layout) -> u64 {
    let folder = layout.spare();
    let removed = |n: &u64| std::fs::remove_file(folder.join(n.to_string())).is_ok();
    (0..SPARE_FILES).filter(removed).count() as u64
}

/// Sets a reserve aside where there is plenty and none exists. The daemon also runs without one.
pub(super) fn set_aside(layout: &Layout) {
    let space = Space::of(layout.root());
    if space.bytes.is_ample()
        && matches!(paths::exists(&layout.ballast()), Ok(false))
        && let Err(e) = make_ballast(layout, space.bytes.reserve())
    {
        tracing::debug!(error = %e, "cannot reserve space");
    }
    if space.inodes.is_ample()
        && let Err(e) = make_spare_files(layout, space.inodes.reserve())
    {
        tracing::debug!(error = %e, "cannot reserve inodes");
    }
}

fn make_ballast(layout: &Layout, bytes: u64) -> std::io::Result<()> {
    let path = layout.ballast();
    // Under another name until its blocks are allocated: a sparse file would free nothing.
    let fresh = path.with_extension("new");
    paths::remove_file_if_any(&fresh)?;
    let made = File::options().write(true).create_new(true).open(&fresh).and_then(|file| {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        std::fs::rename(&fresh, &path)
    });
    if made.is_err() {
        drop(std::fs::remove_file(&fresh));
    }
    made
}

fn make_spare_files(layout: &Layout, count: u64) -> std::io::Result<()> {
    let folder = layout.spare();
    own_file::make_folder(&folder)?;
    for n in 0..count {
        match File::options().write(true).create_new(true).open(folder.join(n.to_string())) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_follows_size_of_disk() {
        let room = |free, total| Room::new(free, total, [8 << 20, 16 << 20, 2 << 20, 64 << 20]);
        let large = room(1 << 40, 2 << 40);
        assert_eq!((large.reserve(), large.is_short(), large.is_ample()), (8 << 20, false, true));
        let small = room(20 << 20, 30 << 20);
        assert_eq!((small.reserve(), small.is_short(), small.is_ample()), (30 << 16, false, true));
        assert!(room(3 << 20, 30 << 20).is_short());
        assert!(
            !room(3 << 20, 30 << 20).is_almost_gone() && room(900 << 10, 30 << 20).is_almost_gone()
        );
        assert!(room(15 << 20, 1 << 40).is_short());
        assert!(room(0, 0).is_ample() && !room(0, 0).is_short(), "no size is known");
    }

    #[test]
    fn reserve_is_made_whole_again() {
        let root = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(root.path().canonicalize().expect("real"));
        for _ in 0..2 {
            set_aside(&layout);
            let spare = std::fs::read_dir(layout.spare()).expect("a folder").count() as u64;
            assert_eq!(spare, SPARE_FILES);
            assert_eq!(remove_spare_files(&layout), SPARE_FILES);
        }
        assert!(layout.ballast().is_file());
    }
}
