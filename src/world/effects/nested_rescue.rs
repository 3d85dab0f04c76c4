//! Rescues a nested repository, and puts it back.
//!
//! Its commits (of every ref, stash and past HEAD) and its files become one commit in the outer
//! repository, under a ref of the rescue; the rest of its git directory (settings, refs, reflogs)
//! is copied raw. If its objects cannot be brought over (another hash, a shallow or partial clone,
//! damage, a pointer that leads nowhere), all of it is copied raw. A worktree of the outer
//! repository shares its objects already. The nested repository itself is only read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::core::event::NestedRescue;
use crate::core::{Code, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::collect::Collector;
use crate::world::effects::conflicts;
use crate::world::effects::nested_work::NestedRepository;
use crate::world::effects::raw_copies::Copies;
use crate::world::effects::rescuer::{self, Rescuer, commit_of};
use crate::world::fs::{paths, removal};
use crate::world::git::bundle;
use crate::world::git::command::{self, Git};
use crate::world::git::heads::Heads;
use crate::world::git::index::format::Hash;
use crate::world::git::scratch_dir::ScratchGitDir;

/// The ref in our scratch git directory that a bundle is created from.
const BUNDLED: &str = "refs/worktree/rescue";
/// Parts of a git directory that are restored from the outer repository and are not copied.
const NOT_COPIED: [&str; 3] = ["objects", "index", "lfs/tmp"];
/// Files that tie a git directory to another one, or to a path; a copy stands alone.
const LINK_FILES: [&str; 4] = ["commondir", "gitdir", "locked", "worktrees"];

/// Rescues one nested repository.
///
/// # Errors
/// When the disk is full, or the task is cancelled.
pub(in crate::world) fn save(
    rescuer: &Rescuer<'_>,
    inner: &NestedRepository,
    copies: &mut Copies<'_>,
) -> Result<NestedRescue, Fault> {
    let path = paths::to_host(&inner.path);
    let mut saved = NestedRescue { path, ..NestedRescue::default() };
    if let Some(dir) = inner.git_dir.as_ref().filter(|dir| can_be_brought(rescuer, dir)) {
        let nested_rescuer = NestedRescuer { rescuer, inner, dir };
        match nested_rescuer.commits(copies) {
            Ok((reference, commit, head)) => {
                (saved.reference, saved.commit) = (Some(reference), Some(commit));
                saved.head = head;
                let not = |path: &Path| NOT_COPIED.iter().any(|name| path.starts_with(name));
                copy_git_dir(inner, dir, copies, &not)?;
                return Ok(saved);
            }
            Err(fault) if fault.code == Code::DiskFull || rescuer.cancel.is_cancelled() => {
                return Err(fault);
            }
            Err(fault) => tracing::warn!(%fault, "copying a whole nested repository"),
        }
    }
    // Without a git directory, or with objects that cannot be brought over,
    // copies are all that is left.
    if let Some(dir) = &inner.git_dir {
        copy_git_dir(inner, dir, copies, &|_| false)?;
    }
    if inner.has_files {
        copies.tree(&rescuer.target, &inner.path, &|path| path.starts_with(".git"))?;
    }
    Ok(saved)
}

/// Copies a git directory, of whatever kind, to where it will be a plain one.
fn copy_git_dir(
    inner: &NestedRepository,
    dir: &Path,
    copies: &mut Copies<'_>,
    skip: &dyn Fn(&Path) -> bool,
) -> Result<(), Fault> {
    let at = if inner.has_files { inner.path.join(".git") } else { inner.path.clone() };
    let tied = |path: &Path| LINK_FILES.iter().any(|name| path == Path::new(name));
    copies.tree_as(dir, &at, &|path| tied(path) || skip(path))?;
    let common = common_of(dir);
    if common == *dir {
        return Ok(());
    }
    // A linked worktree: its refs and settings are in its repository's common directory.
    let own = |path: &Path| dir.join(path).exists() || path.starts_with("objects");
    let others = ["groundskeeper", "modules", "lfs"];
    let own =
        |path: &Path| own(path) || tied(path) || others.iter().any(|name| path.starts_with(name));
    copies.tree_as(&common, &at, &own)
}

/// Returns whether the objects of a repository can be brought into the outer one.
fn can_be_brought(rescuer: &Rescuer<'_>, dir: &Path) -> bool {
    let common = common_of(dir);
    if is_outer(rescuer, &common) {
        return true;
    }
    let config = std::fs::read_to_string(common.join("config")).unwrap_or_default();
    let config = config.to_ascii_lowercase();
    let format = if config.contains("objectformat") && config.contains("sha256") {
        "sha256"
    } else {
        "sha1"
    };
    let partial = config.contains("promisor") || config.contains("partialclone");
    let reftable = config.contains("refstorage");
    format == rescuer.plan.repository.object_format
        && !partial
        && !reftable
        && !common.join("shallow").exists()
}

/// Returns whether it is a worktree of the outer repository itself, which has its objects already.
fn is_outer(rescuer: &Rescuer<'_>, common: &Path) -> bool {
    let outer = paths::from_host(&rescuer.plan.repository.common_dir);
    let real = |path: &Path| path.canonicalize().ok();
    real(common).is_some_and(|common| real(&outer) == Some(common))
}

/// Returns the directory that the worktrees of a repository share.
fn common_of(dir: &Path) -> PathBuf {
    let Ok(text) = std::fs::read(dir.join("commondir")) else { return dir.to_owned() };
    dir.join(paths::from_bytes(text.trim_ascii_end()))
}

/// The files of a repository, as trees.
struct Files {
    /// The working tree.
    tree: String,
    /// The index, where it differs from the working tree, and the sides of conflicts.
    indexes: Vec<String>,
}

/// Brings one nested repository into the outer one.
struct NestedRescuer<'a> {
    rescuer: &'a Rescuer<'a>,
    inner: &'a NestedRepository,
    dir: &'a Path,
}

impl NestedRescuer<'_> {
    /// Brings commits and files over. Returns the ref, its commit, and the commit of HEAD.
    fn commits(&self, copies: &mut Copies<'_>) -> Result<(String, String, Option<String>), Fault> {
        let rescuer = self.rescuer;
        // The repository's own settings may name a working tree at a path that has moved.
        let own = Git::exact(self.dir, Some(self.dir), Some(rescuer.lock), rescuer.cancel);
        let head = commit_of(&own, "HEAD^{commit}")?;
        let common = common_of(self.dir);
        let common = common.canonicalize().map_err(paths::failed("find", &common))?;
        let folder = format!("{}.{}.inner", rescuer.life.id, rescuer.life.incarnation);
        let place = rescuer.layout.scratch().join(folder);
        let side = ScratchGitDir::make(place, self.dir, &common, head.as_deref(), rescuer.cancel)?;
        let outer = paths::from_host(&rescuer.plan.repository.common_dir).join("objects");
        // New objects are written to the outer repository; objects are read from both.
        let both = Objects { made_in: &outer, read_from: &common.join("objects") };
        let Files { tree, indexes } = self.files(&side, &both, head.as_deref(), copies)?;
        let mut parents: Vec<String> = head.clone().into_iter().collect();
        for (name, _) in rescuer::HELD {
            parents.extend(rescuer::commits_in(&own, self.dir, name));
        }
        for tip in self.tips(&own, &common, head.as_deref())? {
            if !parents.contains(&tip) {
                parents.push(tip);
            }
        }
        // The date of HEAD, so that equal content gives an equal commit: a later inspection tells
        // by its name whether anything is new.
        let args = ["log", "-1", "--format=%ct", "HEAD", "--"];
        let date = own.run(args).map(|found| found.stdout).unwrap_or_default();
        let date = String::from_utf8_lossy(&date).trim().parse::<u64>().unwrap_or(0);
        for index in indexes {
            parents.push(self.commit(&both, &index, Vec::new(), date)?);
        }
        let rest = parents.split_off(usize::from(head.is_some()));
        let rest: BTreeSet<String> =
            rest.into_iter().filter(|c| Some(c) != head.as_ref()).collect();
        parents.extend(rest);
        let mut commit = self.commit(&both, &tree, parents.clone(), date)?;
        if let Some(before) = self.before()?.filter(|before| *before != commit) {
            parents.push(before);
            commit = self.commit(&both, &tree, parents, date)?;
        }
        if is_outer(rescuer, &common) {
            rescuer::is_whole(&rescuer.repository(), &commit)?;
        } else {
            self.bring(&side, &both, &commit)?;
        }
        point("inner.brought");
        let reference = rescuer.names().nested(paths::to_host(&self.inner.path).as_bytes());
        rescuer.hold(&reference, &commit)?;
        Ok((reference, commit, head))
    }

    /// Returns the tips to hold: every ref and reflog. For a worktree of the outer repository only
    /// its own, because the refs shared by all, our rescues among them, stay in place.
    fn tips(&self, own: &Git<'_>, common: &Path, head: Option<&str>) -> Result<Vec<String>, Fault> {
        if is_outer(self.rescuer, common) {
            return Ok(Heads::read(self.dir).held_here_alone(own, &head.into_iter().collect())?);
        }
        let args = ["rev-list", "--no-walk=unsorted", "--ignore-missing", "--all", "--reflog"];
        let listed = own.output(args)?;
        Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
    }

    /// Returns the commit that an earlier rescue of the same incarnation has
    /// for it, if it still exists.
    fn before(&self) -> Result<Option<String>, Fault> {
        let path = paths::to_host(&self.inner.path);
        let mut known = self.rescuer.before.iter().flat_map(|before| &before.nested);
        let known = known.find(|nested| nested.path == path);
        let Some(known) = known.and_then(|nested| nested.commit.as_ref()) else {
            return Ok(None);
        };
        commit_of(&self.rescuer.repository(), &format!("{known}^{{commit}}"))
    }

    /// Saves the files as trees; without files, the tree of HEAD, or an empty one.
    fn files(
        &self,
        side: &ScratchGitDir,
        both: &Objects<'_>,
        head: Option<&str>,
        copies: &mut Copies<'_>,
    ) -> Result<Files, Fault> {
        let rescuer = self.rescuer;
        let files = rescuer.target.join(&self.inner.path);
        let work_tree = self.inner.has_files.then_some(files.as_path());
        let tree = Some(work_tree.unwrap_or(&side.dir));
        let mut git = Git::exact(&side.dir, tree, Some(rescuer.lock), rescuer.cancel);
        git = git.within(command::LONG).with_objects(both.made_in, both.read_from);
        let Some(files) = work_tree else {
            let tree = match head {
                Some(head) => git.line(["rev-parse", "--verify", &format!("{head}^{{tree}}")])?,
                None => git.line(["mktree"])?,
            };
            return Ok(Files { tree, indexes: Vec::new() });
        };
        let mut collector = Collector {
            git: &git,
            index: &side.index(),
            target: files,
            own_index: std::fs::read(self.dir.join("index")).unwrap_or_default(),
            hash: Hash::named(&rescuer.plan.repository.object_format),
            // Its creation time is unknown: every file counts as touched and is compared.
            made_at: 0,
            nested: &[],
            scratch: side.dir.join("look"),
            careful: true,
        };
        if side.copy_index(self.dir, collector.hash) {
            collector.flatten();
        } else if let Some(head) = head {
            git.line_of("git read-tree", collector.command(&["read-tree", head]))?;
        }
        let mut indexes: Vec<String> = conflicts::tree(&collector)?.into_iter().collect();
        let staged = git.run_command(collector.command(&["write-tree"]))?;
        if staged.status.success() {
            indexes.push(String::from_utf8_lossy(&staged.stdout).trim_end().to_owned());
        }
        collector.add()?;
        copies.within(&self.inner.path);
        let copied = collector.copy_the_rest(head, copies);
        copies.within(Path::new(""));
        copied?;
        let tree = git.line_of("git write-tree", collector.command(&["write-tree"]))?;
        indexes.retain(|index| *index != tree);
        Ok(Files { tree, indexes })
    }

    fn commit(
        &self,
        both: &Objects<'_>,
        tree: &str,
        parents: Vec<String>,
        date: u64,
    ) -> Result<String, Fault> {
        // Without `@`, git takes a small number for a year.
        let date = format!("@{date} +0000");
        let path = self.inner.path.display();
        let message = format!("rescue of the repository {path}, inside {}", self.rescuer.life.id);
        let made = |parents: &[String]| -> Result<String, Fault> {
            let git = self.rescuer.repository().with_objects(both.made_in, both.read_from);
            let mut args = vec!["-c", "core.fsync=all", "-c", "core.fsyncMethod=batch"];
            args.extend(["commit-tree", tree, "-m", &message]);
            args.extend(parents.iter().flat_map(|parent| ["-p", parent.as_str()]));
            let mut command = git.command(&args);
            rescuer::sign(&mut command);
            command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
            Ok(git.line_of("git commit-tree", command)?)
        };
        let mut parents = parents;
        while parents.len() > PARENTS_MAX {
            let rest = parents.split_off(1);
            for some in rest.chunks(PARENTS_MAX - 1) {
                parents.push(made(some)?);
            }
        }
        made(&parents)
    }

    /// Copies all objects of a commit into the outer repository.
    fn bring(&self, side: &ScratchGitDir, both: &Objects<'_>, commit: &str) -> Result<(), Fault> {
        let rescuer = self.rescuer;
        let place = side.dir.join(BUNDLED);
        let folder = place.parent().unwrap_or(&place);
        std::fs::create_dir_all(folder).map_err(paths::failed("create", folder))?;
        std::fs::write(&place, format!("{commit}\n")).map_err(paths::failed("write", &place))?;
        let file = side.dir.join("bundle");
        let git = Git::exact(&side.dir, Some(&side.dir), Some(rescuer.lock), rescuer.cancel);
        let git = git.within(command::LONG).with_objects(both.made_in, both.read_from);
        bundle::create(&git, &file, BUNDLED)?;
        bundle::unbundle(&rescuer.repository(), &file, &rescuer.common().join("objects"))?;
        removal::remove_ours_file(&file)?;
        // Verified without the nested repository: everything must be in the outer one now.
        rescuer.repository().output(["rev-list", "--objects", "--quiet", commit])?;
        Ok(())
    }
}

/// Most parents of one commit; further commits are held through intermediate commits.
const PARENTS_MAX: usize = 32;

/// Where objects are written, and where else they are read from.
struct Objects<'a> {
    made_in: &'a Path,
    read_from: &'a Path,
}
