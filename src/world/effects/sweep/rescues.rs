//! Finds rescues that the log records and that nothing in the repository holds any more: their refs
//! were deleted by hand, or a prune met a killed fold. As long as git has the commits, they are
//! held again. Drops nothing, and never moves a ref that the user has put where it is: a damaged
//! fold goes only when each rescue in it has a ref of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::core::event::{Finding, Rescue, is_folded};
use crate::core::{ArchiveStep, ArchivedIncarnation, Code, Fault};
use crate::world::effects::sweep::task::{SettleAction, Task, finding};
use crate::world::effects::{fold_rescues, rescuer};
use crate::world::fs::lock_file::LockFile;
use crate::world::fs::names::{self, Names};
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::fold::{self, Fold};
use crate::world::git::fold_damage;
use crate::world::git::ref_batch::RefBatch;
use crate::world::git::ref_changes::Change;
use crate::world::git::refs;
use crate::world::process::subprocess;

/// Kind of the findings.
const LOST_RESCUE: &str = "rescue";
/// Most rescues that one sweep holds again, and most that a finding names.
const HELD_MAX: usize = 1_000;
const NAMED_MAX: usize = 8;
/// Looks at the lock of a fold in progress, and the pause between two.
const LOCK_TRIES: u32 = 100;
const LOCK_TURN: Duration = Duration::from_millis(50);
/// Commits that are checked by one git call.
const CHECKED_AT_ONCE: usize = 100;

/// A part of a rescue: the worktree's, or that of a repository that was nested in it.
#[derive(Debug, Clone)]
struct Part<'a> {
    archive: &'a ArchivedIncarnation,
    /// The ref of its own, which is also its name in the fold.
    name: String,
    commit: &'a str,
    is_folded: bool,
}

/// What the ref of folded rescues leads to.
enum FoldFound {
    /// A fold, or nothing.
    Whole(Fold),
    /// A commit of which git lacks an object, for certain.
    Damaged { tip: String },
    /// What the user or another program put there.
    Foreign,
}

impl FoldFound {
    /// Reads the ref. An error of any other kind is no evidence of damage.
    fn read(git: &Git<'_>, common: &Path, reference: &str) -> Result<Self, Fault> {
        let error = match Fold::read(git, common, reference) {
            Ok(fold) => return Ok(Self::Whole(fold)),
            Err(git::Error::NotAFold { .. }) => return Ok(Self::Foreign),
            Err(error) => error,
        };
        let Some(tip) = refs::tip(common, reference) else { return Err(error.into()) };
        if fold_damage::lacks_objects(git, &tip)? {
            Ok(Self::Damaged { tip })
        } else {
            Err(error.into())
        }
    }

    fn commits(&self) -> BTreeSet<&str> {
        match self {
            Self::Whole(fold) => fold.entries().map(|(_, commit)| commit).collect(),
            Self::Damaged { .. } | Self::Foreign => BTreeSet::new(),
        }
    }
}

impl Task<'_> {
    /// Finds the rescues of a repository that nothing holds any more, and a damaged fold.
    pub(super) fn rescues(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        let reference = names::folded(&self.world.log_id);
        let recorded = self.recorded(common);
        let is_concerned = !recorded.is_empty() || refs::exists(common, &reference);
        if !is_concerned || !refs::are_files(common) {
            return;
        }
        let git = Git::exact(common, None, None, self.cancel).within(command::LONG);
        let looked = FoldFound::read(&git, common, &reference).and_then(|fold| {
            let lost = self.not_held(common, &recorded, &fold)?;
            Ok((whole(&git, &lost)?, lost, fold))
        });
        let (whole, lost, fold) = match looked {
            Ok(looked) => looked,
            // What cannot be read is no evidence.
            Err(fault) => return tracing::warn!(%fault, repository = %common.display(), "unread"),
        };
        let (there, gone): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|part| whole.contains(part.commit));
        let detail = match fold {
            FoldFound::Damaged { .. } => Some(format!("{reference} lacks objects")),
            _ if there.is_empty() => None,
            _ => Some(format!("nothing holds the rescue of {}", list(&there))),
        };
        if let Some(detail) = detail {
            // A log that was put back may know rescues that were dropped since.
            let is_current = self.state.found_older().is_none();
            let settle = SettleAction::HoldRescues(common.to_owned());
            let settle = if is_current { settle } else { SettleAction::No };
            found.push((finding(LOST_RESCUE, common, is_current, detail), settle));
        }
        if let Some(first) = gone.first() {
            let detail = format!(
                "the rescue of {} is lost: git has deleted objects of its commit {}; fetch it from \
                 another clone that has it",
                list(&gone),
                first.commit
            );
            found.push((finding(LOST_RESCUE, common, false, detail), SettleAction::No));
        }
    }

    /// Holds the rescues of a repository again that nothing holds, as far as git has them: as the
    /// log records it, by a ref or in the fold.
    ///
    /// # Errors
    /// When some of them are still not held. A later sweep tries again.
    pub(super) fn hold_rescues(&self, common: &Path) -> Result<(), Fault> {
        let reference = names::folded(&self.world.log_id);
        let recorded = self.recorded(common);
        let seen = {
            let git = Git::exact(common, None, None, self.cancel).within(command::LONG);
            self.not_held(common, &recorded, &FoldFound::read(&git, common, &reference)?)?
        };
        // These locks first: a fold in progress has one of them, and waits for the other lock.
        let (seen, _locks) = self.unchanged(seen);
        let lock = self.world.lock_folds(self.cancel)?;
        let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
        // Nothing refers to them, so they are what a prune deletes.
        fold_rescues::refuse_during_gc(common)?;
        let fold = FoldFound::read(&git, common, &reference)?;
        let lost = self.not_held(common, &seen, &fold)?;
        let there = whole(&git, &lost)?;
        let lost = lost.into_iter().filter(|part| there.contains(part.commit));
        // Into a fold that is whole, or anew where there is none: both add, and take nothing away.
        let into_fold = |part: &Part<'_>| part.is_folded && matches!(fold, FoldFound::Whole(_));
        let (folded, own): (Vec<_>, Vec<_>) = lost.partition(into_fold);
        for part in &own {
            hold_by_ref(&git, common, part)?;
        }
        match fold {
            FoldFound::Whole(fold) if !folded.is_empty() => {
                self.add_to_fold(&git, common, fold, folded)?;
            }
            FoldFound::Damaged { tip } if self.is_superfluous(&git, common, &recorded)? => {
                Change::of(&git, common, &reference).delete(Some(&tip))?;
            }
            FoldFound::Whole(_) | FoldFound::Damaged { .. } | FoldFound::Foreign => {}
        }
        let fold = FoldFound::read(&git, common, &reference)?;
        let left = self.left(&git, common, (&recorded, &fold))?;
        if left.is_empty() && !matches!(fold, FoldFound::Damaged { .. }) {
            return Ok(());
        }
        let message = format!("some rescues are still not held: {}", list(&left));
        let hint = "run `groundskeeper sweep --apply` again, or wait for the next sweep";
        Err(Fault::new(Code::GitFailed, message, hint))
    }

    fn add_to_fold(
        &self,
        git: &Git<'_>,
        common: &Path,
        mut fold: Fold,
        parts: Vec<Part<'_>>,
    ) -> Result<(), Fault> {
        let reference = names::folded(&self.world.log_id);
        let before = fold.tip.clone();
        fold.add(parts.into_iter().map(|part| (part.name, part.commit.to_owned())).collect());
        let scratch = self.world.layout.scratch().join("fold");
        let made = fold.write(git, &scratch);
        removal::remove_ours_file(&scratch)?;
        Ok(fold::advance(git, common, &reference, &made?, before.as_deref())?)
    }

    /// Returns whether a damaged fold holds nothing alone: every rescue that the log says is folded
    /// has a ref of its own, and no other is without one.
    fn is_superfluous(
        &self,
        git: &Git<'_>,
        common: &Path,
        recorded: &[Part<'_>],
    ) -> Result<bool, Fault> {
        if !self.left(git, common, (recorded, &FoldFound::Foreign))?.is_empty() {
            return Ok(false);
        }
        let at = paths::to_host(common);
        let reference = names::folded(&self.world.log_id);
        let archives = self.state.archives().filter(|a| a.plan.repository.common_dir == at);
        let mut expected = BTreeMap::new();
        for archive in archives {
            let refs = archive.rescue.iter().flat_map(Rescue::references);
            let folded = refs.filter(|(name, _)| *name == reference).count();
            let own = self.parts(archive).into_iter().filter(|part| part.is_folded);
            let before = expected.len();
            expected.extend(own.map(|part| (part.name, part.commit.to_owned())));
            if expected.len() - before != folded {
                return Ok(false);
            }
        }
        let (refs, log) = (&expected, self.world.log_id.as_str());
        let standing = RefBatch { common, refs, log, cancel: self.cancel }.standing()?;
        Ok(standing.there.len() == expected.len())
    }

    /// Returns the rescues that git has and that are not held. Of very many it is not asked whether
    /// git has them, and they count as left.
    fn left<'s>(
        &self,
        git: &Git<'_>,
        common: &Path,
        (recorded, fold): (&[Part<'s>], &FoldFound),
    ) -> Result<Vec<Part<'s>>, Fault> {
        let mut left = self.not_held(common, recorded, fold)?;
        if left.len() <= HELD_MAX {
            let whole = whole(git, &left)?;
            left.retain(|part| whole.contains(part.commit));
        }
        Ok(left)
    }

    /// Returns those parts of which no step of an archive drops anything while the locks are held,
    /// up to a bound.
    fn unchanged<'s>(&self, mut parts: Vec<Part<'s>>) -> (Vec<Part<'s>>, Vec<LockFile>) {
        parts.truncate(HELD_MAX);
        let mut locks = BTreeMap::new();
        for part in &parts {
            let (id, life) = (&part.archive.id, part.archive.incarnation);
            if !locks.contains_key(&(id, life))
                && let Some(lock) = self.lock_of(part.archive)
                && self.is_unchanged(part.archive)
            {
                locks.insert((id, life), lock);
            }
        }
        parts.retain(|part| locks.contains_key(&(&part.archive.id, part.archive.incarnation)));
        (parts, locks.into_values().collect())
    }

    /// Takes the lock of an archive. That of one which carries a fold is waited for, since a fold
    /// that cannot go on soon ends.
    fn lock_of(&self, archive: &ArchivedIncarnation) -> Option<LockFile> {
        let path = self.world.layout.lock_of_archive(&archive.id, archive.incarnation);
        let tries = if archive.owed.is_some() { LOCK_TRIES } else { 1 };
        for _ in 0..tries {
            if let Ok(Some(lock)) = LockFile::try_take(&path) {
                return Some(lock);
            }
            if tries > 1 {
                drop(subprocess::poll_all(&[self.cancel.as_fd()], LOCK_TURN));
            }
        }
        None
    }

    /// Returns the parts of the rescues of a repository that no operation is in progress with.
    fn recorded(&self, common: &Path) -> Vec<Part<'_>> {
        let at = paths::to_host(common);
        let is_still = |archive: &&ArchivedIncarnation| {
            let owed = archive.owed.as_ref().map(|owed| owed.step);
            archive.plan.repository.common_dir == at
                && archive.restoring.is_none()
                && matches!(owed, None | Some(ArchiveStep::FoldRescues))
        };
        let archives = self.state.archives().filter(is_still);
        archives.flat_map(|archive| self.parts(archive)).collect()
    }

    /// Returns the parts of a rescue that this log gave their names. Those of another log, of which
    /// this one is a copy, are that log's to drop; and so are names without a nonce, which several
    /// logs gave.
    fn parts<'s>(&self, archive: &'s ArchivedIncarnation) -> Vec<Part<'s>> {
        let Some(rescue) = &archive.rescue else { return Vec::new() };
        let names = Names::of(&self.world.log_id, archive.life());
        let fold = names::folded(&self.world.log_id);
        let part = |reference: &Option<String>, commit: &'s Option<String>, own: String| {
            let (reference, commit) = (reference.as_deref()?, commit.as_deref()?);
            let is_folded = is_folded(reference);
            let is_own = archive.nonce.is_some() && (reference == fold || reference == own);
            is_own.then_some(Part { archive, name: own, commit, is_folded })
        };
        let outer = part(&rescue.reference, &rescue.commit, names.rescue());
        let nested = rescue.nested.iter().filter_map(|nested| {
            part(&nested.reference, &nested.commit, names.nested(nested.path.as_bytes()))
        });
        outer.into_iter().chain(nested).collect()
    }

    /// Returns the parts that have no ref and are in no fold. One with a ref at another commit
    /// is left to the user, who put it there.
    fn not_held<'s>(
        &self,
        common: &Path,
        parts: &[Part<'s>],
        fold: &FoldFound,
    ) -> Result<Vec<Part<'s>>, Fault> {
        let refs = parts.iter().map(|part| (part.name.clone(), part.commit.to_owned()));
        let (refs, log) = (refs.collect(), self.world.log_id.as_str());
        let standing = RefBatch { common, refs: &refs, log, cancel: self.cancel }.standing()?;
        self.cancel.check()?;
        let held = fold.commits();
        let is_lost =
            |part: &&Part<'_>| standing.absent.contains(&part.name) && !held.contains(part.commit);
        Ok(parts.iter().filter(is_lost).cloned().collect())
    }

    /// Returns whether nothing was recorded about an environment since the state was copied. A drop
    /// that was requested meanwhile has a record before it begins.
    fn is_unchanged(&self, archive: &ArchivedIncarnation) -> bool {
        let index = self.world.former_lives.get();
        index.is_some_and(|index| !index.has_changed_since(&archive.id, self.state.seq()))
    }
}

fn hold_by_ref(git: &Git<'_>, common: &Path, part: &Part<'_>) -> Result<(), Fault> {
    let change = Change::of(git, common, &part.name);
    if !change.create(part.commit)? {
        return Ok(());
    }
    // A prune may have been faster; a ref to missing objects would stop the user's git.
    if rescuer::is_whole(git, part.commit).is_err() {
        change.delete(Some(part.commit))?;
    }
    Ok(())
}

/// Returns the commits of which every object exists. A ref to another would stop the user's git.
fn whole(git: &Git<'_>, parts: &[Part<'_>]) -> Result<BTreeSet<String>, Fault> {
    let commits: BTreeSet<&str> = parts.iter().map(|part| part.commit).collect();
    let there: Vec<String> = fold::existing(git, &commits)?.into_iter().collect();
    let mut whole = BTreeSet::new();
    for some in there.chunks(CHECKED_AT_ONCE) {
        let list = ["rev-list", "--objects", "--quiet"].into_iter();
        let but = ["--not", "--branches", "--tags", "--remotes"];
        let all = list.chain(some.iter().map(String::as_str)).chain(but);
        if git.run(all)?.status.success() {
            whole.extend(some.iter().cloned());
            continue;
        }
        // One of them, or a bad ref of the user's.
        for commit in some {
            if rescuer::is_whole(git, commit).is_ok() {
                whole.insert(commit.clone());
            }
        }
    }
    Ok(whole)
}

fn list(parts: &[Part<'_>]) -> String {
    let lives: BTreeSet<String> = parts
        .iter()
        .map(|part| format!("{} (incarnation {})", part.archive.id, part.archive.incarnation))
        .collect();
    let more = lives.len().saturating_sub(NAMED_MAX);
    let named: Vec<String> = lives.into_iter().take(NAMED_MAX).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}
