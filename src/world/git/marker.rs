//! Proof of ownership: the marker in a worktree's admin directory, and the checks before removals.
//!
//! A directory is ours only if three witnesses agree: the marker (log id, environment, incarnation,
//! device and inode), the environment's record in the log, and the managed root that contains its
//! real path. A directory that cannot be proven ours is left alone.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::{Code, Environment, Fault, HostPath, Life, Nonce};
use crate::failpoint::guard;
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::paths;

/// Name of the marker inside the administrative directory.
pub const MARKER: &str = "groundskeeper.json";
/// Name of a marker that is being written; a rename installs it.
const FRESH: &str = "groundskeeper.new";
const MARKER_BYTES_MAX: u64 = 4_096;
const POINTER_BYTES_MAX: u64 = 8_192;

/// Content of the marker, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Id of the log that knows the environment, in hex.
    pub log: String,
    /// Name of the environment.
    pub environment: String,
    /// Incarnation of that environment, counted from 1.
    pub incarnation: u32,
    /// Device of the worktree's root directory.
    pub device: u64,
    /// Inode of the worktree's root directory.
    pub inode: u64,
    /// Commit that was checked out first; empty when it is not known.
    #[serde(default)]
    pub commit: String,
    /// Tree of `commit`; empty when it is not known.
    #[serde(default)]
    pub tree: String,
    /// Nonce of the incarnation, which distinguishes it from all others; empty for an incarnation
    /// that an earlier version began.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

impl Marker {
    /// Creates the marker for an environment whose worktree is this directory.
    #[must_use]
    pub fn new(log: &str, env: &Environment, worktree: FileId) -> Self {
        Self {
            log: log.to_owned(),
            environment: env.id.to_string(),
            incarnation: env.incarnation,
            device: worktree.device,
            inode: worktree.inode,
            commit: String::new(),
            tree: String::new(),
            nonce: env.nonce.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Reports whether it names this incarnation of this log, wherever the worktree is now.
    #[must_use]
    pub fn is_of(&self, log: &str, life: Life<'_>) -> bool {
        self.log == log
            && self.environment == life.id.as_str()
            && self.incarnation == life.incarnation
            && (self.nonce == life.nonce.map(Nonce::as_str).unwrap_or_default()
                || !guard::stands("life"))
    }

    /// Reads the marker of an administrative directory; `None` when there is none.
    ///
    /// # Errors
    /// When it exists and cannot be read or parsed.
    pub fn read(admin_dir: &Path) -> Result<Option<Self>, Fault> {
        let path = admin_dir.join(MARKER);
        let size = match path.symlink_metadata() {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Err(malformed(&path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(paths::fault("inspect", &path, &e)),
        };
        if size > MARKER_BYTES_MAX {
            return Err(malformed(&path));
        }
        let text = std::fs::read(&path).map_err(paths::failed("read", &path))?;
        serde_json::from_slice(&text).map(Some).map_err(|e| malformed(&path).because(e))
    }

    /// Replaces the present marker and keeps its modification time: the age of the marker tells
    /// which files were changed after the worktree was made.
    ///
    /// # Errors
    /// The error of the system.
    pub fn replace(&self, admin_dir: &Path) -> Result<(), Fault> {
        let path = admin_dir.join(MARKER);
        let fresh = admin_dir.join(FRESH);
        let before = path.symlink_metadata().and_then(|found| found.modified());
        let write = || {
            std::fs::write(&fresh, serde_json::to_vec(self).unwrap_or_default())?;
            if let Ok(before) = before {
                std::fs::File::options().write(true).open(&fresh)?.set_modified(before)?;
            }
            std::fs::rename(&fresh, &path)
        };
        write().map_err(paths::failed("write", &path))
    }

    /// Writes it atomically into an administrative directory that is not yet published. After a
    /// kill in between, an empty marker would count as foreign and block the directory for ever.
    ///
    /// # Errors
    /// The error of the system.
    pub fn write(&self, admin_dir: &Path) -> Result<(), Fault> {
        let (path, fresh) = (admin_dir.join(MARKER), admin_dir.join(FRESH));
        let text = serde_json::to_vec(self).unwrap_or_default();
        let written = std::fs::write(&fresh, text);
        written.and_then(|()| std::fs::rename(&fresh, &path)).map_err(paths::failed("write", &path))
    }
}

/// Returns when the worktree of an administrative directory was made, in nanoseconds since
/// 1970 by the clock of the file system. Files changed later were changed by another
/// program. 0 when unknown.
#[must_use]
pub fn made_at(admin_dir: &Path) -> i128 {
    let marker = admin_dir.join(MARKER).symlink_metadata();
    marker.map_or(0, |m| i128::from(m.mtime()) * 1_000_000_000 + i128::from(m.mtime_nsec()))
}

fn malformed(path: &Path) -> Fault {
    let message = format!("{} is not a valid marker of groundskeeper", path.display());
    Fault::new(Code::NotOurs, message, "inspect it; groundskeeper does not change it")
}

/// Returns which directory is at a path; `None` when nothing has this name.
///
/// # Errors
/// When something else has this name, or the system cannot inspect it.
pub fn identity(path: &Path) -> Result<Option<FileId>, Fault> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(Some(FileId::of(&found))),
        Ok(_) => {
            let message = format!("{} is no longer a directory", path.display());
            let hint = "move it away; groundskeeper removes only what it created";
            Err(Fault::new(Code::NotOurs, message, hint))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(paths::fault("inspect", path, &e)),
    }
}

/// Paths of one incarnation's administrative directories inside its repository.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Published below `worktrees`: git sees it.
    pub published: PathBuf,
    /// Under construction: git does not see it.
    pub staged: PathBuf,
    /// Archived when the worktree moved to the trash: kept for a restore, invisible to git.
    pub removed: PathBuf,
    /// About to be deleted; whatever is here may be removed.
    pub gone: PathBuf,
    /// Our folder in the repository, parent of the last three.
    pub folder: PathBuf,
}

impl Admin {
    /// Returns the paths for an environment of the log with this id (hex).
    #[must_use]
    pub fn of(log: &str, env: &Environment) -> Self {
        Self::at(log, &env.plan.repository.common_dir, env.life())
    }

    /// Returns the paths for one incarnation of an environment in a repository.
    #[must_use]
    pub fn at(log: &str, common_dir: &HostPath, life: Life<'_>) -> Self {
        let common = paths::from_host(common_dir);
        let name = Names::of(log, life).admin();
        let folder = common.join("groundskeeper");
        Self {
            published: common.join("worktrees").join(&name),
            staged: folder.join(format!("{name}.new")),
            removed: folder.join(format!("{name}.removed")),
            gone: folder.join(format!("{name}.gone")),
            folder,
        }
    }
}

/// Reports whether a directory is the worktree of an incarnation, whatever its inode is now: its
/// pointer must name the incarnation's own administrative directory. A directory without a pointer
/// is it if its inode is the recorded one; with the pointer of another incarnation it is not.
#[must_use]
pub fn is_worktree_of(path: &Path, log: &str, life: Life<'_>, found: u64, recorded: u64) -> bool {
    match pointed_to(path) {
        Some(name) => name == Names::of(log, life).admin().as_bytes(),
        None => found == recorded,
    }
}

/// Reports whether a groundskeeper gives administrative directories such a name. A pointer to any
/// other name was written by another program and proves nothing.
fn is_our_kind(name: &[u8]) -> bool {
    name.starts_with(b"gk-")
}

/// Returns the name of the administrative directory that the `.git` file of a worktree points to,
/// if it is one of a groundskeeper's.
fn pointed_to(worktree: &Path) -> Option<Vec<u8>> {
    let pointer = worktree.join(".git");
    let plain =
        pointer.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() < POINTER_BYTES_MAX);
    let text = std::fs::read(&pointer).ok().filter(|_| plain)?;
    let path = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
    let name = paths::from_bytes(path).file_name()?;
    Some(paths::to_host(Path::new(name)).0).filter(|name| is_our_kind(name))
}

/// Reports whether the repository or the registration in it is missing, and with it the marker,
/// while the user forced the removal. The log, the pointer or inode, and the managed root are then
/// the witnesses; what follows is a rename to the trash and no more.
fn is_orphaned(log: &str, env: &Environment) -> bool {
    let admin = Admin::of(log, env).published;
    let gone = matches!(admin.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    gone && env.teardown.as_ref().is_some_and(|t| t.force)
}

/// Reports whether the registration of a worktree is missing from its repository (pruned, or the
/// repository was replaced) while the directory is known to be the one that was made.
#[must_use]
pub fn is_forgotten(log: &str, env: &Environment, path: &Path, found: FileId) -> bool {
    let admin = Admin::of(log, env).published;
    let gone = matches!(admin.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    let is_it = |inode| is_worktree_of(path, log, env.life(), found.inode, inode);
    gone && env.worktree.as_ref().is_some_and(|made| is_it(made.inode))
}

/// The witnesses of ownership besides the marker: the log, its environment, the managed root.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// Directory below which every managed worktree lies.
    pub root: &'a Path,
    /// Id of the log, in hex.
    pub log: &'a str,
    /// Environment as recorded in the log.
    pub env: &'a Environment,
}

/// Proves that the directory at `path` is the worktree of `env`.
///
/// # Errors
/// [`Code::NotOurs`] when a witness is missing or disagrees; the cause says which.
pub fn prove(
    managed_root: &Path,
    path: &Path,
    found: FileId,
    marker: Option<&Marker>,
    log: &str,
    env: &Environment,
) -> Result<(), Fault> {
    Proof { root: managed_root, log, env }.admits(path, found, marker, None)
}

impl Proof<'_> {
    /// Proves that the directory at `path` may be touched. `before` is an earlier incarnation to
    /// which its pointer may still lead.
    ///
    /// # Errors
    /// [`Code::NotOurs`] when a witness is missing or disagrees.
    pub fn admits(
        &self,
        path: &Path,
        found: FileId,
        marker: Option<&Marker>,
        before: Option<Life<'_>>,
    ) -> Result<(), Fault> {
        let refuse = |why: String| {
            let message =
                format!("{} is not proven to be created by groundskeeper", path.display());
            let hint = "run `groundskeeper sweep` to see what is known of it; nothing was changed";
            Err(Fault::new(Code::NotOurs, message, hint).because(why))
        };
        let root = self.root.canonicalize().map_err(paths::failed("find", self.root))?;
        let real = path.canonicalize().map_err(paths::failed("find", path))?;
        // A path that differs from its real path leads through a link, and may
        // lead out of the root.
        if !real.starts_with(&root) || real == root || real != path {
            return refuse(format!(
                "its real path {} is not inside the managed root",
                real.display()
            ));
        }
        let (log, env) = (self.log, self.env);
        let Some(marker) = marker else {
            let recorded = env.worktree.as_ref().map(|w| w.inode);
            let is_it = |inode| is_worktree_of(path, log, env.life(), found.inode, inode);
            if is_orphaned(log, env) && recorded.is_some_and(is_it) {
                return Ok(());
            }
            return refuse("the marker in its git directory is missing".into());
        };
        if !marker.is_of(log, env.life()) {
            let (name, life) = (&marker.environment, marker.incarnation);
            let other = if marker.nonce.is_empty() { "" } else { ", with another nonce" };
            return refuse(format!("its marker names {name}, incarnation {life}{other}"));
        }
        self.is_the_directory(path, found, marker, before).or_else(|why| refuse(why.into()))
    }

    /// Checks that the directory is the worktree. A pointer to the incarnation's own administrative
    /// directory proves it, wherever the directory was moved. Without a pointer, its device and
    /// inode must be the recorded ones.
    fn is_the_directory(
        &self,
        path: &Path,
        found: FileId,
        marker: &Marker,
        before: Option<Life<'_>>,
    ) -> Result<(), &'static str> {
        if let Some(name) = pointed_to(path) {
            let lives = std::iter::once(self.env.life()).chain(before);
            let mut names = lives.map(|life| Names::of(self.log, life).admin());
            let known = names.any(|known| known.as_bytes() == name);
            return if known {
                Ok(())
            } else {
                Err("its .git file names the worktree of another incarnation")
            };
        }
        // Some file systems get another device number at each mount; then the device
        // of our root counts.
        let current = identity(self.root).ok().flatten().map(|root| root.device);
        let same = |device: u64, inode: u64| {
            inode == found.inode && (device == found.device || Some(found.device) == current)
        };
        if !same(marker.device, marker.inode) {
            return Err("another directory is at its path");
        }
        match &self.env.worktree {
            Some(w) if !same(w.device, w.inode) => {
                Err("the log records another directory at its path")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_marker_write_keeps_previous() {
        let dir = tempfile::tempdir().expect("a directory");
        let marker = |incarnation| Marker {
            log: "ab".repeat(16),
            environment: "demo".to_owned(),
            incarnation,
            device: 1,
            inode: 2,
            commit: String::new(),
            tree: String::new(),
            nonce: String::new(),
        };
        // A kill in the middle of a write leaves this file.
        std::fs::write(dir.path().join(FRESH), "").expect("written");
        marker(1).write(dir.path()).expect("written");
        assert!(!dir.path().join(FRESH).exists());
        std::fs::create_dir(dir.path().join(FRESH)).expect("made");
        marker(2).write(dir.path()).expect_err("nothing can be written beside it");
        let read = Marker::read(dir.path()).expect("read").expect("there");
        assert_eq!(read.incarnation, 1, "and it is whole");
    }
}
