//! A private git directory beside a worktree's, used to inspect its files and to rescue them.
//!
//! It has its own HEAD and index. It shares nothing with the worktree's administrative directory
//! but copies of what is readable there. So damage there (index, HEAD, commondir,
//! config.worktree) blocks nothing, and nothing of the user's is written. It lies in the scratch
//! folder and is removed on drop.

use std::path::{Path, PathBuf};

use crate::failpoint::guard;
use crate::world::fs;
use crate::world::fs::{paths, removal};
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::read;
use crate::world::process::cancel::Cancel;

/// Symbolic ref that no repository has: HEAD of a worktree without a commit.
const NOWHERE: &str = "ref: refs/heads/groundskeeper/nowhere\n";
/// Size bound of a file that is copied from an administrative directory, in bytes (1 GiB).
const BYTES_MAX: u64 = 1 << 30;

/// The private git directory; dropping it removes it.
#[derive(Debug)]
pub(in crate::world) struct ScratchGitDir {
    pub(in crate::world) dir: PathBuf,
}

impl ScratchGitDir {
    /// Creates one at `dir` for the repository `common`, with HEAD at `head` and the readable
    /// settings of `admin`.
    ///
    /// # Errors
    /// The error of the system about the scratch folder.
    pub(in crate::world) fn make(
        dir: PathBuf,
        admin: &Path,
        common: &Path,
        head: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        removal::remove_ours(&dir)?;
        std::fs::create_dir_all(dir.join("info")).map_err(fs::Error::about("create", &dir))?;
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

    fn put(&self, name: &str, text: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(name);
        Ok(std::fs::write(&path, text).map_err(fs::Error::about("write", &path))?)
    }

    /// Copies a file if it exists and can be read; returns whether it was copied.
    fn copy(&self, admin: &Path, name: &str) -> bool {
        let from = admin.join(name);
        let plain = from.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= BYTES_MAX);
        plain && std::fs::copy(&from, self.dir.join(name)).is_ok()
    }

    /// Removes the copied settings if git cannot parse them: they would stop every git here.
    fn drop_bad_settings(&self, cancel: &Cancel) -> Result<(), Error> {
        let path = self.dir.join("config.worktree");
        let git = Git::at(&self.dir, None, cancel);
        let mut command = git.command(["config", "--no-includes", "--list", "--file"]);
        command.arg(&path);
        if !git.run_command(command)?.status.success() {
            removal::remove_ours_file(&path)?;
        }
        Ok(())
    }

    /// Copies the worktree's index with the times by which git judges entries. Returns false when
    /// there is no intact one. git itself does not verify the checksum, and reads a truncated index
    /// as one in which files are missing.
    pub(in crate::world) fn copy_index(&self, admin: &Path, hash: Option<Hash>) -> bool {
        let taken = self.copy(admin, "index")
            && (self.is_summed(hash) || !guard::stands("damage"))
            && copy_mtime(&self.index(), &admin.join("index"));
        if taken && let Some(hash) = hash {
            // If the index cannot be rewritten, git gets it unchanged.
            drop(clear_young_stats(&self.index(), hash));
        }
        // A split index keeps its larger part in a `sharedindex.*` file beside it.
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

    /// Returns the path of its index.
    pub(in crate::world) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }
}

impl Drop for ScratchGitDir {
    fn drop(&mut self) {
        drop(removal::remove_ours(&self.dir));
    }
}

/// Clears the stat data of entries that are as young as their index. git would read those files
/// through their filters each time it writes the index, so one broken filter would keep every other
/// file out. With empty stat data git reads a file only when asked to refresh that one.
fn clear_young_stats(index: &Path, hash: Hash) -> std::io::Result<()> {
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

/// Gives the copy the modification time of the original. git compares this time with those of files
/// to decide whether a file may have changed since it was added; a copy that is younger than its
/// original would hide a change within the same second.
fn copy_mtime(copy: &Path, original: &Path) -> bool {
    let dated = || {
        let time = original.metadata()?.modified()?;
        let file = std::fs::File::options().write(true).open(copy)?;
        file.set_times(std::fs::FileTimes::new().set_modified(time))
    };
    dated().is_ok()
}
