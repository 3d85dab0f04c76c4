//! Archives of ended incarnations: a directory in the trash, a rescue ref.
//!
//! An archive outlives the environment's record, so that a new environment of the same id changes
//! nothing about it. Archives are folded and decided here; they are never in service.

use std::sync::Arc;

use crate::effect::ArchiveOutcome as Outcome;
use crate::event::{
    ArchiveEvent, Event, LateWorkRescued, PurgeDecided, RemainsAttemptFailed, RescueDropped,
    RestoreFrom, RolledBack, TrashLookFailed, TrashMeasured, TrashPurged,
};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, HostPath, Time};
use crate::model::archive::ArchivedIncarnation;
use crate::model::environment::Environment;
use crate::model::step::{ArchiveStep as Step, At, Owed};
use crate::policy;
use crate::state::State;

impl ArchivedIncarnation {
    /// Creates the archive of an environment at its end; none when nothing is left.
    pub(crate) fn of(env: &Environment, at: At, trash: Option<HostPath>) -> Option<Self> {
        let teardown = env.teardown.clone().unwrap_or_default();
        if trash.is_none() && teardown.rescue.is_none() {
            return None;
        }
        let base = env.base.as_ref().map(|b| b.commit.clone()).filter(|commit| !commit.is_empty());
        Some(Self {
            id: env.id.clone(),
            incarnation: env.incarnation,
            plan: env.plan.clone(),
            at: at.time,
            owed: trash.is_some().then(|| Owed::new(Step::Measure, at)),
            trash,
            size: None,
            head: teardown.head.or(base),
            base: env.base.clone(),
            worktree: env.worktree.clone(),
            rescue: teardown.rescue,
            // A rollback leaves the output of a setup, which the trash keeps uninspected.
            looked_at: env.teardown.as_ref().filter(|t| t.may_lack_work()).map(|t| t.looked_at),
            branch_deleted: teardown.branch_deleted,
            survivors: teardown.survivors,
            restoring: None,
            purge: None,
            fault: None,
            nonce: env.nonce.clone(),
            lineage: env.lineage.clone(),
            unseen: teardown.unseen,
            on_branch: teardown.on_branch,
            rescue_ends: None,
        })
    }

    /// Creates the archive of a provision that was rolled back; none when nothing is left.
    pub(crate) fn rolled_back(env: &Environment, at: At, e: &RolledBack) -> Option<Self> {
        let mut env = env.clone();
        let teardown = env.teardown.get_or_insert_default();
        teardown.rescue.clone_from(&e.rescue);
        teardown.head.clone_from(&e.head);
        // Prevents another inspection, except the first one where the repository could not be read.
        teardown.options.no_rescue = true;
        Self::of(&env, at, e.trash.clone())
    }

    fn apply(&mut self, at: At, event: ArchiveEvent<'_>) {
        use ArchiveEvent as Is;
        match event {
            Is::LateWorkRescued(e) => {
                self.rescue = Some(e.rescue.clone());
                if self.owed.as_ref().is_some_and(|o| o.step == Step::Purge) {
                    self.owed = Some(Owed::new(Step::Purge, at));
                    self.stay_if_last_copy();
                }
            }
            Is::TrashMeasured(e) => {
                self.size = Some(e.size);
                self.looked_at = None;
                self.fault = None;
                self.unseen = false;
                self.stay_if_last_copy();
                let purge = self.purge.is_some();
                self.owed = purge.then(|| Owed::new(Step::Purge, at));
            }
            Is::TrashLookFailed(e) => {
                self.fault = Some(e.fault.clone());
                self.purge = None;
                self.owed = None;
            }
            Is::PurgeDecided(e) => self.purge_decided(at, e),
            Is::TrashPurged(_) => {
                self.trash = None;
                self.purge = None;
                self.owed = None;
                self.fault = None;
            }
            Is::LeftoverArchived(e) => self.leftover_archived(at, e),
            Is::RescueDropRequested(_) => self.owed = Some(Owed::new(Step::DropRescue, at)),
            Is::RescueDropped(_) => {
                // Dropping a rescue inspects nothing; an unmeasured directory still needs that.
                self.rescue = None;
                self.rescue_ends = None;
                self.fault = None;
                self.owed = self.is_unmeasured().then(|| Owed::new(Step::Measure, at));
            }
            Is::RescueExpiryAnnounced(e) => self.rescue_ends = Some(e.at),
            Is::RescueFoldDecided(_) => self.fold_decided(at),
            Is::RescuesFolded(e) => self.fold_ended(e),
            Is::RemainsAttemptFailed(e) => {
                self.fault = Some(e.fault.clone());
                if let Some(owed) = &mut self.owed {
                    owed.retry(at, e.attempts, e.retry_at);
                }
            }
        }
    }

    fn purge_decided(&mut self, at: At, e: &PurgeDecided) {
        self.purge = e.reason.clone().given();
        self.fault = None;
        let look = self.is_unmeasured() && !self.is_to_be_lost();
        let step = if look { Step::Measure } else { Step::Purge };
        match &mut self.owed {
            // A running step goes on; a step that waits for another attempt may start at
            // once. Repeated requests must not lengthen the wait after the next failure, so
            // attempts restart at zero.
            Some(owed) if owed.step == step => {
                owed.not_before = owed.not_before.min(at.time);
                owed.attempts = 0;
            }
            owed => *owed = Some(Owed::new(step, at)),
        }
    }

    /// Cancels the purge if the directory turned out to be a last copy.
    fn stay_if_last_copy(&mut self) {
        if self.is_last_copy() && !self.is_to_be_lost() {
            self.purge = None;
            self.owed = None;
        }
    }

    /// Returns the events that the end of an effect on this archive leads to.
    pub(crate) fn settle(
        &self,
        now: Time,
        step: Step,
        result: Result<Outcome, Fault>,
    ) -> Vec<Event> {
        match result {
            Ok(outcome) => self.succeeded(outcome),
            Err(fault) => self.failed(now, step, fault),
        }
    }

    fn succeeded(&self, outcome: Outcome) -> Vec<Event> {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        match outcome {
            Outcome::Measured(size, late) => {
                let measured =
                    TrashMeasured { environment: environment.clone(), incarnation, size };
                let late = late.map(|rescue| LateWorkRescued { environment, incarnation, rescue });
                late.into_iter().map(Event::from).chain([measured.into()]).collect()
            }
            Outcome::Purged(entries) => {
                let leftovers = Vec::new();
                vec![TrashPurged { environment, incarnation, entries, leftovers }.into()]
            }
            Outcome::RescuedAgain(rescue) => {
                vec![LateWorkRescued { environment, incarnation, rescue }.into()]
            }
            Outcome::RescueDropped => {
                vec![RescueDropped { environment, incarnation, leftover: None }.into()]
            }
            Outcome::Folded(reference, folded) => vec![self.folded(reference, folded)],
        }
    }

    fn failed(&self, now: Time, step: Step, fault: Fault) -> Vec<Event> {
        let attempts = self.owed.as_ref().map_or(0, |o| o.attempts).saturating_add(1);
        // Giving up a fold at once would only make the next one due.
        let is_final = fault.code == Code::NotOurs && step != Step::FoldRescues;
        if attempts >= policy::attempts_max(step) || is_final {
            return self.give_up(step, fault);
        }
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        // A surviving process, a mount or a broken repository may be in the way for days.
        let retry_at = now.after(policy::trash_delay(attempts));
        let step = step.as_str().to_owned();
        let failed =
            RemainsAttemptFailed { environment, incarnation, step, attempts, retry_at, fault };
        vec![failed.into()]
    }

    /// Returns the events that end a step without success; leftovers are named.
    pub(crate) fn give_up(&self, step: Step, fault: Fault) -> Vec<Event> {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        let leftover = format!("{}: {fault}", step.as_str());
        match step {
            Step::Purge => {
                let leftovers = vec![leftover];
                vec![TrashPurged { environment, incarnation, entries: 0, leftovers }.into()]
            }
            Step::DropRescue => {
                let leftover = Some(leftover);
                vec![RescueDropped { environment, incarnation, leftover }.into()]
            }
            Step::FoldRescues => vec![self.not_folded(leftover)],
            // Its content is unknown, so it stays.
            Step::Measure => vec![TrashLookFailed { environment, incarnation, fault }.into()],
        }
    }
}

impl State {
    /// Folds in an event about an archive.
    pub(crate) fn apply_archive(&mut self, at: At, event: ArchiveEvent<'_>) {
        let (id, incarnation) = event.subject();
        self.begin_leftover(at, event);
        if let ArchiveEvent::RescuesFolded(e) = event {
            self.rescues_folded(e);
        }
        let Some(lives) = self.archives.get_mut(id) else { return };
        if let Some(archive) = lives.get_mut(&incarnation).map(Arc::make_mut) {
            archive.apply(at, event);
        }
        self.forget_empty(id, incarnation);
    }

    /// Adds the archive of an ended incarnation.
    pub(crate) fn keep_archive(&mut self, archive: Option<ArchivedIncarnation>) {
        let Some(archive) = archive.map(Arc::new) else { return };
        let lives = self.archives.entry(archive.id.clone()).or_default();
        lives.insert(archive.incarnation, archive);
    }

    /// Folds in that a restore began, took the directory, or put it back.
    pub(crate) fn restore_changed(
        &mut self,
        at: At,
        id: &EnvironmentId,
        from: &RestoreFrom,
        restoring: Option<u32>,
        taken: bool,
    ) {
        let lives = self.archives.get_mut(id);
        if let Some(archive) = lives.and_then(|l| l.get_mut(&from.incarnation)).map(Arc::make_mut) {
            archive.restoring = restoring;
            // A measurement would race with the restore, which moves the directory.
            if restoring.is_some() && archive.owed.as_ref().is_some_and(|o| o.step == Step::Measure)
            {
                archive.owed = None;
            }
            if taken {
                archive.trash = None;
            }
            // A restore that failed has put the directory back, still unmeasured.
            if restoring.is_none() && archive.owed.is_none() {
                archive.owed = archive.is_unmeasured().then(|| Owed::new(Step::Measure, at));
            }
        }
        self.forget_empty(id, from.incarnation);
    }

    /// Retries failed inspections at once: what they lacked may be available now.
    pub(crate) fn retry_now(&mut self, at: At) {
        let archives = self.archives.values_mut().flat_map(|lives| lives.values_mut());
        let failed = archives.filter(|archive| archive.fault.is_some());
        failed.map(Arc::make_mut).for_each(|archive| archive.retry_now(at.time));
    }

    fn forget_empty(&mut self, id: &EnvironmentId, incarnation: u32) {
        let Some(lives) = self.archives.get_mut(id) else { return };
        if lives.get(&incarnation).is_some_and(|r| r.trash.is_none() && r.rescue.is_none()) {
            lives.remove(&incarnation);
        }
        if lives.is_empty() {
            self.archives.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seq;
    use crate::event::{Actor, Plan, PurgeReason, Size, Topic};

    fn in_the_trash() -> ArchivedIncarnation {
        let at = At { seq: Seq(1), time: Time(1) };
        let id = EnvironmentId::parse("demo").expect("an id");
        let env = Environment::begin(at, &id, 1, &Plan::default());
        ArchivedIncarnation::of(&env, at, Some("/trash/demo.1".into())).expect("a leftover")
    }

    fn folds(archive: &mut ArchivedIncarnation, at: At, event: &Event) {
        let Topic::Archive(event) = event.topic() else { panic!("an event about an archive") };
        archive.apply(at, event);
    }

    /// While no inspection succeeds, only inspections are owed; after the last attempt, nothing is.
    #[test]
    fn uninspected_trash_is_never_purged() {
        let mut archive = in_the_trash();
        let mut seq = 1;
        let mut happens = |archive: &mut ArchivedIncarnation, event: &Event| {
            seq += 1;
            folds(archive, At { seq: Seq(seq), time: Time(seq) }, event);
            archive.check().expect("consistent");
        };
        for round in 0..2 {
            let purge = archive.purge(PurgeReason::Request, None);
            happens(&mut archive, &purge);
            let mut failed = 0;
            while let Some(owed) = &archive.owed {
                assert_eq!(owed.step, Step::Measure, "round {round}: nothing else is tried");
                let fault = Fault::new(Code::GitFailed, "made up", "none");
                for event in archive.settle(Time(1), Step::Measure, Err(fault)) {
                    happens(&mut archive, &event);
                }
                failed += 1;
            }
            assert_eq!(failed, policy::attempts_max(Step::Measure));
            assert!(archive.is_kept() && archive.fault.is_some(), "the entry stays with a fault");
            assert_eq!(archive.due(0), None, "no retry without a request");
        }
    }

    /// A snapshot stores no reason as an empty one, and the fold must agree with it.
    #[test]
    fn purge_without_reason_is_none() {
        let mut archive = in_the_trash();
        archive.size = Some(Size::default());
        let purge = archive.purge(PurgeReason::default(), None);
        folds(&mut archive, At { seq: Seq(2), time: Time(2) }, &purge);
        assert_eq!(archive.purge, None);
    }

    #[test]
    fn repeated_purge_requests_keep_retry_delay() {
        let mut archive = in_the_trash();
        archive.size = Some(Size::default());
        for seq in 2..60 {
            let at = At { seq: Seq(seq), time: Time(seq) };
            let purge = archive.purge(PurgeReason::Request, None);
            folds(&mut archive, at, &purge);
            let fault = Fault::new(Code::GitMissing, "made up", "none");
            for event in archive.settle(at.time, Step::Purge, Err(fault)) {
                folds(&mut archive, at, &event);
            }
            let owed = archive.owed.as_ref().expect("a retry");
            assert_eq!(owed.not_before, at.time.after(policy::trash_delay(1)), "request {seq}");
        }
    }

    /// A trash entry that is being restored from its rescue is left alone.
    #[test]
    fn purge_request_during_restore_is_ignored() {
        let mut archive = in_the_trash();
        let purge = archive.purge(PurgeReason::Request, None);
        folds(&mut archive, At { seq: Seq(2), time: Time(2) }, &purge);
        archive.fault = Some(Fault::new(Code::Io, "made up", "none"));
        let asked = |archive: &ArchivedIncarnation| {
            let mut state = State::default();
            state.keep_archive(Some(archive.clone()));
            state.decide_empty_trash(None, false, &Actor::default()).map_or(0, |e| e.len())
        };
        assert_eq!(asked(&archive), 1, "a request retries a failed purge");
        archive.restoring = Some(2);
        assert_eq!(asked(&archive), 0);
    }

    /// Late writes may have come after the rescue, so dropping it replaces no inspection.
    #[test]
    fn rescue_drop_keeps_inspection_owed() {
        let mut archive = in_the_trash();
        archive.looked_at = Some(Time(1));
        let (environment, incarnation, leftover) = (archive.id.clone(), 1, None);
        let dropped = RescueDropped { environment, incarnation, leftover }.into();
        folds(&mut archive, At { seq: Seq(2), time: Time(2) }, &dropped);
        assert_eq!(archive.looked_at, Some(Time(1)));
        assert_eq!(archive.owed.map(|o| o.step), Some(Step::Measure));
    }

    #[test]
    fn purge_request_retries_immediately() {
        let mut archive = in_the_trash();
        let fault = Fault::new(Code::GitFailed, "made up", "none");
        for event in archive.settle(Time(5), Step::Measure, Err(fault)) {
            folds(&mut archive, At { seq: Seq(2), time: Time(5) }, &event);
        }
        let before = archive.owed.clone().expect("another attempt");
        assert!(before.not_before > Time(6), "later");
        let purge = archive.purge(PurgeReason::Request, None);
        folds(&mut archive, At { seq: Seq(3), time: Time(6) }, &purge);
        let after = archive.owed.expect("the same attempt");
        assert_eq!((after.entered, after.not_before), (before.entered, Time(6)));
    }
}
