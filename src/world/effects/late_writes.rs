//! Late writes: work that was written into a worktree after its rescue, in the last moment before
//! the worktree was moved to the trash.
//!
//! Processes were ended and the tree was inspected, but a program elsewhere may still have written
//! by path. In the trash that path no longer leads to the tree, so one inspection there is the last
//! one needed: anything that no rescue holds goes into a new one before the trash entry can be
//! purged. The tree itself is not changed here.

use std::path::Path;
use std::time::Duration;

use crate::core::empty_is_none::non_empty;
use crate::core::event::Rescue;
use crate::core::{Code, Fault, Time};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::archive_context::Task;
use crate::world::effects::rescuer::{Rescuer, SavedWork, commit_of};
use crate::world::effects::{raw_folders, raw_list};
use crate::world::fs::{disk_usage, paths};

/// Most that the file system's clock may lag behind the log's.
const SLACK: Duration = Duration::from_secs(1);

/// Returns whether anything in the tree may have changed since its last inspection. The move
/// came later: if the timestamps say otherwise, the clock was set back, and the other
/// timestamps prove nothing either.
pub(in crate::world) fn is_possible(
    looked_at: Option<Time>,
    measured: &disk_usage::Measured,
) -> bool {
    if !guard::stands("late") {
        return false;
    }
    let after = |time: u64, looked_at: Time| Time(time).after(SLACK) >= looked_at;
    looked_at.is_some_and(|looked_at| {
        after(measured.last_change, looked_at) || !after(measured.moved, looked_at)
    })
}

/// Rescues work in the trash that no rescue holds; none if there is none. After a kill, returns the
/// rescue that was made before the kill and not recorded.
///
/// # Errors
/// Also when the repository is missing: what no rescue holds can then not be determined.
pub(in crate::world) fn rescue(task: &Task<'_>, trash: &Path) -> Result<Option<Rescue>, Fault> {
    let rescuer = rescuer(task, trash)?;
    let known = task.archive.rescue.as_ref();
    let own = commit_of(&rescuer.repository(), &rescuer.names().rescue())?;
    let before = own.or_else(|| known.and_then(|r| r.commit.clone()));
    let Some(saved) = rescuer.save()? else { return Ok(None) };
    point("late.looked");
    let late = is_late(&rescuer, &saved, known, before.as_deref(), task.archive.head.as_deref())?;
    let found = saved.rescue;
    if late {
        rescuer.refer(&found)?;
        return Ok(Some(found));
    }
    if let Some(raw) = &found.raw {
        // The new copies equal the recorded ones.
        raw_folders::forget(&paths::from_host(&raw.folder), task.cancel)?;
    }
    let recorded = known.and_then(|rescue| rescue.commit.as_deref());
    let unheard = before.filter(|before| Some(before.as_str()) != recorded);
    let raw = known.and_then(|rescue| rescue.raw.clone());
    Ok(unheard.map(|commit| Rescue { commit: Some(commit), raw, ..found }))
}

/// Rescues everything in the trash anew, because the earlier rescue is lost.
///
/// # Errors
/// As for [`rescue`].
pub(in crate::world) fn rescue_again(
    task: &Task<'_>,
    trash: &Path,
) -> Result<Option<Rescue>, Fault> {
    let mut rescuer = rescuer(task, trash)?;
    // The earlier commit and nested repositories are lost with their refs: their
    // objects may have been pruned.
    let forget = |before| Rescue { commit: None, nested: Vec::new(), ..before };
    rescuer.before = rescuer.before.take().map(forget);
    let Some(SavedWork { rescue: found, .. }) = rescuer.save()? else { return Ok(None) };
    point("late.looked");
    rescuer.refer(&found)?;
    Ok(Some(found))
}

/// Creates the rescuer for a trash entry. If the administrative directory is gone, the files are
/// saved relative to the recorded commit.
fn rescuer<'a>(task: &'a Task<'_>, trash: &Path) -> Result<Rescuer<'a>, Fault> {
    let archive = task.archive;
    let common = paths::from_host(&archive.plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        let (trash, id) = (trash.display(), &archive.id);
        let message = format!(
            "the content of {trash} may exist nowhere else: its repository {} does not exist",
            common.display()
        );
        let hint = format!(
            "restore the repository, or run `groundskeeper trash empty {id} --lose` to delete the \
             content without a rescue"
        );
        return Err(Fault::new(Code::PathNotFound, message, hint).transient());
    }
    let base = archive.base.as_ref().and_then(|b| non_empty(b.commit.clone()));
    Ok(Rescuer {
        log: task.world.log_id(),
        life: archive.life(),
        plan: &archive.plan,
        layout: &task.world.layout,
        lock: task.lock,
        cancel: task.cancel,
        admin: task.admin().removed,
        target: trash.to_owned(),
        recorded: archive.head.clone(),
        start: base.into_iter().collect(),
        before: archive.rescue.clone(),
    })
}

/// Returns whether a rescue holds anything that the earlier one does not: other files,
/// another index, another HEAD, other copies. Without an earlier one it is compared
/// with the recorded commit.
fn is_late(
    rescuer: &Rescuer<'_>,
    saved: &SavedWork,
    known: Option<&Rescue>,
    before: Option<&str>,
    head: Option<&str>,
) -> Result<bool, Fault> {
    let raw = |rescue: &Rescue| rescue.raw.clone();
    let found = &saved.rescue;
    let Some(commit) = &found.commit else {
        return Ok(
            known.is_none_or(|known| !raw_list::same(raw(known).as_ref(), raw(found).as_ref()))
        );
    };
    let Some(before) = before else {
        let now = rescuer.git_head(commit)?;
        return Ok(!saved.only_commits || now.is_some() && now.as_deref() != head);
    };
    let (then, now) = (RescueContent::by(rescuer, before)?, RescueContent::by(rescuer, commit)?);
    let trees = now.trees.iter().any(|tree| !then.trees.contains(tree));
    let copies = !raw_list::same(known.and_then(raw).as_ref(), raw(found).as_ref());
    let nested = known.map(|known| known.nested.as_slice()).unwrap_or_default();
    Ok(now.head != then.head || trees || copies || *nested != *found.nested)
}

/// The content of a rescue: the commit that HEAD was at, and the trees of all its parts.
struct RescueContent {
    head: Option<String>,
    trees: Vec<String>,
}

impl RescueContent {
    fn by(rescuer: &Rescuer<'_>, commit: &str) -> Result<Self, Fault> {
        let git = rescuer.repository();
        let listed = git.line(["rev-list", "--parents", "--max-count=1", commit])?;
        let trees =
            listed.split(' ').map(|commit| rescuer.tree_of(commit)).collect::<Result<_, _>>();
        Ok(Self { head: listed.split(' ').nth(1).map(str::to_owned), trees: trees? })
    }
}

impl Rescuer<'_> {
    /// Returns the commit that HEAD was at when a rescue was made.
    fn git_head(&self, rescue: &str) -> Result<Option<String>, Fault> {
        commit_of(&self.repository(), &format!("{rescue}^1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Size;

    /// Clock differences and clocks that went back count as possible writes.
    #[test]
    fn late_write_check_skips_proven_untouched() {
        const SECOND: u64 = 1_000_000_000;
        let possible = |looked_at: Option<u64>, last_change: u64, moved: u64| {
            let size = Size::default();
            let looked_at = looked_at.map(|s| Time(s * SECOND));
            let (last_change, moved) = (last_change * SECOND, moved * SECOND);
            is_possible(looked_at, &disk_usage::Measured { size, last_change, moved })
        };
        assert!(!possible(Some(100), 50, 101), "the last change precedes the inspection");
        assert!(possible(Some(100), 101, 101), "written after the inspection");
        assert!(possible(Some(100), 99, 101), "the clocks may differ a little");
        assert!(possible(Some(100), 50, 60), "the clock went back in between");
        assert!(!possible(None, 101, 101), "already rescued, or no rescue wanted");
    }
}
