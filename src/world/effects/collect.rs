//! Puts the files of a worktree into an index of our own, and finds those that git would
//! not give back unchanged.
//!
//! git takes all files in one go where it can. Where it cannot, each file is tried separately, so
//! that a bad one (a filter whose program is missing, an unknown encoding, a name that git refuses,
//! an object store that refuses one blob) excludes no other. What git does not take, and what comes
//! back from it with other bytes, is copied raw; what cannot even be read is reported. The worktree
//! and its own index are only read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::Fault;
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;
use crate::world::git::error::Reason;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::{racy, read};
use crate::world::process::subprocess::Finished;

/// Most paths passed to one git call.
pub(super) const ARGUMENTS_MAX: usize = 200;
/// Refused files after which no further file is tried separately; the rest is copied raw.
const REFUSED_MAX: usize = 256;
/// Most nested repositories that one `git add` excludes by pathspec; with more, each path is named.
const EXCLUDED_MAX: usize = 200;

/// Collects the files of one worktree into an index.
pub(in crate::world) struct Collector<'a> {
    pub(in crate::world) git: &'a Git<'a>,
    pub(in crate::world) index: &'a Path,
    pub(in crate::world) target: &'a Path,
    /// The index of the worktree, as it was read; empty if there is none.
    pub(in crate::world) own_index: Vec<u8>,
    pub(in crate::world) hash: Option<Hash>,
    /// Creation time of the worktree, in nanoseconds since 1970: a file changed later was touched.
    pub(in crate::world) made_at: i128,
    /// Nested repositories, relative to the worktree: none of their files is collected here.
    pub(in crate::world) nested: &'a [PathBuf],
    /// A folder for files that git writes back for a comparison.
    pub(in crate::world) scratch: PathBuf,
    /// Whether each object is flushed separately. One flush for all is faster, but then `git add`
    /// does not report which object could not be written.
    pub(in crate::world) careful: bool,
}

impl Collector<'_> {
    /// Builds a git command on the index that flushes its objects: the trash will be purged
    /// on the strength of them.
    pub(in crate::world) fn command(&self, args: &[&str]) -> Command {
        let method = if self.careful { "fsync" } else { "batch" };
        let method = format!("core.fsyncMethod={method}");
        let settings = ["core.safecrlf=false", "core.fsync=all", method.as_str()];
        let settings = settings.into_iter().chain(["advice.addEmbeddedRepo=false"]);
        let settings = settings.flat_map(|setting| ["-c", setting]);
        let mut command = self.git.command(settings.chain(args.iter().copied()));
        command.env("GIT_INDEX_FILE", self.index);
        command
    }

    pub(in crate::world) fn run(&self, args: &[&str]) -> Result<Finished, Fault> {
        Ok(self.git.run_command(self.command(args))?)
    }

    /// Rewrites an index that is split or sparse as one plain list; only git reads the other forms.
    pub(in crate::world) fn flatten(&mut self) {
        let is_plain =
            |index: &[u8]| self.hash.is_some_and(|hash| read::each(index, hash, |_| {}).is_some());
        if is_plain(&self.own_index) {
            return;
        }
        let settings = ["-c", "index.sparse=false", "-c", "core.splitIndex=false"];
        let args = ["update-index", "--no-split-index", "--force-write-index"];
        let written = self.git.run_command({
            let mut command = self.git.command(settings.into_iter().chain(args));
            command.env("GIT_INDEX_FILE", self.index);
            command
        });
        let index = std::fs::read(self.index).unwrap_or_default();
        if written.is_ok_and(|written| written.status.success()) && is_plain(&index) {
            self.own_index = index;
        }
    }

    pub(super) fn on(&self, args: &[&str], paths: &[&Path]) -> Result<Finished, Fault> {
        let mut command = self.command(args);
        command.arg("--").args(paths);
        Ok(self.git.run_command(command)?)
    }

    /// Puts everything that git accepts into the index.
    ///
    /// # Errors
    /// When the disk is full, or the task is cancelled.
    pub(in crate::world) fn add(&self) -> Result<(), Fault> {
        self.show_hidden()?;
        if self.nested.len() <= EXCLUDED_MAX && self.add_at_once()? {
            return Ok(());
        }
        let mut wanted: Vec<PathBuf> = self.touched()?.into_iter().collect();
        wanted.extend(self.untracked()?);
        let wanted: Vec<&Path> = wanted.iter().map(PathBuf::as_path).collect();
        let mut refused = 0;
        for some in wanted.chunks(ARGUMENTS_MAX) {
            self.add_each(some, &mut refused)?;
        }
        Ok(())
    }

    /// Adds all files with one git command. Returns false if git refused any of them.
    fn add_at_once(&self) -> Result<bool, Fault> {
        let mut command = self.command(&["add", "--all", "--sparse", "--ignore-errors", "--", "."]);
        for path in self.nested {
            let mut spec = std::ffi::OsString::from(":(exclude,top,literal)");
            spec.push(path);
            command.arg(spec);
        }
        let added = self.git.run_command(command)?;
        no_room(&added)?;
        Ok(added.status.success())
    }

    /// Adds files by bisection, until the files that git refuses are isolated.
    fn add_each(&self, some: &[&Path], refused: &mut usize) -> Result<(), Fault> {
        if some.is_empty() || *refused >= REFUSED_MAX {
            return Ok(());
        }
        // A file that a sparse checkout omits must not be recorded as removed.
        let args = ["update-index", "--add", "--remove", "--replace"];
        let args = [&args[..], &["--ignore-skip-worktree-entries"]].concat();
        let added = self.on(&args, some)?;
        no_room(&added)?;
        if added.status.success() {
            return Ok(());
        }
        if some.len() == 1 {
            *refused += 1;
            return Ok(());
        }
        let (left, right) = some.split_at(some.len() / 2);
        self.add_each(left, refused)?;
        self.add_each(right, refused)
    }

    /// Clears the marks that hide files from status; `git add` would skip those files as well.
    fn show_hidden(&self) -> Result<(), Fault> {
        let listed = self.run(&["ls-files", "-v", "-z"])?;
        let hidden: Vec<&Path> = crate::world::git::listing::hidden(&listed.stdout, self.target)
            .map(paths::from_bytes)
            .collect();
        for flag in ["--no-skip-worktree", "--no-assume-unchanged"] {
            for some in hidden.chunks(ARGUMENTS_MAX) {
                let shown = self.on(&["update-index", flag], some)?;
                if !shown.status.success() {
                    return Err(git::Error::failed("git update-index", &shown).into());
                }
            }
        }
        Ok(())
    }

    /// Returns the tracked files that were touched, or may have been.
    pub(super) fn touched(&self) -> Result<BTreeSet<PathBuf>, Fault> {
        let mut touched = BTreeSet::new();
        let read = self.hash.and_then(|hash| {
            read::each(&self.own_index, hash, |entry| {
                // A submodule is a repository of its own and is saved as one.
                if entry.mode == 0o160_000 {
                    return;
                }
                let path = paths::from_bytes(entry.path);
                let same = self.target.join(path).symlink_metadata().is_ok_and(|found| {
                    let known = Stat::of(&found).is(&entry.stat) && !entry.unsettled;
                    known && racy::changed_at(&found) <= self.made_at
                });
                if !same && !self.is_nested(path) {
                    touched.insert(path.to_owned());
                }
            })
        });
        if read.is_none() {
            // Only git reads this form of index: any file may be touched.
            let listed = self.run(&["ls-files", "-z"])?;
            touched.extend(split(&listed.stdout).into_iter().filter(|path| !self.is_nested(path)));
        }
        Ok(touched)
    }

    /// Returns the files that git neither tracks nor ignores, except those of nested repositories.
    pub(super) fn untracked(&self) -> Result<Vec<PathBuf>, Fault> {
        let listed = self.run(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        if !listed.status.success() {
            return Err(git::Error::failed("git ls-files", &listed).into());
        }
        let paths = listed.stdout.split(|b| *b == 0).filter(|path| !path.is_empty());
        // A nested repository is listed as a directory.
        let files = paths.filter(|path| !path.ends_with(b"/")).map(paths::from_bytes);
        Ok(files.filter(|path| !self.is_nested(path)).map(Path::to_owned).collect())
    }

    pub(super) fn is_nested(&self, path: &Path) -> bool {
        self.nested.iter().any(|nested| path.starts_with(nested))
    }
}

pub(super) fn split(listed: &[u8]) -> BTreeSet<PathBuf> {
    let paths = listed.split(|b| *b == 0).filter(|path| !path.is_empty());
    paths.map(|path| paths::from_bytes(path).to_owned()).collect()
}

/// Turns a full disk into an error: it must not lead to files being left out.
pub(super) fn no_room(finished: &Finished) -> Result<(), Fault> {
    if finished.status.success() {
        return Ok(());
    }
    let error = git::Error::failed("git add", finished);
    if error.reason() == Some(Reason::DiskFull) { Err(error.into()) } else { Ok(()) }
}
