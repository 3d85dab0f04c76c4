//! Proves that nothing changed on which a status depends, so that it still holds without a process.
//!
//! A proof is a digest of the attributes (inode, mode, owner, size, times) of each tracked file, of
//! each directory in which an untracked file could appear, and of git's own files: index, HEAD,
//! refs, settings, ignore rules. It is made when all of them are older than the computation of the
//! status: no program can set a ctime, so a later change shows. What is not understood gives no
//! proof, and git is asked again. Reads attributes only, apart from the index and the settings.

use std::fs::Metadata;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::core::Environment;
use crate::core::Time;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::status::dependencies;
use crate::world::status::types::Status;

/// A file system stamps changes by a clock that lags behind by up to one tick, in nanoseconds.
const TICK_NANOS: i128 = 20_000_000;
/// Difference of two clocks, in nanoseconds, above which one of them was set.
const SET_NANOS: i128 = 5_000_000;
const GITLINK: u32 = 0o160_000;

/// The moment at which the computation of a status began, by two clocks.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct Began {
    wall: Time,
    monotonic: Instant,
}

impl Began {
    /// Returns this moment.
    pub(in crate::world) fn now() -> Self {
        Self { wall: clock::now(), monotonic: Instant::now() }
    }

    /// Reports whether the wall clock was set since.
    fn is_clock_set(&self) -> bool {
        let wall = i128::from(clock::now().0) - i128::from(self.wall.0);
        let monotonic = i128::try_from(self.monotonic.elapsed().as_nanos()).unwrap_or(i128::MAX);
        (wall - monotonic).abs() > SET_NANOS
    }
}

/// Attributes of everything that one status depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::world) struct Proof {
    /// Paths that the index does not name; those in the worktree are relative to it.
    beside: Vec<PathBuf>,
    digest: [u8; 32],
}

impl Proof {
    /// Makes the proof of a status whose computation began at `began`; `None` when something is not
    /// understood, or changed too late.
    pub(in crate::world) fn of(
        env: &Environment,
        (target, admin): (&Path, &Path),
        git: &Git<'_>,
        status: &Status,
        began: Began,
    ) -> Option<Self> {
        let hash = Hash::named(&env.plan.repository.object_format)?;
        let beside = dependencies::beside_index(env, (target, admin), hash, git, status)?;
        let seen = attributes((target, admin), hash, &beside)?;
        let is_settled = seen.latest + TICK_NANOS < i128::from(began.wall.0);
        (is_settled && !began.is_clock_set()).then_some(Self { beside, digest: seen.digest })
    }

    /// Reports whether all of it is as it was. `false` proves nothing.
    pub(in crate::world) fn holds(
        &self,
        env: &Environment,
        (target, admin): (&Path, &Path),
    ) -> bool {
        let hash = Hash::named(&env.plan.repository.object_format);
        let seen = hash.and_then(|hash| attributes((target, admin), hash, &self.beside));
        seen.is_some_and(|seen| seen.digest == self.digest)
    }
}

/// Digest of many attributes, and the latest change among them.
struct Seen {
    digest: [u8; 32],
    /// Nanoseconds since 1970, by the clock of the file system.
    latest: i128,
}

/// Inspects everything: what is beside the index, then the index, then what it names.
fn attributes((target, admin): (&Path, &Path), hash: Hash, beside: &[PathBuf]) -> Option<Seen> {
    let mut sum = Sum { digest: Sha256::new(), latest: 0, is_failed: false };
    for path in beside {
        sum.add(&target.join(path));
    }
    let index = admin.join("index");
    // Before it is read: an index that is replaced in between shows the next time.
    sum.add(&index);
    sum.add(target);
    let bytes = std::fs::read(&index).ok()?;
    let (mut dirs, mut has_submodule) = (Vec::new(), false);
    read::each(&bytes, hash, |entry| {
        has_submodule |= entry.mode == GITLINK;
        sum.add_dirs(target, &mut dirs, entry.path);
        sum.add(&target.join(paths::from_bytes(entry.path)));
    })?;
    let latest = sum.latest;
    let whole = !sum.is_failed && !has_submodule;
    whole.then(|| Seen { digest: sum.digest.finalize().into(), latest })
}

struct Sum {
    digest: Sha256,
    latest: i128,
    is_failed: bool,
}

impl Sum {
    /// Adds the attributes of one path, or that nothing is there.
    fn add(&mut self, path: &Path) {
        match path.symlink_metadata() {
            Ok(found) => self.add_found(&found),
            Err(e) if matches!(e.kind(), NotFound | NotADirectory) => self.digest.update([0]),
            Err(_) => self.is_failed = true,
        }
    }

    fn add_found(&mut self, found: &Metadata) {
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        self.latest = self.latest.max(changed);
        let words = [
            found.dev(),
            found.ino(),
            u64::from(found.mode()),
            u64::from(found.uid()) << 32 | u64::from(found.gid()),
            found.size(),
            found.mtime().cast_unsigned(),
            found.mtime_nsec().cast_unsigned(),
            found.ctime().cast_unsigned(),
            found.ctime_nsec().cast_unsigned(),
        ];
        self.digest.update([1]);
        for word in words {
            self.digest.update(word.to_le_bytes());
        }
    }

    /// Adds the directories of a path that the path before it does not share. The index is sorted,
    /// so each directory is added once.
    fn add_dirs(&mut self, target: &Path, dirs: &mut Vec<u8>, path: &[u8]) {
        let end = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let dir = &path[..end];
        if dir == dirs.as_slice() {
            return;
        }
        let shared = dirs.iter().zip(dir).take_while(|(a, b)| a == b).count();
        for (at, _) in dir.iter().enumerate().skip(shared).filter(|(_, byte)| **byte == b'/') {
            self.add(&target.join(paths::from_bytes(&dir[..at])));
        }
        dirs.clear();
        dirs.extend_from_slice(dir);
    }
}
