//! A git directory of our own beside a worktree's, for looking at its files and saving them.
//!
//! It has its own HEAD and index and shares nothing with the worktree's administrative directory
//! but a copy of what is readable there; so whatever is damaged there (index, HEAD, commondir,
//! config.worktree) is in nobody's way, and nothing of the user's is written. It lies in the
//! scratch folder and goes when it is dropped.

use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::failpoint::guard;
use crate::world::fs::{paths, removal};
use crate::world::git::command::Git;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::read;
use crate::world::process::cancel::Cancel;

/// A symbolic name that no repository has: HEAD of a worktree without a commit.
const NOWHERE: &str = "ref: refs/heads/groundskeeper/nowhere\n";
/// Longest file of an administrative directory that is copied here.
const BYTES_MAX: u64 = 1 << 30;

/// The directory, removed when it is dropped.
#[derive(Debug)]
pub(in crate::world) struct Side {
    pub(in crate::world) dir: PathBuf,
}

impl Side {
    /// Makes one at `dir` for the repository `common`, with HEAD at `head`, and what can be read of
    /// the settings in `admin`.
    ///
    /// # Errors
    /// What the system says of the scratch folder.
    pub(in crate::world) fn make(
        dir: PathBuf,
        admin: &Path,
        common: &Path,
        head: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Self, Fault> {
        removal::remove_ours(&dir)?;
        std::fs::create_dir_all(dir.join("info")).map_err(paths::failed("create", &dir))?;
        let side = Self { dir };
        let head = head.map_or_else(|| NOWHERE.to_owned(), |commit| format!("{commit}\n"));
        side.put("HEAD", head.as_bytes())?;
        let mut pointer = paths::to_host(common).0;
        pointer.push(b'\n');
        side.put("commondir", &pointer)?;
        side.copy(admin, "info/sparse-checkout");
        if side.copy(admin, "config.worktree") {
            side.drop_bad_settings(cancel)?;
        }
        Ok(side)
    }

    fn put(&self, name: &str, text: &[u8]) -> Result<(), Fault> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).map_err(paths::failed("write", &path))
    }

    /// Copies a file if it is there and can be read; whether it was.
    fn copy(&self, admin: &Path, name: &str) -> bool {
        let from = admin.join(name);
        let plain = from.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= BYTES_MAX);
        plain && std::fs::copy(&from, self.dir.join(name)).is_ok()
    }

    /// Settings that git cannot read would stop every git here.
    fn drop_bad_settings(&self, cancel: &Cancel) -> Result<(), Fault> {
        let path = self.dir.join("config.worktree");
        let git = Git::at(&self.dir, None, cancel);
        let mut command = git.command(["config", "--no-includes", "--list", "--file"]);
        command.arg(&path);
        if !git.run_command(command)?.status.success() {
            removal::remove_ours_file(&path)?;
        }
        Ok(())
    }

    /// Takes a copy of the worktree's index, with the times that git judges by; false when there is
    /// none that is whole. git itself does not look at the sum, and reads a cut index as one in
    /// which files are missing.
    pub(in crate::world) fn take_index(&self, admin: &Path, hash: Option<Hash>) -> bool {
        let taken = self.copy(admin, "index")
            && (self.is_summed(hash) || !guard::stands("damage"))
            && as_old_as(&self.index(), &admin.join("index"));
        if taken && let Some(hash) = hash {
            // An index that cannot be written is left to git as it is.
            drop(doubt_young_entries(&self.index(), hash));
        }
        // A split index has its larger part in a file beside it.
        for entry in std::fs::read_dir(admin).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if taken && name.starts_with("sharedindex.") {
                let _there = self.copy(admin, &name);
            }
        }
        taken
    }

    fn is_summed(&self, hash: Option<Hash>) -> bool {
        let bytes = std::fs::read(self.index()).unwrap_or_default();
        hash.is_some_and(|hash| read::is_summed(&bytes, hash))
    }

    /// Where its index is.
    pub(in crate::world) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        drop(removal::remove_ours(&self.dir));
    }
}

/// Takes the stat data from entries that are as young as their index. git would read those files,
/// filters and all, each time that it writes the index, so that one whose filter is broken would
/// keep every other file out; without it, git reads a file only when it is asked to look at that
/// one.
fn doubt_young_entries(index: &Path, hash: Hash) -> std::io::Result<()> {
    let written = Stat::of(&index.metadata()?).mtime.0;
    let mut bytes = std::fs::read(index)?;
    let mut young = Vec::new();
    let read = read::each(&bytes, hash, |entry| {
        young.extend((entry.stat.mtime.0 >= written).then_some(entry.at));
    });
    if read.is_none() || young.is_empty() {
        return Ok(());
    }
    for at in young {
        Stat::default().put(&mut bytes, at);
    }
    read::seal(&mut bytes, hash);
    let time = index.metadata()?.modified()?;
    std::fs::write(index, bytes)?;
    let file = std::fs::File::options().write(true).open(index)?;
    file.set_times(std::fs::FileTimes::new().set_modified(time))
}

/// git compares times to see whether a file may have changed since it was added; a copy that is
/// younger than its original would hide a change of the same second.
fn as_old_as(copy: &Path, original: &Path) -> bool {
    let dated = || {
        let time = original.metadata()?.modified()?;
        let file = std::fs::File::options().write(true).open(copy)?;
        file.set_times(std::fs::FileTimes::new().set_modified(time))
    };
    dated().is_ok()
}
