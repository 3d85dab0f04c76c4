//! Work that came late: written into a worktree after its rescue was made, in the last moment
//! before it was moved to the trash.
//!
//! Processes were ended and the tree was looked at, but a program elsewhere may still have written
//! by path. In the trash nobody finds it by that path any more, so one look there is the last that
//! is needed: what no rescue has goes into a new one before the trash can be emptied. The tree
//! itself is not changed here.

use std::path::Path;
use std::time::Duration;

use crate::core::event::Rescue;
use crate::core::{Code, Fault, Time};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::archive_context::Task;
use crate::world::effects::raw_copies;
use crate::world::effects::rescuer::{Rescuer, commit_of};
use crate::world::fs::{disk_usage, paths};

/// How much the clock of the file system may lie behind that of the log.
const SLACK: Duration = Duration::from_secs(1);

/// Whether anything in the tree may have been changed since it was last looked at. It was moved
/// after that: where the clock says otherwise, it says nothing of the rest either.
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

/// A rescue of what lies in the trash and in no rescue; none when there is no such thing. After a
/// kill it is the one that was made before.
///
/// # Errors
/// Also when its repository is not there: nobody can tell then what no rescue has.
pub(in crate::world) fn rescue(task: &Task<'_>, trash: &Path) -> Result<Option<Rescue>, Fault> {
    let rescuer = rescuer(task, trash)?;
    let known = task.remains.rescue.as_ref();
    let own = commit_of(&rescuer.repository(), &rescuer.names().rescue())?;
    let before = own.or_else(|| known.map(|r| r.commit.clone())).filter(|c| !c.is_empty());
    let Some(found) = rescuer.save()? else { return Ok(None) };
    point("late.looked");
    if is_late(&rescuer, &found, known, before.as_deref(), &task.remains.head)? {
        rescuer.refer(&found)?;
        return Ok(Some(found));
    }
    if let Some(raw) = &found.raw {
        raw_copies::forget(&paths::from_host(&raw.folder), task.cancel)?;
    }
    let said = known.map(|rescue| rescue.commit.as_str());
    let unheard = before.filter(|before| Some(before.as_str()) != said);
    let raw = known.and_then(|rescue| rescue.raw.clone());
    Ok(unheard.map(|commit| Rescue { commit, raw, ..found }))
}

/// A rescue of all that lies in the trash, made anew because the one before it has gone.
///
/// # Errors
/// As for [`rescue`].
pub(in crate::world) fn rescue_again(
    task: &Task<'_>,
    trash: &Path,
) -> Result<Option<Rescue>, Fault> {
    let mut rescuer = rescuer(task, trash)?;
    // What it held beside this is gone with its ref; its objects may not be there any more.
    let forget = |before| Rescue { commit: String::new(), nested: Vec::new(), ..before };
    rescuer.before = rescuer.before.take().map(forget);
    let Some(found) = rescuer.save()? else { return Ok(None) };
    point("late.looked");
    rescuer.refer(&found)?;
    Ok(Some(found))
}

/// What saves from the trash. Where the administrative directory is gone, the files are saved
/// against the recorded commit.
fn rescuer<'a>(task: &'a Task<'_>, trash: &Path) -> Result<Rescuer<'a>, Fault> {
    let remains = task.remains;
    let common = paths::from_host(&remains.plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("look at", &common))? {
        let (trash, id) = (trash.display(), &remains.id);
        let message = format!(
            "what is in {trash} may be nowhere else: its repository {} is gone",
            common.display()
        );
        let hint = format!(
            "bring the repository back; `groundskeeper trash empty {id} --lose` unlinks it without"
        );
        return Err(Fault::new(Code::PathNotFound, message, hint).transient());
    }
    let base = remains.base.as_ref().map(|b| b.commit.clone()).unwrap_or_default();
    Ok(Rescuer {
        log: task.world.log_id(),
        life: remains.life(),
        plan: &remains.plan,
        layout: &task.world.layout,
        lock: task.lock,
        cancel: task.cancel,
        admin: task.admin().removed,
        target: trash.to_owned(),
        fallback: vec![remains.head.clone(), base],
        before: remains.rescue.clone(),
    })
}

/// Whether a rescue holds anything that the one before it does not: other files, another index,
/// another HEAD, other copies. Without one before it, the commit that was known is what it is
/// compared with.
fn is_late(
    rescuer: &Rescuer<'_>,
    found: &Rescue,
    known: Option<&Rescue>,
    before: Option<&str>,
    head: &str,
) -> Result<bool, Fault> {
    let raw = |rescue: &Rescue| rescue.raw.clone();
    if found.commit.is_empty() {
        return Ok(
            known.is_none_or(|known| !raw_copies::same(raw(known).as_ref(), raw(found).as_ref()))
        );
    }
    let Some(before) = before else {
        let commits = |what: &String| what.ends_with(" commits");
        let work = found.holds.iter().any(|what| !commits(what)) || !found.lacks.is_empty();
        let now = rescuer.git_head(&found.commit)?;
        return Ok(work || now.is_some_and(|now| now != head));
    };
    let (then, now) = (Held::by(rescuer, before)?, Held::by(rescuer, &found.commit)?);
    let trees = now.trees.iter().any(|tree| !then.trees.contains(tree));
    let copies = !raw_copies::same(known.and_then(raw).as_ref(), raw(found).as_ref());
    let nested = known.map(|known| known.nested.as_slice()).unwrap_or_default();
    Ok(now.head != then.head || trees || copies || *nested != *found.nested)
}

/// What a rescue holds: the commit that HEAD was at, and the trees of all its parts.
struct Held {
    head: Option<String>,
    trees: Vec<String>,
}

impl Held {
    fn by(rescuer: &Rescuer<'_>, commit: &str) -> Result<Self, Fault> {
        let git = rescuer.repository();
        let listed = git.line(["rev-list", "--parents", "--max-count=1", commit])?;
        let trees =
            listed.split(' ').map(|commit| rescuer.tree_of(commit)).collect::<Result<_, _>>();
        Ok(Self { head: listed.split(' ').nth(1).map(str::to_owned), trees: trees? })
    }
}

impl Rescuer<'_> {
    /// The commit that HEAD was at when a rescue was made.
    fn git_head(&self, rescue: &str) -> Result<Option<String>, Fault> {
        commit_of(&self.repository(), &format!("{rescue}^1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Size;

    #[test]
    fn only_what_was_surely_not_touched_is_not_looked_at() {
        const SECOND: u64 = 1_000_000_000;
        let possible = |looked_at: Option<u64>, last_change: u64, moved: u64| {
            let size = Size::default();
            let looked_at = looked_at.map(|s| Time(s * SECOND));
            let (last_change, moved) = (last_change * SECOND, moved * SECOND);
            is_possible(looked_at, &disk_usage::Measured { size, last_change, moved })
        };
        assert!(!possible(Some(100), 50, 101), "old, looked at, moved");
        assert!(possible(Some(100), 101, 101), "written after the look");
        assert!(possible(Some(100), 99, 101), "the clocks may differ a little");
        assert!(possible(Some(100), 50, 60), "the clock went back in between");
        assert!(!possible(None, 101, 101), "seen to, or not wanted");
    }
}
