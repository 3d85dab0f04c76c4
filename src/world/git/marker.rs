//! The marker in a worktree's administrative directory, and the paths of that directory. What a
//! marker proves is decided in `ownership`.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::empty_is_none;
use crate::core::{Environment, HostPath, Life, Nonce};
use crate::failpoint::guard;
use crate::world::fs;
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::paths;
use crate::world::git::error::Error;

/// Name of the marker inside the administrative directory.
pub const MARKER: &str = "groundskeeper.json";
/// Name of a marker that is being written; a rename installs it.
const FRESH: &str = "groundskeeper.new";
const MARKER_BYTES_MAX: u64 = 4_096;

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
    /// Commit that was checked out first, as far as it is known; stored as empty text otherwise.
    #[serde(default, with = "empty_is_none")]
    pub commit: Option<String>,
    /// Tree of `commit`, as far as it is known; stored as empty text otherwise.
    #[serde(default, with = "empty_is_none")]
    pub tree: Option<String>,
    /// Nonce of the incarnation, which distinguishes it from all others; none for an incarnation
    /// that an earlier version began.
    #[serde(default, with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
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
            commit: None,
            tree: None,
            nonce: env.nonce.as_ref().map(ToString::to_string),
        }
    }

    /// Reports whether it names this incarnation of this log, wherever the worktree is now.
    #[must_use]
    pub fn is_of(&self, log: &str, life: Life<'_>) -> bool {
        self.log == log
            && self.environment == life.id.as_str()
            && self.incarnation == life.incarnation
            && (self.nonce.as_deref() == life.nonce.map(Nonce::as_str) || !guard::stands("life"))
    }

    /// Reads the marker of an administrative directory; `None` when there is none.
    ///
    /// # Errors
    /// When it exists and cannot be read or parsed.
    pub fn read(admin_dir: &Path) -> Result<Option<Self>, Error> {
        let path = admin_dir.join(MARKER);
        let size = match path.symlink_metadata() {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Err(Error::MalformedMarker { path, why: None }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fs::Error::about("inspect", &path)(e).into()),
        };
        if size > MARKER_BYTES_MAX {
            return Err(Error::MalformedMarker { path, why: None });
        }
        let text = std::fs::read(&path).map_err(fs::Error::about("read", &path))?;
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let why = Some(e.to_string());
            Error::MalformedMarker { path, why }
        })
    }

    /// Replaces the present marker and keeps its modification time: the age of the marker tells
    /// which files were changed after the worktree was made.
    ///
    /// # Errors
    /// The error of the system.
    pub fn replace(&self, admin_dir: &Path) -> Result<(), fs::Error> {
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
        write().map_err(fs::Error::about("write", &path))
    }

    /// Writes it atomically into an administrative directory that is not yet published. After a
    /// kill in between, an empty marker would count as foreign and block the directory for ever.
    ///
    /// # Errors
    /// The error of the system.
    pub fn write(&self, admin_dir: &Path) -> Result<(), fs::Error> {
        let (path, fresh) = (admin_dir.join(MARKER), admin_dir.join(FRESH));
        let text = serde_json::to_vec(self).unwrap_or_default();
        let written = std::fs::write(&fresh, text);
        let written = written.and_then(|()| std::fs::rename(&fresh, &path));
        written.map_err(fs::Error::about("write", &path))
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

/// Returns which directory is at a path; `None` when nothing has this name.
///
/// # Errors
/// When something else has this name, or the system cannot inspect it.
pub fn identity(path: &Path) -> Result<Option<FileId>, Error> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(Some(FileId::of(&found))),
        Ok(_) => Err(Error::Replaced { path: path.to_owned() }),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(fs::Error::about("inspect", path)(e).into()),
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
            commit: None,
            tree: None,
            nonce: None,
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

    /// Other versions read these bytes: absent values are empty texts, an absent nonce is no field.
    #[test]
    fn stored_marker_keeps_its_bytes() {
        let old = r#"{"log":"ab","environment":"demo","incarnation":1,"device":2,"inode":3"#;
        let read =
            |rest: &str| serde_json::from_str::<Marker>(&format!("{old}{rest}")).expect("a marker");
        let full = r#","commit":"c1","tree":"t1","nonce":"n1"}"#;
        let none = r#","commit":"","tree":""}"#;
        for stored in [full, none] {
            let written = serde_json::to_string(&read(stored)).expect("json");
            assert_eq!(written, format!("{old}{stored}"));
        }
        let known = read(full);
        let known = [known.commit, known.tree, known.nonce];
        assert_eq!(known.each_ref().map(Option::as_deref), [Some("c1"), Some("t1"), Some("n1")]);
        let unknown = read("}");
        assert_eq!([&unknown.commit, &unknown.tree, &unknown.nonce], [&None, &None, &None]);
        assert_eq!(read(none), unknown);
    }
}
