//! Puts the files of a worktree into an index of our own, and finds those that git would
//! not give back unchanged.
//!
//! git takes all files in one go where it can. Where it cannot, each file is tried separately, so
//! that a bad one (a filter whose program is missing, an unknown encoding, a name that git refuses,
//! an object store that refuses one blob) excludes no other. What git does not take, and what comes
//! back from it with other bytes, is copied raw; what cannot even be read is reported. The worktree
//! and its own index are only read.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::{Code, Fault};
use crate::failpoint::guard;
use crate::world::effects::raw_copies::Copies;
use crate::world::fs::{paths, removal};
use crate::world::git::command::{self, Git};
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::{racy, read};
use crate::world::process::subprocess::Finished;
use crate::world::status::included_files;

/// Most paths passed to one git call.
const ARGUMENTS_MAX: usize = 200;
/// Refused files after which no further file is tried separately; the rest is copied raw.
const REFUSED_MAX: usize = 256;
/// Largest file that is read to compare it with a blob; a larger one is copied.
const BLOB_BYTES_MAX: u64 = 1 << 20;
/// Most touched files whose attributes are queried; with more, hidden bytes are assumed.
const ASKED_MAX: usize = 2_000;
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
        self.git.run_command(self.command(args))
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

    fn on(&self, args: &[&str], paths: &[&Path]) -> Result<Finished, Fault> {
        let mut command = self.command(args);
        command.arg("--").args(paths);
        self.git.run_command(command)
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
                    return Err(command::git_error("git update-index", &shown));
                }
            }
        }
        Ok(())
    }

    /// Returns the tracked files that were touched, or may have been.
    fn touched(&self) -> Result<BTreeSet<PathBuf>, Fault> {
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

    /// Returns whether a file that git may call unchanged despite other bytes (a filter, line
    /// endings, an encoding) was touched since the worktree was created.
    ///
    /// # Errors
    /// When git cannot answer, or the task is cancelled.
    pub(in crate::world) fn may_hide_bytes(&self) -> Result<bool, Fault> {
        if !guard::stands("bytes") {
            return Ok(false);
        }
        let mut touched = Vec::new();
        let read = self.hash.and_then(|hash| {
            read::each(&self.own_index, hash, |entry| {
                let path = paths::from_bytes(entry.path);
                let found = self.target.join(path).symlink_metadata();
                let is_file = |found: &std::fs::Metadata| found.is_file();
                let later = |found| racy::changed_at(&found) > self.made_at;
                if found.ok().filter(is_file).is_some_and(later) {
                    touched.push(path.to_owned());
                }
            })
        });
        if read.is_none() || touched.len() > ASKED_MAX {
            return Ok(true);
        }
        let touched: Vec<&Path> = touched.iter().map(PathBuf::as_path).collect();
        if touched.is_empty() {
            return Ok(false);
        }
        let by_settings = self.converts_by_settings()?;
        for some in touched.chunks(ARGUMENTS_MAX) {
            let (filtered, converted) = self.conversions(some, by_settings)?;
            if !filtered.is_empty() || !converted.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the files that git neither tracks nor ignores, except those of nested repositories.
    fn untracked(&self) -> Result<Vec<PathBuf>, Fault> {
        let listed = self.run(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        if !listed.status.success() {
            return Err(command::git_error("git ls-files", &listed));
        }
        let paths = listed.stdout.split(|b| *b == 0).filter(|path| !path.is_empty());
        // A nested repository is listed as a directory.
        let files = paths.filter(|path| !path.ends_with(b"/")).map(paths::from_bytes);
        Ok(files.filter(|path| !self.is_nested(path)).map(Path::to_owned).collect())
    }

    fn is_nested(&self, path: &Path) -> bool {
        self.nested.iter().any(|nested| path.starts_with(nested))
    }

    /// Copies what the index does not hold as it is on disk. `head` is the commit that the index is
    /// compared with; without one, every path in the index counts as changed.
    ///
    /// # Errors
    /// When the disk is full, or the task is cancelled.
    pub(in crate::world) fn copy_the_rest(
        &self,
        head: Option<&str>,
        copies: &mut Copies<'_>,
    ) -> Result<(), Fault> {
        if !guard::stands("raw") {
            return Ok(());
        }
        let index = std::fs::read(self.index).unwrap_or_default();
        let mut held = BTreeMap::new();
        let understood = self.hash.and_then(|hash| {
            read::each(&index, hash, |entry| {
                held.insert(entry.path.to_vec(), (entry.mode, entry.stat, entry.oid.to_vec()));
            })
        });
        let changed = self.changed(head)?;
        let missed: BTreeSet<PathBuf> = self.untracked()?.into_iter().collect();
        let mut left = missed;
        let candidates: BTreeSet<PathBuf> =
            self.touched()?.into_iter().chain(changed.iter().cloned()).collect();
        let mut compare = Vec::new();
        for path in candidates {
            let Ok(found) = self.target.join(&path).symlink_metadata() else { continue };
            if found.is_dir() || self.is_nested(&path) {
                continue;
            }
            match held.get(paths::to_host(&path).as_bytes()) {
                Some((mode, stat, oid))
                    if Stat::of(&found).is(stat) || self.is_blob(&path, &found, oid) =>
                {
                    unusual_mode(&path, *mode, &found, copies)?;
                    compare.push(path);
                }
                // Only git reads this form of index: it holds every file that git did not refuse.
                _ if understood.is_none() && head.is_some() => compare.push(path),
                _ => drop(left.insert(path)),
            }
        }
        let unlike = self.unlike(&compare, &changed)?;
        for path in left.into_iter().chain(unlike) {
            copies.add(self.target, &path)?;
        }
        Ok(())
    }

    /// Returns whether the bytes of a file, unconverted, are those of a blob.
    fn is_blob(&self, path: &Path, found: &std::fs::Metadata, oid: &[u8]) -> bool {
        let small = found.len() <= BLOB_BYTES_MAX;
        let bytes = || racy::content(&self.target.join(path), found);
        let same = |bytes: Vec<u8>| self.hash.is_some_and(|hash| hash.of_blob(&bytes) == oid);
        small && bytes().is_ok_and(same)
    }

    /// Returns the paths that differ between the index and the tree of HEAD;
    /// all paths without a HEAD.
    fn changed(&self, head: Option<&str>) -> Result<BTreeSet<PathBuf>, Fault> {
        let Some(head) = head else {
            let listed = self.run(&["ls-files", "-z"])?;
            return Ok(split(&listed.stdout));
        };
        let args = ["diff-index", "--cached", "--no-renames", "--name-only", "-z"];
        let listed = self.run(&[&args[..], &["--ignore-submodules=all", head]].concat())?;
        if listed.status.success() { Ok(split(&listed.stdout)) } else { Ok(BTreeSet::new()) }
    }

    /// Returns those of the paths that a checkout would write with bytes other than on disk.
    fn unlike(
        &self,
        paths: &[PathBuf],
        changed: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, Fault> {
        let mut unlike = BTreeSet::new();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let by_settings = self.converts_by_settings()?;
        for some in paths.chunks(ARGUMENTS_MAX) {
            let (filtered, converted) = self.conversions(some, by_settings)?;
            // Filtered content may need more than git to be restored: a key, a server.
            let sure = filtered.iter().filter(|path| changed.contains(**path));
            unlike.extend(sure.map(|path| (*path).to_owned()));
            let asked = filtered.iter().filter(|path| !changed.contains(**path));
            let asked: Vec<&Path> = asked.chain(&converted).copied().collect();
            unlike.extend(self.written_unlike(&asked)?);
        }
        Ok(unlike)
    }

    /// Returns whether settings alone, without an attribute, convert line endings.
    fn converts_by_settings(&self) -> Result<bool, Fault> {
        let found = self.run(&["config", "--get", "core.autocrlf"])?;
        let text = String::from_utf8_lossy(&found.stdout).trim().to_ascii_lowercase();
        Ok(found.status.success() && !["", "false", "no", "off", "0"].contains(&text.as_str()))
    }

    /// Returns which paths have a filter, and which are converted in another way.
    fn conversions<'p>(
        &self,
        some: &[&'p Path],
        by_settings: bool,
    ) -> Result<(Vec<&'p Path>, Vec<&'p Path>), Fault> {
        let names = ["filter", "text", "eol", "crlf", "working-tree-encoding", "ident"];
        let mut args = vec!["check-attr", "-z"];
        args.extend(names);
        let listed = self.on(&args, some)?;
        let mut fields = listed.stdout.split(|b| *b == 0);
        let (mut filtered, mut converted) = (BTreeSet::new(), BTreeSet::new());
        if by_settings || !listed.status.success() {
            converted.extend(some.iter().copied());
        }
        while let (Some(path), Some(name), Some(value)) =
            (fields.next(), fields.next(), fields.next())
        {
            let path = paths::from_bytes(path);
            let Some(path) = some.iter().find(|known| **known == path) else { continue };
            if matches!(value, b"unspecified" | b"unset") {
                continue;
            }
            let into = if name == b"filter" { &mut filtered } else { &mut converted };
            into.insert(*path);
        }
        converted.retain(|path| !filtered.contains(path));
        Ok((filtered.into_iter().collect(), converted.into_iter().collect()))
    }

    /// Lets git write some files of the index to the scratch folder, and
    /// compares them with the worktree.
    fn written_unlike(&self, some: &[&Path]) -> Result<BTreeSet<PathBuf>, Fault> {
        if some.is_empty() {
            return Ok(BTreeSet::new());
        }
        removal::remove_ours(&self.scratch)?;
        std::fs::create_dir_all(&self.scratch).map_err(paths::failed("create", &self.scratch))?;
        let prefix = format!("--prefix={}/", self.scratch.display());
        // The exit status is ignored: a file that was not written compares as different.
        let written = self.on(&["checkout-index", "--force", "-q", &prefix], some)?;
        no_room(&written)?;
        let unlike = some.iter().filter(|path| {
            let (ours, theirs) = (self.target.join(path), self.scratch.join(path));
            !included_files::is_same(&ours, &theirs).unwrap_or(false)
        });
        let unlike = unlike.map(|path| (*path).to_owned()).collect();
        removal::remove_ours(&self.scratch)?;
        Ok(unlike)
    }
}

/// Records a mode that a checkout would not restore.
fn unusual_mode(
    path: &Path,
    mode: u32,
    found: &std::fs::Metadata,
    copies: &mut Copies<'_>,
) -> Result<(), Fault> {
    let usual = if mode == 0o100_755 { 0o755 } else { 0o644 };
    if found.is_file() && found.mode() & 0o7777 != usual {
        copies.mode(path, found.mode())?;
    }
    Ok(())
}

fn split(listed: &[u8]) -> BTreeSet<PathBuf> {
    let paths = listed.split(|b| *b == 0).filter(|path| !path.is_empty());
    paths.map(|path| paths::from_bytes(path).to_owned()).collect()
}

/// Turns a full disk into an error: it must not lead to files being left out.
fn no_room(finished: &Finished) -> Result<(), Fault> {
    if finished.status.success() {
        return Ok(());
    }
    let fault = command::git_error("git add", finished);
    if fault.code == Code::DiskFull { Err(fault) } else { Ok(()) }
}
