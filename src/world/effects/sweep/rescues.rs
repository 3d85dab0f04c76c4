//! Finds rescues that the log records and that nothing in the repository holds any more: their refs
//! were deleted by hand, or a prune met a killed fold. As long as git has the commits, they are
//! held again. Drops nothing, and never moves a ref that the user has put where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::core::event::{Finding, is_folded};
use crate::core::{ArchiveStep, ArchivedIncarnation, Code, Fault};
use crate::world::effects::rescuer;
use crate::world::effects::sweep::task::{SettleAction, Task, finding};
use crate::world::fs::lock_file::LockFile;
use crate::world::fs::names::{self, Names};
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::fold::{self, Fold};
use crate::world::git::ref_batch::RefBatch;
use crate::world::git::ref_changes::Change;
use crate::world::git::refs;

/// Kind of the findings.
const LOST_RESCUE: &str = "rescue";
/// Most rescues that one sweep holds again, and most that a finding names.
const HELD_MAX: usize = 1_000;
const NAMED_MAX: usize = 8;
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
    /// Something of which objects are missing.
    Damaged,
    /// What the user or another program put there.
    Foreign,
}

impl FoldFound {
    fn read(git: &Git<'_>, common: &Path, reference: &str) -> Self {
        match Fold::read(git, common, reference) {
            Ok(fold) => Self::Whole(fold),
            Err(git::Error::NotAFold { .. }) => Self::Foreign,
            Err(error) => {
                tracing::warn!(%error, reference, "cannot read the folded rescues");
                Self::Damaged
            }
        }
    }

    fn commits(&self) -> BTreeSet<&str> {
        match self {
            Self::Whole(fold) => fold.entries().map(|(_, commit)| commit).collect(),
            Self::Damaged | Self::Foreign => BTreeSet::new(),
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
        let fold = FoldFound::read(&git, common, &reference);
        let lost = self.not_held(common, &recorded, &fold).and_then(|lost| {
            let commits: BTreeSet<&str> = lost.iter().map(|part| part.commit).collect();
            Ok((fold::existing(&git, &commits)?, lost))
        });
        let (exist, lost) = match lost {
            Ok(lost) => lost,
            // What cannot be read is no evidence.
            Err(fault) => return tracing::debug!(%fault, repository = %common.display(), "unread"),
        };
        let (there, gone): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|part| exist.contains(part.commit));
        let detail = match fold {
            FoldFound::Damaged => Some(format!("{reference} lacks objects")),
            _ if there.is_empty() => None,
            _ => Some(format!("nothing holds the rescue of {}", list(&there))),
        };
        if let Some(detail) = detail {
            let settle = SettleAction::HoldRescues(common.to_owned());
            found.push((finding(LOST_RESCUE, common, true, detail), settle));
        }
        if let Some(first) = gone.first() {
            let detail = format!(
                "the rescue of {} is lost: git has deleted its commit {}; fetch it from another \
                 clone that has it",
                list(&gone),
                first.commit
            );
            found.push((finding(LOST_RESCUE, common, false, detail), SettleAction::No));
        }
    }

    /// Holds the rescues of a repository again that nothing holds: as the log records it, by a ref
    /// or in the fold.
    pub(super) fn hold_rescues(&self, common: &Path) -> Result<(), Fault> {
        let reference = names::folded(&self.world.log_id);
        let lock = self.world.lock_folds(self.cancel)?;
        let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
        let fold = FoldFound::read(&git, common, &reference);
        let recorded = self.recorded(common);
        let (lost, _locks) = self.unchanged(self.not_held(common, &recorded, &fold)?);
        let whole = whole(&git, &lost)?;
        let lost = lost.into_iter().filter(|part| whole.contains(part.commit));
        let into_fold = |part: &Part<'_>| part.is_folded && !matches!(fold, FoldFound::Foreign);
        let (folded, own): (Vec<_>, Vec<_>) = lost.partition(into_fold);
        for part in &own {
            Change::of(&git, common, &part.name).create(part.commit)?;
        }
        let (mut fold, is_damaged) = match fold {
            FoldFound::Whole(fold) => (fold, false),
            // It is replaced: the log has what it held.
            FoldFound::Damaged => (Fold::default(), true),
            FoldFound::Foreign => return Ok(()),
        };
        fold.add(folded.into_iter().map(|part| (part.name, part.commit.to_owned())).collect());
        let tip = refs::tip(common, &reference);
        if fold.is_empty() {
            let deleted =
                is_damaged.then(|| Change::of(&git, common, &reference).delete(tip.as_deref()));
            return Ok(deleted.unwrap_or(Ok(()))?);
        }
        let scratch = self.world.layout.scratch().join("fold");
        let made = fold.write(&git, &scratch);
        removal::remove_ours_file(&scratch)?;
        Ok(fold::advance(&git, common, &reference, &made?, tip.as_deref())?)
    }

    /// Returns those parts of which no step of an archive drops anything while the locks are held,
    /// up to a bound.
    fn unchanged<'s>(&self, mut parts: Vec<Part<'s>>) -> (Vec<Part<'s>>, Vec<LockFile>) {
        parts.truncate(HELD_MAX);
        let mut locks = BTreeMap::new();
        for part in &parts {
            let id = &part.archive.id;
            if !locks.contains_key(id)
                && let Ok(lock) = self.hold(id.as_str())
                && self.is_unchanged(part.archive)
            {
                locks.insert(id.clone(), lock);
            }
        }
        parts.retain(|part| locks.contains_key(&part.archive.id));
        (parts, locks.into_values().collect())
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

    fn parts<'s>(&self, archive: &'s ArchivedIncarnation) -> Vec<Part<'s>> {
        let Some(rescue) = &archive.rescue else { return Vec::new() };
        let names = Names::of(&self.world.log_id, archive.life());
        let part = |reference: &Option<String>, commit: &'s Option<String>, own: String| {
            let (reference, commit) = (reference.as_deref()?, commit.as_deref()?);
            let is_folded = is_folded(reference);
            let name = if is_folded { own } else { reference.to_owned() };
            Some(Part { archive, name, commit, is_folded })
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

/// Returns the commits of which every object exists. A ref to another would stop the user's git.
fn whole(git: &Git<'_>, parts: &[Part<'_>]) -> Result<BTreeSet<String>, Fault> {
    let mut whole = BTreeSet::new();
    for some in parts.chunks(CHECKED_AT_ONCE) {
        let list = ["rev-list", "--objects", "--quiet"];
        let all = list.into_iter().chain(some.iter().map(|part| part.commit));
        if git.run(all)?.status.success() {
            whole.extend(some.iter().map(|part| part.commit.to_owned()));
            continue;
        }
        for part in some {
            match rescuer::is_whole(git, part.commit) {
                Ok(()) => drop(whole.insert(part.commit.to_owned())),
                Err(fault) if fault.code == Code::Cancelled => return Err(fault),
                Err(_) => {}
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
