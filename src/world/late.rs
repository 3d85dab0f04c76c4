//! Work that came late: written into a worktree after its rescue was made, in the last moment before
//! it was moved to the trash.
//!
//! Processes were ended and the tree was looked at, but a program elsewhere may still have written
//! by path. In the trash nobody finds it by that path any more, so one look there is the last that
//! is needed: what no rescue has goes into a new one before the trash can be emptied. The tree
//! itself is not changed here.

use std::path::Path;
use std::time::Duration;

use super::git::{self, Git};
use super::remains::Task;
use super::rescue::{self, Life, Saver};
use super::{paths, size};
use crate::core::event::Rescue;
use crate::core::{Code, Fault, Time};
use crate::killpoint::point;

/// How much the clock of the file system may lie behind that of the log.
const SLACK: Duration = Duration::from_secs(1);

/// Whether anything in the tree may have been changed since it was last looked at. It was moved after
/// that: where the clock says otherwise, it says nothing of the rest either.
pub(super) fn is_possible(looked_at: Option<Time>, measured: &size::Measured) -> bool {
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
pub(super) fn rescue(task: &Task<'_>, trash: &Path) -> Result<Option<Rescue>, Fault> {
    let admin = task.admin().removed;
    if !paths::exists(&admin).map_err(paths::failed("look at", &admin))? {
        let (trash, admin) = (trash.display(), admin.display());
        let message =
            format!("what was written to {trash} last may be in no rescue: {admin} is gone");
        let hint = "bring the repository back; or remove that directory by hand, if it may go";
        return Err(Fault::new(Code::PathNotFound, message, hint).transient());
    }
    let remains = task.remains;
    let life = Life { id: &remains.id, incarnation: remains.incarnation, plan: &remains.plan };
    let git = Git::exact(&admin, Some(trash), Some(task.lock), task.cancel).within(git::LONG);
    let index = task.world.layout.scratch_index_of(life.id, life.incarnation);
    let reference = rescue::reference(life.id, life.incarnation);
    let before = rescue::commit_of(&git, &reference)?;
    // The branch may be gone, which says nothing about the tree.
    let head = rescue::head(&git)?.or_else(|| Some(remains.head.clone()).filter(|h| !h.is_empty()));
    let saver = Saver { life, index, head, before, git, admin, target: trash.to_owned() };
    let Some(found) = saver.save()? else { return Ok(None) };
    point("late.looked");
    let known = remains.rescue.as_ref().map(|rescue| rescue.commit.as_str());
    if !is_late(&saver, &found, &remains.head)? {
        let unheard = saver.before.clone().filter(|before| Some(before.as_str()) != known);
        return Ok(unheard.map(|commit| Rescue { commit, ..found }));
    }
    saver.refer(&found)?;
    Ok(Some(found))
}

/// Whether a rescue holds anything that the one before it does not: other files, another index, or
/// another HEAD. Without one before it, the commit that was known is what it is compared with.
fn is_late(saver: &Saver<'_>, found: &Rescue, head: &str) -> Result<bool, Fault> {
    let Some(before) = &saver.before else {
        let files = ["the working tree", "the index"];
        let dirty = found.holds.iter().any(|what| files.contains(&what.as_str()));
        return Ok(dirty || saver.head.as_deref().is_some_and(|now| now != head));
    };
    let (then, now) = (Held::by(saver, before)?, Held::by(saver, &found.commit)?);
    Ok(now.head != then.head || now.trees.iter().any(|tree| !then.trees.contains(tree)))
}

/// What a rescue holds: the commit that HEAD was at, and the trees of all its parts.
struct Held {
    head: Option<String>,
    trees: Vec<String>,
}

impl Held {
    fn by(saver: &Saver<'_>, commit: &str) -> Result<Self, Fault> {
        let listed = saver.git.line(["rev-list", "--parents", "--max-count=1", commit])?;
        let trees = listed.split(' ').map(|commit| saver.tree_of(commit)).collect::<Result<_, _>>();
        Ok(Self { head: listed.split(' ').nth(1).map(str::to_owned), trees: trees? })
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
            is_possible(looked_at, &size::Measured { size, last_change, moved })
        };
        assert!(!possible(Some(100), 50, 101), "old, looked at, moved");
        assert!(possible(Some(100), 101, 101), "written after the look");
        assert!(possible(Some(100), 99, 101), "the clocks may differ a little");
        assert!(possible(Some(100), 50, 60), "the clock went back in between");
        assert!(!possible(None, 101, 101), "seen to, or not wanted");
    }
}
