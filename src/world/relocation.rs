//! The location of a data directory: which log is here, where it was before, which repositories its
//! worktrees belong to, and whether any of them has moved.
//!
//! Device and inode numbers prove nothing across a move. The proof is the log's id, the markers in
//! the repositories, and the pointers between a worktree and its administrative directory. Nothing
//! here changes the state: findings are returned and become facts in the log. Pointers are repaired
//! only where the marker proves that the worktree is ours.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::portable;

use crate::core::{Environment, Fault, HostPath, Life, Seq, State};
use crate::world::effects::context::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::index::format::Hash;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::git::submodules;

/// Most entries beside a repository's old path that are searched for the moved repository.
const NEIGHBOURS_MAX: usize = 2_000;
/// A longer identity file is not one that was written here.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// The content of the identity file: which log the data directory holds, and where it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Id of the log, in hex.
    pub log: String,
    /// The path of the original, if this data directory is a copy; none once
    /// the log records the copy.
    pub copy_of: Option<PathBuf>,
    /// The path of the data directory when a daemon last served it.
    pub path: PathBuf,
}

impl Identity {
    /// Reads the identity file; none if it is missing or cannot be parsed.
    #[must_use]
    pub fn read(layout: &Layout) -> Option<Self> {
        let read = own_file::read(&layout.identity(), IDENTITY_BYTES_MAX, Links::Refused);
        let text = read.ok()??;
        let mut fields = text.strip_suffix(b"\n")?.split(|b| *b == 0);
        let log = String::from_utf8(fields.next()?.to_vec()).ok()?;
        let path = paths::from_bytes(fields.next()?).to_owned();
        let copy_of = fields.next().filter(|path| !path.is_empty());
        let copy_of = copy_of.map(|path| paths::from_bytes(path).to_owned());
        Some(Self { log, copy_of, path })
    }

    /// Writes the identity file atomically: a reader finds the old content or the new one.
    ///
    /// # Errors
    /// I/O errors, as faults that name the file.
    pub fn write(&self, layout: &Layout) -> Result<(), Fault> {
        let file = layout.identity();
        let mut text = self.log.clone().into_bytes();
        for path in [Some(&self.path), self.copy_of.as_ref()] {
            text.push(0);
            text.extend(path.map(|path| paths::to_host(path).0).unwrap_or_default());
        }
        text.push(b'\n');
        let written = own_file::replace(&file, &text);
        let written = written.and_then(|()| portable::sync_dir(layout.root()));
        written.map_err(paths::failed("write", &file))
    }
}

/// The highest sequence number that the data directory is known to have had, stored outside the
/// log: a log that ends below it was put back from a backup. Written after each commit and not
/// synced: it may lag behind, in which case a restored backup goes unnoticed.
#[derive(Debug)]
pub struct HighWater {
    file: File,
    log: String,
}

impl HighWater {
    /// Opens the high-water file for the log with this id, and returns the stored number; none if
    /// the file holds none for this log.
    ///
    /// # Errors
    /// I/O errors, as faults that name the file.
    pub fn open(layout: &Layout, log: &str) -> Result<(Self, Option<Seq>), Fault> {
        let path = layout.high_water();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let open = own_file::open(&path, &options, Links::Refused);
        let file = open.map_err(paths::failed("open", &path))?;
        let mut text = [0; 64];
        let count = file.read_at(&mut text, 0).map_err(paths::failed("read", &path))?;
        let text = String::from_utf8_lossy(&text[..count]).into_owned();
        let recorded = text.trim_end().rsplit_once(' ').filter(|(_, of)| *of == log);
        let had = recorded.and_then(|(seq, _)| seq.trim_start().parse().ok()).map(Seq);
        Ok((Self { file, log: log.to_owned() }, had))
    }

    /// Stores the sequence number of a record that is in the log. Errors are ignored: a number
    /// that is too low is harmless.
    pub fn note(&self, seq: Seq) {
        // One write of fixed length: a reader sees either the previous number or this one.
        let text = format!("{:>20} {}\n", seq.0, self.log);
        drop(self.file.write_all_at(text.as_bytes(), 0));
    }
}

/// Returns the data directory that a state was written in, derived from the paths of its
/// environments and archives; none if it has none of either.
#[must_use]
pub fn root_of(state: &State) -> Option<PathBuf> {
    let live = state.environments().filter(|e| !e.adopted).map(|e| (&e.id, &e.plan.path));
    let all = live.chain(state.archives().map(|r| (&r.id, &r.plan.path)));
    let mut roots = all.filter_map(|(id, path)| {
        let place = paths::borrowed(path).parent()?;
        let root = place.parent()?;
        let named = place.file_name() == Some(id.as_str().as_ref());
        (named && root.file_name() == Some("worktrees".as_ref()))
            .then(|| root.parent().map(Path::to_owned))?
    });
    roots.next()
}

/// Returns the former data directory, if a live worktree is no longer at its recorded path but at
/// the corresponding path below `root`.
#[must_use]
pub fn left_root(state: &State, root: &Path) -> Option<PathBuf> {
    let live = state.environments().filter(|e| !e.adopted && e.is_live());
    let mut found = live.filter_map(|env| {
        let path = paths::borrowed(&env.plan.path);
        let before = path.parent()?.parent()?.parent()?;
        let here = root.join(path.strip_prefix(before).ok()?);
        // Through a symlink left at the old path the worktree still seems to be there; its
        // real path is another one.
        let is_there = path.canonicalize().is_ok_and(|real| real == path);
        let moved = before != root && !is_there && here.exists();
        moved.then(|| before.to_owned())
    });
    found.next()
}

/// An incarnation whose repository may have moved.
struct LostRepository<'a> {
    life: Life<'a>,
    /// Where its files are: its worktree, or its trash entry.
    files: Option<PathBuf>,
}

impl World {
    /// Returns the new path of a repository that is no longer at its recorded path (or only through
    /// a symlink), proven by the markers in it; none if it has not moved, or no candidate can be
    /// proven. `hint` is a repository that the user named.
    #[must_use]
    pub fn moved_repository(
        &self,
        state: &State,
        common: &HostPath,
        hint: Option<&HostPath>,
    ) -> Option<HostPath> {
        let place = paths::from_host(common);
        let real = place.canonicalize().ok();
        if real.as_ref() == Some(&place) {
            return None;
        }
        let lost = lost_in(state, common);
        let is_it = |candidate: &Path| {
            // There may be many lives, and hardly any neighbour is a repository of ours.
            let is_used = ["worktrees", "groundskeeper"].map(|name| candidate.join(name).is_dir());
            let candidate = paths::to_host(candidate);
            is_used.contains(&true) && lost.iter().any(|lost| self.knows(&candidate, lost.life))
        };
        let named = hint.map(paths::from_host);
        let pointed = lost.iter().filter_map(|lost| pointed_to(lost.files.as_deref()?));
        let mut candidates = real.into_iter().chain(named).chain(pointed).chain(near(&place));
        let found = candidates.find(|candidate| is_it(candidate))?.canonicalize().ok()?;
        Some(paths::to_host(&found)).filter(|found| found != common)
    }

    /// Returns whether a repository holds the administrative directory of an incarnation,
    /// as proven by its marker.
    fn knows(&self, common: &HostPath, life: Life<'_>) -> bool {
        let admin = Admin::at(self.log_id(), common, life);
        let mut places = [&admin.published, &admin.removed].into_iter();
        places.any(|dir| {
            let marker = Marker::read(dir).ok().flatten();
            marker.is_some_and(|marker| marker.is_of(self.log_id(), life))
        })
    }

    /// Makes a worktree and its administrative directory point to each other again after one of
    /// them moved. Idempotent; changes nothing unless the marker proves that the worktree is ours.
    ///
    /// # Errors
    /// I/O errors, as faults.
    pub fn repair(&self, env: &Environment) -> Result<(), Fault> {
        let (target, admin) = (paths::from_host(&env.plan.path), Admin::of(self.log_id(), env));
        let marker = Marker::read(&admin.published)?;
        let ours = marker.is_some_and(|marker| marker.is_of(self.log_id(), env.life()));
        let Some(found) = marker::identity(&target)?.filter(|_| ours && !env.adopted) else {
            return Ok(());
        };
        let recorded = env.worktree.as_ref().map_or(0, |w| w.inode);
        if !ownership::is_worktree_of(&target, self.log_id(), env.life(), found.inode, recorded) {
            return Ok(());
        }
        let pointer = target.join(".git");
        let mut text = b"gitdir: ".to_vec();
        text.extend(crate::world::git::registration::with_newline(&admin.published));
        if pointer.exists() {
            replace(&pointer, &text)?;
        }
        let back = admin.published.join("gitdir");
        if back.exists() {
            replace(&back, &crate::world::git::registration::with_newline(&pointer))?;
        }
        let hash = Hash::named(&env.plan.repository.object_format);
        Ok(submodules::reconnect(&target, &admin.published, hash)?)
    }
}

/// Returns the incarnations that have a marker in a repository: of one that has left only a rescue,
/// there is none.
fn lost_in<'a>(state: &'a State, common: &HostPath) -> Vec<LostRepository<'a>> {
    let live = state.environments().filter(|e| e.is_live() && !e.adopted);
    let live = live.filter(|e| e.plan.repository.common_dir == *common);
    let live = live
        .map(|e| LostRepository { life: e.life(), files: Some(paths::from_host(&e.plan.path)) });
    let over = state.archives().filter(|r| r.trash.is_some() || r.restoring.is_some());
    let over = over
        .filter(|r| r.plan.repository.common_dir == *common)
        .map(|r| LostRepository { life: r.life(), files: r.trash.as_ref().map(paths::from_host) });
    live.chain(over).collect()
}

/// Returns the repository that a worktree points to; `git worktree repair` updates that pointer.
fn pointed_to(files: &Path) -> Option<PathBuf> {
    let text = std::fs::read(files.join(".git")).ok()?;
    let admin = paths::from_bytes(text.strip_prefix(b"gitdir: ")?.trim_ascii_end()).to_owned();
    admin.parent()?.parent().map(Path::to_owned)
}

/// Lists the directories beside the old path of a repository: a rename usually leaves it there.
fn near(common: &Path) -> impl Iterator<Item = PathBuf> {
    let main = common.file_name() == Some(".git".as_ref());
    let repository = if main { common.parent() } else { Some(common) };
    let folder = repository.and_then(Path::parent).map(Path::to_owned);
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten().take(NEIGHBOURS_MAX);
    entries.flat_map(|entry| [entry.path().join(".git"), entry.path()])
}

/// Replaces a file atomically, unless it has this content already.
fn replace(path: &Path, text: &[u8]) -> Result<(), Fault> {
    if std::fs::read(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".gk-new");
    let fresh = PathBuf::from(fresh);
    std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
    paths::rename(&fresh, path).map_err(paths::failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_and_high_water_round_trip() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path().to_owned());
        assert_eq!(Identity::read(&layout), None);
        let path = paths::from_bytes(b"/odd \n\xff path").to_owned();
        for copy_of in [None, Some(PathBuf::from("/original"))] {
            let identity = Identity { log: "ab".repeat(16), copy_of, path: path.clone() };
            identity.write(&layout).expect("written");
            assert_eq!(Identity::read(&layout), Some(identity));
        }
        let log = "cd".repeat(16);
        let (mark, had) = HighWater::open(&layout, &log).expect("opened");
        assert_eq!(had, None);
        for seq in [Seq(7), Seq(u64::MAX), Seq(12)] {
            mark.note(seq);
            assert_eq!(HighWater::open(&layout, &log).expect("opened").1, Some(seq));
        }
        assert_eq!(HighWater::open(&layout, &"0".repeat(32)).expect("opened").1, None);
    }
}
