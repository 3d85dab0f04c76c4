//! Finds the files that git would not give back as they are on disk, and copies them raw. The
//! worktree and its own index are only read.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::failpoint::guard;
use crate::world::effects::collect::{ARGUMENTS_MAX, Collector, no_room, split};
use crate::world::effects::raw_copies::Copies;
use crate::world::fs::{paths, removal};
use crate::world::git::index::format::Stat;
use crate::world::git::index::{racy, read};
use crate::world::status::included_files;

/// Largest file that is read to compare it with a blob; a larger one is copied.
const BLOB_BYTES_MAX: u64 = 1 << 20;

/// Most touched files whose attributes are queried; with more, hidden bytes are assumed.
const ASKED_MAX: usize = 2_000;

impl Collector<'_> {
    /// Returns whether a file that git may call unchanged despite other bytes (a filter, line
    /// endings, an encoding, now or when it was added) was touched since the worktree was created.
    ///
    /// # Errors
    /// When git cannot answer, or the task is cancelled.
    pub(in crate::world) fn may_hide_bytes(&self) -> Result<bool, Fault> {
        if !guard::stands("bytes") {
            return Ok(false);
        }
        let (mut touched, mut unlike) = (Vec::new(), false);
        let read = self.hash.and_then(|hash| {
            read::each(&self.own_index, hash, |entry| {
                let path = paths::from_bytes(entry.path);
                let found = self.target.join(path).symlink_metadata();
                let is_file = |found: &std::fs::Metadata| found.is_file();
                let later = |found: &std::fs::Metadata| racy::changed_at(found) > self.made_at;
                if let Some(found) = found.ok().filter(is_file).filter(later) {
                    // Status compares stat data only: what a conversion that is gone by now took
                    // away when the file was added stays hidden.
                    unlike |= Stat::of(&found).is(&entry.stat)
                        && touched.len() < ASKED_MAX
                        && !self.is_blob(path, &found, entry.oid);
                    touched.push(path.to_owned());
                }
            })
        });
        if read.is_none() || unlike || touched.len() > ASKED_MAX {
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
        let is_held = |path: &Path| {
            let held = held.get(paths::to_host(path).as_bytes());
            let found = self.target.join(path).symlink_metadata().ok();
            held.zip(found).is_some_and(|((_, _, oid), found)| self.is_blob(path, &found, oid))
        };
        let unlike = self.unlike(&compare, &changed, &is_held)?;
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
    /// `is_held` tells whether the index has the very bytes of a file.
    fn unlike(
        &self,
        paths: &[PathBuf],
        changed: &BTreeSet<PathBuf>,
        is_held: &dyn Fn(&Path) -> bool,
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
            // Equal stat data proves nothing where no conversion applies: one that did when the
            // file was added may be gone since, with the attributes of another branch.
            let plain = |path: &&&Path| !filtered.contains(path) && !converted.contains(path);
            let plain = some.iter().filter(plain).filter(|path| !is_held(path));
            let asked: Vec<&Path> = asked.chain(&converted).chain(plain).copied().collect();
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
