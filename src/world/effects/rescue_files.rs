//! The files of a rescue: the working tree and the index as trees, and raw copies of what git does
//! not take. Only reads the worktree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::core::{Code, Fault};
use crate::world::effects::collect::Collector;
use crate::world::effects::conflicts;
use crate::world::effects::nested_work::NestedRepository;
use crate::world::effects::raw_copies::Copies;
use crate::world::effects::rescuer::{ARGUMENTS_MAX, RescueParts, Rescuer, start_over};
use crate::world::fs::paths;
use crate::world::git::command::{self, Git};
use crate::world::git::index::format::Hash;
use crate::world::git::marker;
use crate::world::git::scratch_dir::ScratchGitDir;

impl Rescuer<'_> {
    /// Saves the paths that git takes for its own directory on a case-insensitive repository, and
    /// therefore never shows or adds.
    pub(in crate::world) fn passed_over(
        &self,
        paths: &[PathBuf],
        parts: &mut RescueParts,
        copies: &mut Copies<'_>,
    ) -> Result<(), Fault> {
        for path in paths {
            if self.target.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                copies.tree(&self.target, path, &|_| false)?;
            } else {
                copies.add(&self.target, path)?;
            }
        }
        let line = |first: &PathBuf| {
            format!("{} and {} more that git does not list", first.display(), paths.len() - 1)
        };
        parts.holds.extend(paths.first().map(line));
        Ok(())
    }

    /// Saves the files of the worktree: through git where it accepts them, else as raw copies.
    pub(in crate::world) fn files(
        &self,
        side: &ScratchGitDir,
        head: Option<&str>,
        inner: &[NestedRepository],
        parts: &mut RescueParts,
        copies: &mut Copies<'_>,
    ) -> Result<(), Fault> {
        let git = Git::exact(&side.dir, Some(&self.target), Some(self.lock), self.cancel);
        let git = git.within(command::LONG);
        let nested: Vec<PathBuf> =
            inner.iter().filter(|i| !i.path.starts_with(".git")).map(|i| i.path.clone()).collect();
        let mut collector = Collector {
            git: &git,
            index: &side.index(),
            target: &self.target,
            own_index: std::fs::read(self.admin.join("index")).unwrap_or_default(),
            hash: Hash::named(&self.plan.repository.object_format),
            made_at: marker::made_at(&self.admin),
            nested: &nested,
            scratch: side.dir.join("look"),
            careful: false,
        };
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        let first = self.collect_by_index(side, &mut collector, clean.as_deref(), parts)?;
        collector.careful = true;
        let working = if first.is_some() {
            first
        } else {
            // git cannot use the index: the files are saved relative to HEAD's commit instead.
            self.copy_index(parts, copies)?;
            start_over(side, &mut collector, head)?;
            self.collect(&collector, clean.as_deref(), &mut RescueParts::default())?
        };
        if working.is_some() && working != clean {
            parts.holds.push("the working tree".to_owned());
        }
        if working.is_none() {
            // No tree could be written to the repository: everything that differs is copied raw.
            start_over(side, &mut collector, head)?;
        }
        let whole = working.as_ref().and(head);
        collector.copy_the_rest(whole.or(head), copies)?;
        parts.tree = working.or(clean);
        Ok(())
    }

    /// Returns the tree of all files, made from a copy of the worktree's own index; none if git
    /// cannot use that.
    fn collect_by_index(
        &self,
        side: &ScratchGitDir,
        collector: &mut Collector<'_>,
        clean: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<Option<String>, Fault> {
        // A second attempt flushes each object separately: then git reports the one that it cannot
        // write.
        for careful in [false, true] {
            collector.careful = careful;
            if !side.copy_index(&self.admin, collector.hash) {
                return Ok(None);
            }
            collector.flatten();
            if let Some(tree) = self.collect(collector, clean, parts)? {
                return Ok(Some(tree));
            }
        }
        Ok(None)
    }

    /// Copies an index that git cannot use, as the file that it is.
    fn copy_index(&self, parts: &mut RescueParts, copies: &mut Copies<'_>) -> Result<(), Fault> {
        if !self.admin.join("index").exists() {
            return Ok(());
        }
        copies.within(Path::new(".git"));
        let copied = copies.add(&self.admin, Path::new("index"));
        copies.within(Path::new(""));
        copied?;
        parts.holds.push("the damaged index, as a file".to_owned());
        Ok(())
    }

    /// Returns the tree of all files that git accepts; none if it cannot make one from this index.
    pub(in crate::world) fn collect(
        &self,
        collector: &Collector<'_>,
        clean: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<Option<String>, Fault> {
        let staged = self.staged(collector)?;
        let sides = conflicts::tree(collector)?;
        match collector.add() {
            // A full disk or a cancellation must not lead to a smaller
            // rescue; every other error does.
            Err(fault) if fault.code == Code::DiskFull || self.cancel.is_cancelled() => {
                return Err(fault);
            }
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        let Ok(working) = self.line(collector.command(&["write-tree"]))? else { return Ok(None) };
        // An index equal to the working tree or to HEAD holds no content of its own.
        let own = staged.filter(|s| *s != working && Some(s.as_str()) != clean);
        if let Some(staged) = own {
            let message = format!("index of {}", self.life.id);
            parts.parents.push(self.commit_part(&staged, &parts.parents, &message)?);
            parts.holds.push("the index".to_owned());
        }
        if let Some(sides) = sides {
            let message = format!("sides of the conflicts in {}", self.life.id);
            parts.parents.push(self.commit_part(&sides, &[], &message)?);
            parts.holds.push("the sides of its conflicts".to_owned());
        }
        Ok(Some(working))
    }

    /// Returns the index as a tree. An index with unmerged entries is not one, so they are left
    /// out; their sides are saved as a commit of their own.
    pub(in crate::world) fn staged(
        &self,
        collector: &Collector<'_>,
    ) -> Result<Option<String>, Fault> {
        if let Ok(tree) = self.line(collector.command(&["write-tree"]))? {
            return Ok(Some(tree));
        }
        // On a copy: the index itself still has to keep its unmerged entries.
        let second = collector.index.with_extension("staged");
        std::fs::copy(collector.index, &second).map_err(paths::failed("copy", collector.index))?;
        let on = |args: &[&str]| {
            let mut command = collector.command(args);
            command.env("GIT_INDEX_FILE", &second);
            command
        };
        let listed = self.repository().run_command(on(&["ls-files", "-u", "-z"]))?;
        let unmerged: BTreeSet<&[u8]> = listed
            .stdout
            .split(|b| *b == 0)
            .filter_map(|e| e.splitn(2, |b| *b == b'\t').nth(1))
            .collect();
        let unmerged: Vec<&[u8]> = unmerged.into_iter().collect();
        for some in unmerged.chunks(ARGUMENTS_MAX) {
            let mut command = on(&["update-index", "--force-remove", "--"]);
            command.args(some.iter().map(|path| paths::from_bytes(path)));
            self.repository().run_command(command)?;
        }
        let tree = self.line(on(&["write-tree"]))?.ok();
        drop(paths::remove_file_if_any(&second));
        Ok(tree)
    }

    /// Saves the index alone: the directory is gone, but staged content and commits may remain.
    pub(in crate::world) fn index_alone(
        &self,
        side: &ScratchGitDir,
        head: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<(), Fault> {
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        let hash = Hash::named(&self.plan.repository.object_format);
        let taken = side.copy_index(&self.admin, hash);
        let git = Git::exact(&side.dir, None, Some(self.lock), self.cancel);
        let staged = if taken {
            let mut command = git.command(["write-tree"]);
            command.env("GIT_INDEX_FILE", side.index());
            self.line(command)?.ok()
        } else {
            None
        };
        if staged.is_some() && staged != clean {
            parts.holds.push("the index".to_owned());
        }
        parts.tree = staged.or(clean);
        Ok(())
    }
}
