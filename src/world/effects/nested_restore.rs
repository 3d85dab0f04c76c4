//! Puts a rescued nested repository back into a restored worktree. Only adds objects and files; its
//! raw copies are put back elsewhere.

use std::path::Path;

use crate::core::event::{NestedRescue, Rescue};
use crate::core::{Code, Fault};
use crate::world::fs::{paths, removal};
use crate::world::git::bundle;
use crate::world::git::command::{self, Git};
use crate::world::git::ref_changes::Change;
use crate::world::git::refs;
use crate::world::process::cancel::Cancel;

/// A temporary ref in the outer repository, at a commit that has no ref of its own: git makes
/// bundles of refs only. One that an interrupted restore leaves is found by a sweep.
pub(in crate::world) struct LentRef<'a> {
    pub(in crate::world) common: &'a Path,
    pub(in crate::world) name: &'a str,
}

impl LentRef<'_> {
    fn hold(&self, outer: &Git<'_>, commit: &str) -> Result<(), Fault> {
        self.delete(outer)?;
        if Change::of(outer, self.common, self.name).create(commit)? {
            return Ok(());
        }
        let message = format!("cannot create a ref that holds the commit {commit}");
        Err(Fault::new(Code::GitFailed, message, "run `git fsck` in the repository").transient())
    }

    fn delete(&self, outer: &Git<'_>) -> Result<(), Fault> {
        if refs::exists(self.common, self.name) {
            Change::of(outer, self.common, self.name).delete(None)?;
        }
        Ok(())
    }
}

/// Restores the objects and files of the nested repositories in a restored worktree. Their raw
/// copies, settings and refs among them, were put back before.
///
/// # Errors
/// Those of git, with the path of the repository.
pub(in crate::world) fn put_back(
    outer: &Git<'_>,
    saved: &Rescue,
    target: &Path,
    lent: &LentRef<'_>,
) -> Result<(), Fault> {
    for nested in &saved.nested {
        let path = paths::from_host(&nested.path);
        let place = target.join(&path);
        let put = put_one_back(outer, nested, &place, path.starts_with(".git"), lent);
        put.map_err(|fault| {
            fault.with_evidence([format!("nested repository {}", path.display())])
        })?;
    }
    Ok(())
}

/// Removes, once all copies are put back, every setting that says a nested
/// repository's files are elsewhere.
///
/// # Errors
/// When the task is cancelled.
pub(in crate::world) fn detach_all(
    saved: &Rescue,
    target: &Path,
    cancel: &Cancel,
) -> Result<(), Fault> {
    for nested in &saved.nested {
        let place = target.join(paths::from_host(&nested.path));
        let dir = place.join(".git");
        if dir.is_dir() {
            detach(&Git::exact(&dir, Some(&place), None, cancel))?;
        }
    }
    Ok(())
}

/// A submodule's settings may name the former path of its files.
fn detach(git: &Git<'_>) -> Result<(), Fault> {
    git.run(["config", "--unset-all", "core.worktree"])?;
    Ok(())
}

fn put_one_back(
    outer: &Git<'_>,
    nested: &NestedRescue,
    place: &Path,
    elsewhere: bool,
    lent: &LentRef<'_>,
) -> Result<(), Fault> {
    // Without a commit, raw copies are all that there is of it.
    let (Some(reference), Some(commit)) = (&nested.reference, &nested.commit) else {
        return Ok(());
    };
    let inside = place.join(".git");
    let dir = if inside.is_dir() { inside } else { place.to_owned() };
    if elsewhere || !dir.join("HEAD").exists() {
        // A submodule's repository without files has no place in a fresh worktree; its ref is kept.
        return Ok(());
    }
    for folder in ["objects", "refs"] {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).map_err(paths::failed("create", &folder))?;
    }
    let file = dir.join("gk-bundle");
    // The end of a fold may not be recorded yet: then the named ref is gone.
    if refs::tip(lent.common, reference).as_deref() == Some(commit) {
        bundle::create(outer, &file, reference)?;
    } else {
        lent.hold(outer, commit)?;
        bundle::create(outer, &file, lent.name)?;
        lent.delete(outer)?;
    }
    let git = Git::exact(&dir, Some(place), None, outer.cancel());
    let git = git.within(command::LONG);
    bundle::unbundle(&git, &file, &dir.join("objects"))?;
    removal::remove_ours_file(&file)?;
    if dir == place {
        return Ok(());
    }
    detach(&git)?;
    git.output(["read-tree", "--reset", "-u", commit])?;
    if let Some(head) = &nested.head {
        git.output(["read-tree", "--reset", head])?;
        let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    }
    Ok(())
}
