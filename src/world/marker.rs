//! Proof of ownership: the marker in a worktree's administrative directory, and the checks that
//! stand before every removal.
//!
//! A directory is ours only if three witnesses agree: the marker (log id, environment,
//! incarnation, device and inode), the environment's record in the log, and the managed root that
//! its real path lies in. Anything that cannot be proven is left alone.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::paths;
use crate::core::{Code, Environment, EnvironmentId, Fault, HostPath};

/// Name of the marker inside the administrative directory.
pub const MARKER: &str = "groundskeeper.json";
const MARKER_BYTES_MAX: u64 = 4_096;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The log that knows the environment, in hex.
    pub log: String,
    /// Its name.
    pub environment: String,
    /// Which life of the name.
    pub incarnation: u32,
    /// Device of the worktree's root directory.
    pub device: u64,
    /// Inode of the worktree's root directory.
    pub inode: u64,
    /// The commit that was checked out first, and its tree; empty when that is not known.
    #[serde(default)]
    pub commit: String,
    /// See `commit`.
    #[serde(default)]
    pub tree: String,
}

impl Marker {
    /// The marker for an environment whose worktree is the directory with these numbers.
    #[must_use]
    pub fn new(log: &str, env: &Environment, (device, inode): (u64, u64)) -> Self {
        Self {
            log: log.to_owned(),
            environment: env.id.to_string(),
            incarnation: env.incarnation,
            device,
            inode,
            commit: String::new(),
            tree: String::new(),
        }
    }

    /// Whether it is about this environment of this log, wherever its worktree is.
    #[must_use]
    pub fn is_of(&self, log: &str, env: &Environment) -> bool {
        self.log == log
            && self.environment == env.id.as_str()
            && self.incarnation == env.incarnation
    }

    /// Reads the marker of an administrative directory; none when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub fn read(admin_dir: &Path) -> Result<Option<Self>, Fault> {
        let path = admin_dir.join(MARKER);
        let size = match path.symlink_metadata() {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Err(strange(&path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(paths::fault("look at", &path, &e)),
        };
        if size > MARKER_BYTES_MAX {
            return Err(strange(&path));
        }
        let text = std::fs::read(&path).map_err(paths::failed("read", &path))?;
        serde_json::from_slice(&text).map(Some).map_err(|e| strange(&path).because(e))
    }

    /// Writes it into an administrative directory that nobody sees yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, admin_dir: &Path) -> Result<(), Fault> {
        let path = admin_dir.join(MARKER);
        let text = serde_json::to_vec(self).unwrap_or_default();
        std::fs::write(&path, text).map_err(paths::failed("write", &path))
    }
}

fn strange(path: &Path) -> Fault {
    let message = format!("{} is not a marker of groundskeeper", path.display());
    Fault::new(Code::NotOurs, message, "look at it; groundskeeper leaves it alone")
}

/// Device and inode of a directory; none when nothing has this name.
///
/// # Errors
/// When something else has this name, or it cannot be looked at.
pub fn identity(path: &Path) -> Result<Option<(u64, u64)>, Fault> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(Some((found.dev(), found.ino()))),
        Ok(_) => {
            let message = format!("{} is not a directory any more", path.display());
            let hint = "move it away; groundskeeper removes only what it made";
            Err(Fault::new(Code::NotOurs, message, hint))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(paths::fault("look at", path, &e)),
    }
}

/// Where the administrative directories of one environment are inside its repository.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Published: git sees it.
    pub published: PathBuf,
    /// Being built: nobody sees it.
    pub staged: PathBuf,
    /// After the worktree went to the trash: kept for a restore, unseen by git.
    pub removed: PathBuf,
    /// On its way to be deleted.
    pub gone: PathBuf,
    /// Our folder in the repository, parent of the last three.
    pub folder: PathBuf,
}

impl Admin {
    /// The places for an environment of the log with this id (hex).
    #[must_use]
    pub fn of(log: &str, env: &Environment) -> Self {
        Self::at(log, &env.plan.repository.common_dir, &env.id, env.incarnation)
    }

    /// The places for one incarnation of an environment in a repository.
    #[must_use]
    pub fn at(log: &str, common_dir: &HostPath, id: &EnvironmentId, incarnation: u32) -> Self {
        let common = paths::from_host(common_dir);
        let short = log.get(..8).unwrap_or(log);
        let name = format!("gk-{id}-{incarnation}-{short}");
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

/// Whether the repository itself is gone, and with it the marker, and the user said that the
/// worktree shall go all the same. Log, inode and managed root are then the witnesses; what
/// follows is a rename to the trash and no more.
fn is_orphaned(env: &Environment) -> bool {
    let common = paths::from_host(&env.plan.repository.common_dir);
    let gone = matches!(common.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    gone && env.teardown.as_ref().is_some_and(|t| t.force)
}

/// Proves that the directory at `path` is the worktree of `env`, or says why it may not be touched.
///
/// # Errors
/// [`Code::NotOurs`] when a witness is missing or disagrees.
pub fn prove(
    managed_root: &Path,
    path: &Path,
    found: (u64, u64),
    marker: Option<&Marker>,
    log: &str,
    env: &Environment,
) -> Result<(), Fault> {
    let refuse = |why: String| {
        let message = format!("{} is not proven to be made by groundskeeper", path.display());
        let hint = "nothing was touched; remove it by hand if it may go";
        Err(Fault::new(Code::NotOurs, message, hint).because(why))
    };
    let root = managed_root.canonicalize().map_err(paths::failed("find", managed_root))?;
    let real = path.canonicalize().map_err(paths::failed("find", path))?;
    if !real.starts_with(&root) || real == root || real != path {
        return refuse(format!("its real path {} is not inside the managed root", real.display()));
    }
    let Some(marker) = marker else {
        if is_orphaned(env) && env.worktree.as_ref().is_some_and(|w| w.inode == found.1) {
            return Ok(());
        }
        return refuse("the marker in its git directory is gone".into());
    };
    if !marker.is_of(log, env) {
        let (name, life) = (&marker.environment, marker.incarnation);
        return refuse(format!("its marker names {name}, incarnation {life}"));
    }
    // Some file systems get another device number at each mount; then it is that of our root.
    let current = identity(&root)?.map(|(device, _)| device);
    let same = |device: u64, inode: u64| {
        inode == found.1 && (device == found.0 || Some(found.0) == current)
    };
    if !same(marker.device, marker.inode) {
        return refuse("another directory stands in its place".into());
    }
    match &env.worktree {
        Some(w) if !same(w.device, w.inode) => {
            refuse("the log knows another directory at its place".into())
        }
        _ => Ok(()),
    }
}
