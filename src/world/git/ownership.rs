//! Proof of ownership: the checks before a worktree is removed or changed.
//!
//! A directory is ours only if three witnesses agree: the marker (log id, environment, incarnation,
//! device and inode), the environment's record in the log, and the managed root that contains its
//! real path. A directory that cannot be proven ours is left alone.

use std::io;
use std::path::Path;

use crate::core::{Environment, Life};
use crate::world::fs;
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::paths;
use crate::world::git::doubt::Doubt;
use crate::world::git::error::Error;
use crate::world::git::marker::{Admin, Marker, identity};

/// Longest `.git` file of a worktree that is read; any other has a shorter one.
const POINTER_BYTES_MAX: u64 = 8_192;

/// Reports whether a directory is the worktree of an incarnation, whatever its inode is now: its
/// pointer must name the incarnation's own administrative directory. A directory without a pointer
/// is it if its inode is the recorded one; with the pointer of another incarnation it is not.
#[must_use]
pub(in crate::world) fn is_worktree_of(
    path: &Path,
    log: &str,
    life: Life<'_>,
    found: u64,
    recorded: u64,
) -> bool {
    match pointed_to(path) {
        Some(name) => name == Names::of(log, life).admin().as_bytes(),
        None => found == recorded,
    }
}

/// Reports whether the pointer of a directory names the administrative directory of an incarnation.
/// The inode is no witness here: another directory may have got it since.
#[must_use]
pub(in crate::world) fn points_to(path: &Path, log: &str, life: Life<'_>) -> bool {
    pointed_to(path).is_some_and(|name| name == Names::of(log, life).admin().as_bytes())
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
pub(in crate::world) fn is_forgotten(
    log: &str,
    env: &Environment,
    path: &Path,
    found: FileId,
) -> bool {
    let admin = Admin::of(log, env).published;
    let gone = matches!(admin.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    let is_it = |inode| is_worktree_of(path, log, env.life(), found.inode, inode);
    gone && env.worktree.as_ref().is_some_and(|made| is_it(made.inode))
}

/// The witnesses of ownership besides the marker: the log, its environment, the managed root.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct Proof<'a> {
    /// Directory below which every managed worktree lies.
    pub(in crate::world) root: &'a Path,
    /// Id of the log, in hex.
    pub(in crate::world) log: &'a str,
    /// Environment as recorded in the log.
    pub(in crate::world) env: &'a Environment,
}

/// Proves that the directory at `path` is the worktree of `env`.
///
/// # Errors
/// [`Error::NotProven`] when a witness is missing or disagrees, with the [`Doubt`].
pub(in crate::world) fn prove(
    managed_root: &Path,
    path: &Path,
    found: FileId,
    marker: Option<&Marker>,
    log: &str,
    env: &Environment,
) -> Result<(), Error> {
    Proof { root: managed_root, log, env }.admits(path, found, marker, None)
}

impl Proof<'_> {
    /// Proves that the directory at `path` may be touched. `before` is an earlier incarnation to
    /// which its pointer may still lead.
    ///
    /// # Errors
    /// [`Error::NotProven`] when a witness is missing or disagrees.
    pub(in crate::world) fn admits(
        &self,
        path: &Path,
        found: FileId,
        marker: Option<&Marker>,
        before: Option<Life<'_>>,
    ) -> Result<(), Error> {
        let refuse = |doubt| Err(Error::NotProven { path: path.to_owned(), doubt });
        let root = self.root.canonicalize().map_err(fs::Error::about("find", self.root))?;
        let real = path.canonicalize().map_err(fs::Error::about("find", path))?;
        // A path that differs from its real path leads through a link, and may
        // lead out of the root.
        if !real.starts_with(&root) || real == root || real != path {
            return refuse(Doubt::OutsideRoot { real });
        }
        let (log, env) = (self.log, self.env);
        let Some(marker) = marker else {
            let recorded = env.worktree.as_ref().map(|w| w.inode);
            let is_it = |inode| is_worktree_of(path, log, env.life(), found.inode, inode);
            if is_orphaned(log, env) && recorded.is_some_and(is_it) {
                return Ok(());
            }
            return refuse(Doubt::NoMarker);
        };
        if !marker.is_of(log, env.life()) {
            return refuse(Doubt::OtherMarker {
                environment: marker.environment.clone(),
                incarnation: marker.incarnation,
                has_nonce: marker.nonce.is_some(),
            });
        }
        self.is_the_directory(path, found, marker, before).or_else(refuse)
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
    ) -> Result<(), Doubt> {
        if let Some(name) = pointed_to(path) {
            let lives = std::iter::once(self.env.life()).chain(before);
            let mut names = lives.map(|life| Names::of(self.log, life).admin());
            let known = names.any(|known| known.as_bytes() == name);
            return if known { Ok(()) } else { Err(Doubt::OtherPointer) };
        }
        // Some file systems get another device number at each mount; then the device
        // of our root counts.
        let current = identity(self.root).ok().flatten().map(|root| root.device);
        let same = |device: u64, inode: u64| {
            inode == found.inode && (device == found.device || Some(found.device) == current)
        };
        if !same(marker.device, marker.inode) {
            return Err(Doubt::OtherDirectory);
        }
        match &self.env.worktree {
            Some(w) if !same(w.device, w.inode) => Err(Doubt::OtherRecord),
            _ => Ok(()),
        }
    }
}
