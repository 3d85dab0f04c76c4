//! The step that folds rescues: the refs of many become entries of one ref. And its reverse for one
//! rescue: the removal of its entry.
//!
//! Every rescue is reachable at each instant. The ref that holds all is moved first, by its old
//! value; only then, and after a pause, are the others deleted. Killed anywhere, the next attempt
//! finds what is folded already. Never touches a ref that another log made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::core::event::{FoldedRescue, Rescue, is_folded};
use crate::core::{ArchiveOutcome, ArchivedIncarnation, Code, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::archive::Throttle;
use crate::world::effects::archive_context::Task;
use crate::world::fs::names::{self, Names, RESCUES};
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::fold::{self, Fold};
use crate::world::git::locks;
use crate::world::git::own_packs::OwnPacks;
use crate::world::git::ref_batch::RefBatch;
use crate::world::git::ref_changes::Change;
use crate::world::git::refs;
use crate::world::process::subprocess;

/// Attempts to move the ref, which another daemon's last git may have moved.
const TRIES_MAX: u32 = 3;
/// Pause between moving the ref that holds all and deleting the others. A `git gc` of the user that
/// read the former before, and reads the latter afterwards, would find a rescue in neither; it has
/// read all refs within this time.
const PAUSE: Duration = Duration::from_secs(5);

/// The refs of a fold in progress, each with its commit.
struct Held {
    /// Those that the fold holds and that exist besides.
    there: BTreeMap<String, String>,
    /// Those that the fold holds and that do not exist any more.
    absent: BTreeSet<String>,
    /// The fold, as it was when the ref was moved to it.
    fold: Fold,
}

impl Task<'_> {
    /// Performs [`ArchiveStep::FoldRescues`](crate::core::ArchiveStep::FoldRescues).
    pub(super) fn fold_rescues(&self) -> Result<ArchiveOutcome, Fault> {
        let common = paths::from_host(&self.archive.plan.repository.common_dir);
        let log = &self.world.log_id;
        let reference = names::folded(log);
        if self.to_fold.is_empty() {
            // All of them were dropped or restored meanwhile.
            return Ok(ArchiveOutcome::Folded(reference, Vec::new()));
        }
        let wanted: BTreeMap<String, String> = self
            .to_fold
            .iter()
            .flat_map(refs_of)
            .filter(|(name, _)| name.starts_with(RESCUES) && !names::is_of_another_log(name, log))
            .map(|(name, commit)| (name.to_owned(), commit.to_owned()))
            .collect();
        let held = self.hold_in_fold(&common, &reference, &wanted)?;
        point("fold.referenced");
        let lists = held.fold.own_objects().clone();
        let gone = self.delete_folded(&common, &reference, held)?;
        point("fold.unreferenced");
        let folded: Vec<FoldedRescue> =
            self.to_fold.iter().filter_map(|archive| folded_of(archive, &gone)).collect();
        let commits = folded.iter().flat_map(|rescue| rescue.commits.iter().cloned()).collect();
        self.pack_objects(&common, &commits, &lists);
        if folded.is_empty() {
            let message = format!("no rescue of {} could be folded", common.display());
            let hint = "run `git for-each-ref refs/groundskeeper/rescue` in the repository: the \
                        refs that `groundskeeper rescue ls` lists do not exist, or have been moved";
            return Err(Fault::new(Code::GitFailed, message, hint));
        }
        Ok(ArchiveOutcome::Folded(reference, folded))
    }

    /// Deletes the refs that the fold makes superfluous. Returns those that do not exist any more.
    fn delete_folded(
        &self,
        common: &Path,
        reference: &str,
        held: Held,
    ) -> Result<BTreeSet<String>, Fault> {
        let (mut gone, refs, mut fold) = (held.absent, &held.there, held.fold);
        if !refs.is_empty() {
            drop(subprocess::poll_all(&[self.cancel.as_fd()], PAUSE));
            self.cancel.check()?;
        }
        let lock = self.world.lock_folds(self.cancel)?;
        let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
        let found = self.mend(&git, common, reference, &mut fold)?;
        refuse_during_gc(common)?;
        sync_folders(common, reference)?;
        if refs.iter().any(|(name, commit)| found.commit_of(name) != Some(commit)) {
            let message = format!("{reference} was changed while rescues were folded");
            return Err(Fault::new(Code::GitFailed, message, "the step is retried").transient());
        }
        // A lock of another holder stays: the owner of the ref, if any, is not excluded here.
        for name in refs.keys() {
            locks::drop_if_dead(&locks::of(&common.join(name)));
        }
        let (log, cancel) = (self.world.log_id.as_str(), self.cancel);
        let batch = RefBatch { common, refs, log, cancel };
        let longest = batch.delete()?;
        tracing::debug!(refs = refs.len(), ?longest, "deleted the refs of folded rescues");
        // A prune that began before the ref was moved may have ended only now.
        self.mend(&git, common, reference, &mut fold)?;
        gone.extend(batch.standing()?.absent);
        Ok(gone)
    }

    /// Makes the fold hold these commits, as far as their refs are at them, and returns those that
    /// it holds.
    fn hold_in_fold(
        &self,
        common: &Path,
        reference: &str,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Held, Fault> {
        let lock = self.world.lock_folds(self.cancel)?;
        let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
        refuse_during_gc(common)?;
        let mut tries = 0;
        loop {
            let mut fold = Fold::read(&git, common, reference)?;
            let (log, cancel) = (self.world.log_id.as_str(), self.cancel);
            let standing = RefBatch { common, refs: wanted, log, cancel }.standing()?;
            let is_known = |name: &str| fold.commit_of(name) == wanted.get(name).map(|c| &**c);
            let fresh = standing.there.iter().filter(|name| !is_known(name));
            let fresh: BTreeMap<String, String> =
                fresh.filter_map(|name| wanted.get_key_value(name)).map(owned).collect();
            let commits: BTreeSet<&str> = fresh.values().map(String::as_str).collect();
            let exist = fold::existing(&git, &commits)?;
            let fresh: BTreeMap<String, String> =
                fresh.into_iter().filter(|(_, commit)| exist.contains(commit)).collect();
            if !fresh.is_empty() {
                let old = fold.tip.clone();
                fold.add(fresh);
                let made = self.write(&git, &mut fold)?;
                point("fold.committed");
                if let Err(error) = fold::advance(&git, common, reference, &made, old.as_deref()) {
                    tries += 1;
                    if tries >= TRIES_MAX {
                        return Err(error.into());
                    }
                    continue;
                }
                fold.tip = Some(made);
            }
            let holds = |name: &&String| fold.commit_of(name) == wanted.get(*name).map(|c| &**c);
            let there = standing.there.iter().filter(holds);
            let there = there.filter_map(|name| wanted.get_key_value(name)).map(owned).collect();
            let absent = standing.absent.iter().filter(holds).cloned().collect();
            return Ok(Held { there, absent, fold });
        }
    }

    /// Packs the objects of folded rescues, and those of folds, of which each change leaves eight
    /// or more. They are as safe without: what fails is left loose.
    fn pack_objects(&self, common: &Path, commits: &BTreeSet<String>, lists: &BTreeSet<String>) {
        let packed = self.world.lock_packs(self.cancel).and_then(|lock| {
            let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
            let mut throttle = Throttle::new(self.cancel);
            let packs = OwnPacks { git: &git, common, lock: &lock };
            packs.pack(commits, lists, &mut || throttle.throttle())
        });
        if let Err(fault) = packed {
            tracing::warn!(%fault, repository = %common.display(), "rescues were not packed");
        }
    }

    /// Returns the fold as it is now, written anew if its commits are damaged. A prune that read
    /// the refs before the ref was moved deletes them as unreachable. They are the same when
    /// written again: the ref, which names them already, keeps them from every later prune.
    fn mend(
        &self,
        git: &Git<'_>,
        common: &Path,
        reference: &str,
        known: &mut Fold,
    ) -> Result<Fold, Fault> {
        let damage = match Fold::read(git, common, reference) {
            Ok(found) => return Ok(found),
            Err(damage) => damage,
        };
        if known.tip.is_none() || refs::tip(common, reference) != known.tip {
            return Err(damage.into());
        }
        known.forget_written();
        self.write(git, known)?;
        tracing::warn!(%damage, reference, "wrote a fold again that had lost objects");
        Ok(Fold::read(git, common, reference)?)
    }

    fn write(&self, git: &Git<'_>, fold: &mut Fold) -> Result<String, Fault> {
        let scratch = self.world.layout.scratch().join("fold");
        let made = fold.write(git, &scratch);
        removal::remove_ours_file(&scratch)?;
        Ok(made?)
    }

    /// Removes what the fold holds of this incarnation. Its commits are then reachable no more; the
    /// objects go when the user's git prunes them.
    pub(super) fn drop_from_fold(&self, common: &Path) -> Result<(), Fault> {
        let reference = names::folded(&self.world.log_id);
        if !refs::exists(common, &reference) {
            return Ok(());
        }
        if let Some(changed) = self.remove_from_fold(common, &reference)? {
            self.pack_objects(common, &BTreeSet::new(), changed.own_objects());
        }
        Ok(())
    }

    /// Removes the entries of this incarnation, and returns the fold without them; none if there
    /// are none.
    fn remove_from_fold(&self, common: &Path, reference: &str) -> Result<Option<Fold>, Fault> {
        let lock = self.world.lock_folds(self.cancel)?;
        let git = Git::exact(common, None, Some(&lock), self.cancel).within(command::LONG);
        let mut tries = 0;
        loop {
            let mut fold = Fold::read(&git, common, reference)?;
            let own: BTreeSet<String> = fold
                .entries()
                .filter(|entry| self.is_own_entry(*entry))
                .map(|e| e.0.into())
                .collect();
            if !fold.remove(&own.iter().map(String::as_str).collect()) {
                return Ok(None);
            }
            let old = fold.tip.clone();
            let moved = if fold.is_empty() {
                Change::of(&git, common, reference).delete(old.as_deref())
            } else {
                let made = self.write(&git, &mut fold)?;
                let moved = fold::advance(&git, common, reference, &made, old.as_deref());
                fold.tip = Some(made);
                moved
            };
            point("fold.dropped");
            match moved {
                Err(_) if tries < TRIES_MAX => tries += 1,
                Ok(()) if !fold.is_empty() => {
                    self.mend(&git, common, reference, &mut fold)?;
                    return Ok(Some(fold));
                }
                moved => return Ok(moved.map(|()| Some(fold))?),
            }
        }
    }

    /// Returns whether an entry is of this incarnation: by its name, or, where an earlier version
    /// named it, by the environment's id and the recorded commit.
    fn is_own_entry(&self, (name, commit): (&str, &str)) -> bool {
        let own = Names::of(&self.world.log_id, self.archive.life()).rescue();
        let is_recorded = || {
            let rescue = self.archive.rescue.iter();
            rescue.flat_map(Rescue::references).any(|(_, recorded)| recorded == commit)
        };
        let rest = name.strip_prefix(&own);
        if rest.is_some_and(|r| r.is_empty() || r == "-head" || r.starts_with("-nested-")) {
            return true;
        }
        // A name with a log or a nonce is another incarnation's, however equal the commit is.
        let earlier = format!("{RESCUES}{}/{}", self.archive.id, self.archive.incarnation);
        let rest = name.strip_prefix(&earlier);
        rest.is_some_and(|r| r.is_empty() || r.starts_with('/') || r.starts_with("-nested-"))
            && is_recorded()
    }

    /// Returns whether the fold holds a commit. One that cannot be read holds nothing.
    pub(super) fn is_in_fold(&self, git: &Git<'_>, common: &Path, commit: &str) -> bool {
        let read = Fold::read(git, common, &names::folded(&self.world.log_id));
        read.is_ok_and(|fold| fold.holds(commit))
    }
}

/// Flushes the name of a ref, before others are deleted that hold the same.
fn sync_folders(common: &Path, reference: &str) -> Result<(), Fault> {
    let file = common.join(reference);
    let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(common));
    for folder in folders.filter(|folder| folder.is_dir()) {
        groundskeeper_system::portable::sync_dir(folder).map_err(paths::failed("sync", folder))?;
    }
    Ok(())
}

/// Fails for now while a `git gc` runs, which may have read the refs before they are changed here.
pub(super) fn refuse_during_gc(common: &Path) -> Result<(), Fault> {
    if !git::gc::runs(common) {
        return Ok(());
    }
    let message = format!("a `git gc` works in {}", common.display());
    Err(Fault::new(Code::RepositoryLocked, message, "the step is retried").transient())
}

/// Returns the refs of their own that hold the rescue of an archive.
fn refs_of(archive: &ArchivedIncarnation) -> impl Iterator<Item = (&str, &str)> {
    let refs = archive.rescue.iter().flat_map(Rescue::references);
    refs.filter(|(reference, _)| !is_folded(reference))
}

fn owned((name, commit): (&String, &String)) -> (String, String) {
    (name.clone(), commit.clone())
}

/// Returns what was folded of an archive, given the refs whose commits the fold holds instead.
fn folded_of(archive: &ArchivedIncarnation, gone: &BTreeSet<String>) -> Option<FoldedRescue> {
    let commits: Vec<String> = refs_of(archive)
        .filter(|(name, _)| gone.contains(*name))
        .map(|(_, commit)| commit.to_owned())
        .collect();
    let (environment, incarnation) = (archive.id.clone(), archive.incarnation);
    (!commits.is_empty()).then_some(FoldedRescue { environment, incarnation, commits })
}
