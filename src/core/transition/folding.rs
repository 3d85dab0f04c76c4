//! Folding: the older rescues of a repository move from refs of their own into one that holds them
//! all, since every git command that lists refs reads each of them.
//!
//! Decided by number, per repository. The step is owed to one of the archives concerned. Nothing
//! here drops a rescue: a folded one is as restorable as before, by its commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Event, FoldedRescue, RescueFoldDecided, RescuesFolded};
use crate::fault::{Code, Fault};
use crate::id::HostPath;
use crate::model::archive::ArchivedIncarnation;
use crate::model::step::{ArchiveStep as Step, At, Owed};
use crate::policy;
use crate::state::State;

impl ArchivedIncarnation {
    /// Returns whether its rescue has refs of its own that no step and no restore is about to use.
    fn is_foldable(&self) -> bool {
        let step = self.owed.as_ref().map(|owed| owed.step);
        let is_used = matches!(step, Some(Step::Measure | Step::Purge | Step::DropRescue));
        self.rescue.as_ref().is_some_and(crate::event::Rescue::has_own_ref)
            && !is_used
            && self.restoring.is_none()
    }

    fn is_folding(&self) -> bool {
        self.owed.as_ref().is_some_and(|owed| owed.step == Step::FoldRescues)
    }

    /// Returns the event of a fold that succeeded.
    pub(crate) fn folded(&self, reference: String, folded: Vec<FoldedRescue>) -> Event {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        let (reference, leftover) = (Some(reference), None);
        RescuesFolded { environment, incarnation, reference, folded, leftover }.into()
    }

    /// Returns the event of a fold that was given up. Every rescue keeps its refs.
    pub(crate) fn not_folded(&self, why: String) -> Event {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        let (reference, folded, leftover) = (None, Vec::new(), Some(why));
        RescuesFolded { environment, incarnation, reference, folded, leftover }.into()
    }

    pub(crate) fn fold_decided(&mut self, at: At) {
        // A step that became owed in the same decision goes first.
        if self.owed.is_none() && self.rescue.is_some() {
            self.owed = Some(Owed::new(Step::FoldRescues, at));
        }
    }

    /// Ends the step. An archive at which it was given up is owed none again.
    pub(crate) fn fold_ended(&mut self, e: &RescuesFolded) {
        if self.is_folding() {
            let hint = "read the log of the daemon; the rescues keep their refs";
            let given_up = |why: &String| Fault::new(Code::GitFailed, why.clone(), hint);
            self.owed = None;
            self.fault = e.leftover.as_ref().map(given_up);
        }
    }

    /// Records that a ref holds these commits of its rescue. A commit that is not listed was made
    /// meanwhile, and keeps its own ref.
    fn fold_into(&mut self, reference: &str, commits: &[String]) {
        let Some(rescue) = &mut self.rescue else { return };
        let own = (&mut rescue.reference, &rescue.commit);
        let nested = rescue.nested.iter_mut().map(|n| (&mut n.reference, &n.commit));
        for (at, commit) in std::iter::once(own).chain(nested) {
            if at.is_some() && commit.as_ref().is_some_and(|commit| commits.contains(commit)) {
                *at = Some(reference.to_owned());
            }
        }
        if self.trash.is_none() && self.owed.is_none() {
            // That of a fold which was given up at this archive.
            self.fault = None;
        }
    }
}

impl State {
    /// Returns the archives whose rescues may be folded, by repository. Repositories that have few
    /// are left out, and those where a fold is owed already.
    fn crowded(&self) -> Vec<Vec<&ArchivedIncarnation>> {
        let mut of: BTreeMap<&HostPath, Vec<&ArchivedIncarnation>> = BTreeMap::new();
        for archive in self.archives().filter(|archive| archive.is_foldable()) {
            of.entry(&archive.plan.repository.common_dir).or_default().push(archive);
        }
        let mut crowded: Vec<Vec<&ArchivedIncarnation>> = of.into_values().collect();
        crowded.retain(|all| {
            all.len() > policy::RESCUE_REFS_MAX && !all.iter().any(|archive| archive.is_folding())
        });
        crowded
    }

    /// Returns the folds that are due: at most one a repository.
    pub(crate) fn folds_due(&self) -> Vec<Event> {
        let decided = self.crowded().into_iter().filter_map(|all| {
            let free = all.iter().filter(|a| a.owed.is_none() && a.fault.is_none());
            // The oldest; a trash entry may soon be owed its unlink, which would go first.
            let carrier = free.min_by_key(|archive| (archive.trash.is_some(), archive.at));
            carrier.map(|archive| {
                let (environment, incarnation) = (archive.id.clone(), archive.incarnation);
                RescueFoldDecided { environment, incarnation }.into()
            })
        });
        decided.collect()
    }

    /// Returns whether any fold is due.
    pub(crate) fn folds_are_due(&self) -> bool {
        !self.folds_due().is_empty()
    }

    /// Returns the archives that a fold in progress is about: the oldest of the repository. After
    /// failed attempts it is about the next oldest: some may be impossible to fold.
    pub(crate) fn to_fold(&self, carrier: &ArchivedIncarnation) -> Vec<ArchivedIncarnation> {
        let common = &carrier.plan.repository.common_dir;
        let there = |archive: &&ArchivedIncarnation| {
            archive.is_foldable() && archive.plan.repository.common_dir == *common
        };
        let mut all: Vec<&ArchivedIncarnation> = self.archives().filter(there).collect();
        all.sort_by_key(|archive| archive.at);
        all.truncate(all.len().saturating_sub(policy::RESCUE_REFS_KEPT));
        let attempts = carrier.owed.as_ref().map_or(0, |owed| owed.attempts);
        let chunks = portions(all);
        let turn = usize::try_from(attempts).unwrap_or(0).checked_rem(chunks.len());
        let chosen = turn.and_then(|turn| chunks.get(turn)).map(Vec::as_slice).unwrap_or_default();
        chosen.iter().map(|archive| (*archive).clone()).collect()
    }

    /// Folds in that one ref holds these rescues.
    pub(crate) fn rescues_folded(&mut self, e: &RescuesFolded) {
        let Some(reference) = &e.reference else { return };
        for folded in &e.folded {
            let lives = self.archives.get_mut(&folded.environment);
            if let Some(archive) = lives.and_then(|lives| lives.get_mut(&folded.incarnation)) {
                Arc::make_mut(archive).fold_into(reference, &folded.commits);
            }
        }
    }
}

/// Splits archives into what one step folds: bounded in archives and in refs.
fn portions(all: Vec<&ArchivedIncarnation>) -> Vec<Vec<&ArchivedIncarnation>> {
    let mut portions: Vec<Vec<&ArchivedIncarnation>> = Vec::new();
    let mut refs = 0;
    for archive in all {
        let count = archive.rescue.iter().flat_map(crate::event::Rescue::references).count();
        match portions.last_mut() {
            Some(last)
                if last.len() < policy::RESCUES_FOLDED_AT_ONCE
                    && refs + count <= policy::REFS_FOLDED_AT_ONCE =>
            {
                last.push(archive);
                refs += count;
            }
            _ => {
                portions.push(vec![archive]);
                refs = count;
            }
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::effect::{Ended, Settlement, Target};
    use crate::event::{FOLDED, Plan, Record, Rescue};
    use crate::id::{EffectId, EnvironmentId, Subject, Time};
    use crate::model::environment::Environment;
    use crate::model::step::At;
    use crate::{ArchiveOutcome, Command, Seq};

    fn id(n: usize) -> EnvironmentId {
        EnvironmentId::parse(&format!("e{n}")).expect("an id")
    }

    fn rescued(state: &mut State, n: usize, repository: &str) {
        let at = At { seq: Seq(n as u64 + 1), time: Time(n as u64) };
        let mut plan = Plan::default();
        plan.repository.common_dir = repository.into();
        let mut env = Environment::begin(at, &id(n), 1, &plan);
        let reference = Some(format!("refs/groundskeeper/rescue/e{n}/1"));
        let commit = Some(format!("{n:040x}"));
        env.teardown.get_or_insert_default().rescue =
            Some(Rescue { reference, commit, ..Rescue::default() });
        state.keep_archive(ArchivedIncarnation::of(&env, at, None));
        (state.seq, state.at) = (at.seq, at.time);
    }

    fn state_of(count: usize) -> State {
        let mut state = State::default();
        (0..count).for_each(|n| rescued(&mut state, n, "/repo/.git"));
        state
    }

    fn submit(state: &mut State, command: Command) -> Vec<Event> {
        let events = state.decide(state.at(), command).expect("accepted");
        for event in &events {
            let (seq, event) = (state.seq().next(), event.clone());
            state.apply(&Record { seq, at: state.at(), boot: 1, event });
        }
        for archive in state.archives() {
            archive.check().expect("consistent");
        }
        events
    }

    /// Returns the fold that is owed, and what it is about.
    fn owed(state: &State) -> Option<(EffectId, Vec<ArchivedIncarnation>)> {
        let found = state.owed_to_archives(Time(u64::MAX)).into_iter().next()?;
        let Target::Archive(_, _, to_fold) = state.effect(&found.id)?.target else { return None };
        Some((found.id, to_fold))
    }

    fn settle(state: &mut State, id: &EffectId, result: Result<ArchiveOutcome, Fault>) {
        let Subject::Archive(name, life) = &id.subject else { panic!("of an archive") };
        let ended = Ended { entered: id.entered, result };
        submit(state, Command::Settle(Settlement::Archive(name.clone(), *life, ended)));
    }

    fn outcome(of: &[ArchivedIncarnation]) -> ArchiveOutcome {
        let folded = of.iter().map(|archive| FoldedRescue {
            environment: archive.id.clone(),
            incarnation: archive.incarnation,
            commits: archive.rescue.iter().filter_map(|rescue| rescue.commit.clone()).collect(),
        });
        ArchiveOutcome::Folded(format!("{FOLDED}log"), folded.collect())
    }

    fn with_own_ref(state: &State) -> Vec<EnvironmentId> {
        let own = |archive: &&ArchivedIncarnation| {
            archive.rescue.as_ref().is_some_and(Rescue::has_own_ref)
        };
        state.archives().filter(own).map(|archive| archive.id.clone()).collect()
    }

    #[test]
    fn few_rescues_keep_their_refs() {
        let mut state = state_of(policy::RESCUE_REFS_MAX);
        rescued(&mut state, 100, "/other/.git");
        assert_eq!(state.next_deadline(state.at()), None);
        assert_eq!(submit(&mut state, Command::Tick), Vec::new());
    }

    /// The newest keep their refs, and every rescue is as restorable as before.
    #[test]
    fn older_rescues_are_folded_in_portions() {
        let count = 2 * policy::RESCUES_FOLDED_AT_ONCE + 100;
        let mut state = state_of(count);
        let mut rounds = 0;
        while state.next_deadline(state.at()).is_some() {
            assert_eq!(submit(&mut state, Command::Tick).len(), 1, "one fold a repository");
            assert_eq!(submit(&mut state, Command::Tick), Vec::new(), "it is in progress");
            let (effect, to_fold) = owed(&state).expect("a fold");
            assert!(to_fold.len() <= policy::RESCUES_FOLDED_AT_ONCE, "{}", to_fold.len());
            settle(&mut state, &effect, Ok(outcome(&to_fold)));
            rounds += 1;
        }
        assert_eq!(rounds, 3);
        let newest: Vec<_> = (count - policy::RESCUE_REFS_KEPT..count).map(id).collect();
        assert_eq!(with_own_ref(&state), newest);
        for archive in state.archives() {
            let number: usize = archive.id.as_str()[1..].parse().expect("a number");
            assert_eq!(archive.restore_from().rescue, Some(format!("{number:040x}")));
            assert_eq!(archive.owed, None);
        }
    }

    /// What happens to a rescue while the fold is in progress is not undone by its end.
    #[test]
    fn rescue_changed_meanwhile_keeps_its_ref() {
        let mut state = state_of(policy::RESCUE_REFS_MAX + 1);
        submit(&mut state, Command::Tick);
        let (effect, to_fold) = owed(&state).expect("a fold");
        let lives = state.archives.get_mut(&id(2)).and_then(|lives| lives.get_mut(&1));
        let rescue =
            lives.and_then(|archive| Arc::make_mut(archive).rescue.as_mut()).expect("a rescue");
        rescue.commit = Some("f".repeat(40));
        state.archives.remove(&id(3));
        settle(&mut state, &effect, Ok(outcome(&to_fold)));
        assert!(with_own_ref(&state).contains(&id(2)), "the new commit is not in the fold");
        assert!(state.archive_of(&id(3), 1).is_none());
        assert!(!with_own_ref(&state).contains(&id(4)));
    }

    #[test]
    fn stale_end_of_fold_is_absorbed() {
        let mut state = state_of(policy::RESCUE_REFS_MAX + 1);
        submit(&mut state, Command::Tick);
        let (effect, to_fold) = owed(&state).expect("a fold");
        let Subject::Archive(environment, incarnation) = effect.subject.clone() else {
            panic!("of an archive")
        };
        let actor = crate::event::Actor::default();
        submit(&mut state, Command::DropRescue { environment, incarnation, actor });
        let before = with_own_ref(&state);
        settle(&mut state, &effect, Ok(outcome(&to_fold)));
        assert_eq!(with_own_ref(&state), before);
    }

    /// A repository in which nothing can be folded costs an attempt an hour, not a busy loop.
    #[test]
    fn failing_fold_is_retried_with_delay() {
        let mut state = state_of(policy::RESCUE_REFS_MAX + 1);
        submit(&mut state, Command::Tick);
        for attempt in 1..40 {
            let (effect, _) = owed(&state).expect("another attempt");
            let code = if attempt % 2 == 0 { Code::GitFailed } else { Code::NotOurs };
            let fault = Fault::new(code, "made up", "none");
            settle(&mut state, &effect, Err(fault));
            let due = state.next_deadline(state.at()).expect("a retry");
            assert_eq!(due, state.at().after(policy::trash_delay(attempt)));
            state.at = due;
        }
    }

    /// A step that daemons die in is owed to each archive once, until a fold succeeds.
    #[test]
    fn given_up_fold_is_not_decided_again_at_once() {
        let count = policy::RESCUE_REFS_MAX + 1;
        let mut state = state_of(count);
        let mut carriers = std::collections::BTreeSet::new();
        while let [Event::RescueFoldDecided(e)] = &submit(&mut state, Command::Tick)[..] {
            assert!(carriers.insert(e.environment.clone()), "{} again", e.environment);
            let archive = state.archive_of(&e.environment, 1).expect("an archive");
            for event in archive.give_up(Step::FoldRescues, Fault::new(Code::Defect, "died", "")) {
                let seq = state.seq().next();
                state.apply(&Record { seq, at: state.at(), boot: 1, event });
            }
        }
        assert_eq!(carriers.len(), count);
        assert_eq!(state.next_deadline(state.at()), None);
        rescued(&mut state, count, "/repo/.git");
        submit(&mut state, Command::Tick);
        let (effect, to_fold) = owed(&state).expect("a new archive");
        settle(&mut state, &effect, Ok(outcome(&to_fold)));
        assert!(state.archives().all(|archive| archive.fault.is_none()));
    }

    proptest! {
        /// Whatever is folded of what: no rescue is forgotten or changes its commit, and the number
        /// of refs comes below its bound as soon as folds succeed.
        #[test]
        fn folds_keep_every_rescue(
            counts in prop::collection::vec(0_usize..120, 1..4),
            ends in prop::collection::vec((any::<bool>(), 0_usize..60), 0..30),
        ) {
            let mut state = State::default();
            let mut made = 0;
            for (repository, count) in counts.iter().enumerate() {
                for _ in 0..*count {
                    rescued(&mut state, made, &format!("/repo{repository}/.git"));
                    made += 1;
                }
            }
            let finish = std::iter::repeat_n((true, usize::MAX), 200);
            for (well, some) in ends.into_iter().chain(finish) {
                submit(&mut state, Command::Tick);
                let Some((effect, to_fold)) = owed(&state) else { continue };
                let some = &to_fold[..some.min(to_fold.len())];
                let fault = Fault::new(Code::GitFailed, "made up", "none");
                let is_done = well && !some.is_empty();
                let result = if is_done { Ok(outcome(some)) } else { Err(fault) };
                settle(&mut state, &effect, result);
                let commits: Vec<_> =
                    state.archives().filter_map(|a| a.restore_from().rescue).collect();
                prop_assert_eq!(commits.len(), made);
            }
            let most = counts.len() * policy::RESCUE_REFS_MAX;
            prop_assert!(with_own_ref(&state).len() <= most);
            prop_assert_eq!(owed(&state), None);
        }
    }
}
