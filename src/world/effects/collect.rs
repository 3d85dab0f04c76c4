//! Putting the files of a worktree into an index of our own, and finding those that git would not
//! give back as they are.
//!
//! git takes all of it in one go where it can. Where it cannot, each file is tried for itself, so
//! that one of them (a filter whose program is missing, an encoding that nobody knows, a name that
//! git refuses, an object store that refuses one blob) takes nothing else along. What git does not
//! take, and what comes back from it in other bytes, is copied raw; what cannot even be read is
//! named. The worktree and its own index are only read.

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

/// Paths that one git call gets.
const ARGUMENTS_MAX: usize = 200;
/// Files that are tried for themselves and refused before the rest is copied without asking.
const REFUSED_MAX: usize = 256;
/// Largest file that is read to compare it with a blob; a larger one is copied.
const BLOB_BYTES_MAX: u64 = 1 << 20;
/// Touched files whose attributes are asked for; with more, something is taken to be hidden.
const ASKED_MAX: usize = 2_000;
/// Repositories that one `git add` is told to leave out; with more, each path is named.
const EXCLUDED_MAX: usize = 200;

/// The files of one worktree, on their way into an index.
pub(in crate::world) struct Collector<'a> {
    pub(in crate::world) git: &'a Git<'a>,
    pub(in crate::world) index: &'a Path,
    pub(in crate::world) target: &'a Path,
    /// The index of the worktree, as it was read; empty when there is none.
    pub(in crate::world) own_index: Vec<u8>,
    pub(in crate::world) hash: Option<Hash>,
    /// Nanoseconds since 1970 after which a file was touched by somebody.
    pub(in crate::world) made_at: i128,
    /// Repositories inside, relative to the worktree: none of their files is collected here.
    pub(in crate::world) nested: &'a [PathBuf],
    /// A folder for what git writes back, to compare.
    pub(in crate::world) scratch: PathBuf,
    /// Whether each object is flushed by itself. All at once is quicker, and then `git add` does
    /// not say which of them could not be written.
    pub(in crate::world) careful: bool,
}

impl Collector<'_> {
    /// A git command on the index, whose objects are flushed: the trash will be unlinked on the
    /// strength of them.
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

    /// Makes one plain list of an index that has parts elsewhere (split) or folders for entries
    /// (sparse), which only git reads otherwise.
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

    /// Puts everything into the index that git takes.
    ///
    /// # Errors
    /// When there is no room, or somebody wants to stop.
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

    /// Adds files by halves, until those are alone that git does not take.
    fn add_each(&self, some: &[&Path], refused: &mut usize) -> Result<(), Fault> {
        if some.is_empty() || *refused >= REFUSED_MAX {
            return Ok(());
        }
        // A file that a sparse checkout leaves out is not removed.
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

    /// What status is told not to show would be left out as well.
    fn show_hidden(&self) -> Result<(), Fault> {
        let listed = self.run(&["ls-files", "-v", "-z"])?;
        let hidden: Vec<&Path> = crate::world::git::listing::hidden(&listed.stdout, self.target)
            .map(paths::from_bytes)
            .collect();
        for flag in ["--no-skip-worktree", "--no-assume-unchanged"] {
            for some in hidden.chunks(ARGUMENTS_MAX) {
                let shown = self.on(&["update-index", flag], some)?;
                if !shown.status.success() {
                    return Err(command::said("git update-index", &shown));
                }
            }
        }
        Ok(())
    }

    /// Tracked files that somebody has touched, or may have.
    fn touched(&self) -> Result<BTreeSet<PathBuf>, Fault> {
        let mut touched = BTreeSet::new();
        let read = self.hash.and_then(|hash| {
            read::each(&self.own_index, hash, |entry| {
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
            // A kind of index that only git reads: each file may be one.
            let listed = self.run(&["ls-files", "-z"])?;
            touched.extend(split(&listed.stdout).into_iter().filter(|path| !self.is_nested(path)));
        }
        Ok(touched)
    }

    /// Whether a file that git may call unchanged in spite of other bytes (a filter, line ends, an
    /// encoding) was touched since the worktree was made.
    ///
    /// # Errors
    /// When git cannot tell, or somebody wants to stop.
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

    /// Files that git neither knows nor ignores; those of repositories inside are not among them.
    fn untracked(&self) -> Result<Vec<PathBuf>, Fault> {
        let listed = self.run(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        if !listed.status.success() {
            return Err(command::said("git ls-files", &listed));
        }
        let paths = listed.stdout.split(|b| *b == 0).filter(|path| !path.is_empty());
        // A repository inside is listed as a directory.
        let files = paths.filter(|path| !path.ends_with(b"/")).map(paths::from_bytes);
        Ok(files.filter(|path| !self.is_nested(path)).map(Path::to_owned).collect())
    }

    fn is_nested(&self, path: &Path) -> bool {
        self.nested.iter().any(|nested| path.starts_with(nested))
    }

    /// Copies what the index does not hold as it is on disk. `head` is the tree that everything is
    /// compared with; without a whole index (`none`) every candidate is copied.
    ///
    /// # Errors
    /// When there is no room, or somebody wants to stop.
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
                // A kind of index that only git reads: what it has not refused is in it.
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

    /// Whether the bytes of a file are those of a blob, as they are.
    fn is_blob(&self, path: &Path, found: &std::fs::Metadata, oid: &[u8]) -> bool {
        let small = found.len() <= BLOB_BYTES_MAX;
        let bytes = || racy::content(&self.target.join(path), found);
        let same = |bytes: Vec<u8>| self.hash.is_some_and(|hash| hash.of_blob(&bytes) == oid);
        small && bytes().is_ok_and(same)
    }

    /// Paths that the index has in another form than the tree of HEAD.
    fn changed(&self, head: Option<&str>) -> Result<BTreeSet<PathBuf>, Fault> {
        let Some(head) = head else {
            let listed = self.run(&["ls-files", "-z"])?;
            return Ok(split(&listed.stdout));
        };
        let args = ["diff-index", "--cached", "--no-renames", "--name-only", "-z"];
        let listed = self.run(&[&args[..], &["--ignore-submodules=all", head]].concat())?;
        if listed.status.success() { Ok(split(&listed.stdout)) } else { Ok(BTreeSet::new()) }
    }

    /// Of some paths in the index those that git would write in other bytes than they have.
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
            // What came out of a filter may need more than git to come back: a key, a server.
            let sure = filtered.iter().filter(|path| changed.contains(**path));
            unlike.extend(sure.map(|path| (*path).to_owned()));
            let asked = filtered.iter().filter(|path| !changed.contains(**path));
            let asked: Vec<&Path> = asked.chain(&converted).copied().collect();
            unlike.extend(self.written_unlike(&asked)?);
        }
        Ok(unlike)
    }

    /// Whether line endings are changed without an attribute.
    fn converts_by_settings(&self) -> Result<bool, Fault> {
        let found = self.run(&["config", "--get", "core.autocrlf"])?;
        let text = String::from_utf8_lossy(&found.stdout).trim().to_ascii_lowercase();
        Ok(found.status.success() && !["", "false", "no", "off", "0"].contains(&text.as_str()))
    }

    /// Which paths have a filter, and which are changed in another way.
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

    /// Lets git write some files of the index elsewhere, and compares.
    fn written_unlike(&self, some: &[&Path]) -> Result<BTreeSet<PathBuf>, Fault> {
        if some.is_empty() {
            return Ok(BTreeSet::new());
        }
        removal::remove_ours(&self.scratch)?;
        std::fs::create_dir_all(&self.scratch).map_err(paths::failed("create", &self.scratch))?;
        let prefix = format!("--prefix={}/", self.scratch.display());
        // Whether it worked is seen in what it wrote.
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

/// Keeps a mode that a checkout would not make.
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

/// A full disk is no reason to leave files out.
fn no_room(finished: &Finished) -> Result<(), Fault> {
    if finished.status.success() {
        return Ok(());
    }
    let fault = command::said("git add", finished);
    if fault.code == Code::DiskFull { Err(fault) } else { Ok(()) }
}
