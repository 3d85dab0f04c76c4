//! Leftovers of ended incarnations: a directory that a sweep proved to be managed and moved to the
//! trash gets an archive, from which it can be restored like any other. Nothing here moves it.

use crate::event::{ArchiveEvent, Event, LeftoverArchived, SweepFinished};
use crate::former::Former;
use crate::model::archive::ArchivedIncarnation;
use crate::model::environment::Environment;
use crate::model::step::{ArchiveStep as Step, At, Owed};
use crate::state::State;

impl ArchivedIncarnation {
    /// Creates the archive of an incarnation that has none: nothing of it was kept until now.
    fn of_leftover(at: At, e: &LeftoverArchived) -> Self {
        Self {
            id: e.environment.clone(),
            incarnation: e.incarnation,
            plan: e.plan.clone(),
            at: at.time,
            trash: None,
            size: None,
            head: None,
            base: None,
            worktree: None,
            rescue: None,
            looked_at: None,
            branch_deleted: false,
            survivors: Vec::new(),
            restoring: None,
            owed: None,
            purge: None,
            fault: None,
            nonce: e.nonce.clone(),
            lineage: Vec::new(),
            unseen: false,
            on_branch: None,
            rescue_ends: None,
        }
    }

    /// Folds in that a directory of the incarnation is in the trash again.
    pub(crate) fn leftover_archived(&mut self, at: At, e: &LeftoverArchived) {
        // Its retention begins now: until now no list showed it.
        self.at = at.time;
        self.trash = Some(e.trash.clone());
        self.worktree = Some(e.worktree.clone());
        self.head = e.head.clone().or_else(|| self.head.take());
        self.on_branch = e.branch.clone().or_else(|| self.on_branch.take());
        self.size = None;
        self.purge = None;
        self.fault = None;
        // No inspection of an agreed removal covers this directory, so it counts as a last copy
        // until a measurement has rescued what it holds.
        self.unseen = true;
        self.owed = Some(Owed::new(Step::Measure, at));
    }
}

impl State {
    /// Returns the events that the end of a sweep leads to.
    pub(crate) fn swept(
        &self,
        former: &Former,
        finished: SweepFinished,
        leftovers: Vec<LeftoverArchived>,
    ) -> Vec<Event> {
        let accepted = leftovers.into_iter().filter(|e| self.accepts(former, e)).map(Event::from);
        accepted.chain([finished.into()]).collect()
    }

    /// Returns whether a leftover may become an archive. Where another operation was faster, the
    /// directory stays in the trash, and the next sweep finds it there.
    fn accepts(&self, former: &Former, e: &LeftoverArchived) -> bool {
        let forgotten =
            || former.life(&e.environment).is_some_and(|life| life.incarnation >= e.incarnation);
        let is_past = |env: &Environment| env.incarnation > e.incarnation || !env.is_live();
        let is_over = self.environment(&e.environment).map_or_else(forgotten, is_past);
        let archive = self.archive_of(&e.environment, e.incarnation);
        is_over
            && archive.is_none_or(|a| {
                a.trash.is_none() && a.restoring.is_none() && a.owed.is_none() && a.nonce == e.nonce
            })
    }

    /// Adds an empty archive for a leftover of an incarnation that has none.
    pub(crate) fn begin_leftover(&mut self, at: At, event: ArchiveEvent<'_>) {
        let ArchiveEvent::LeftoverArchived(e) = event else { return };
        if self.archive_of(&e.environment, e.incarnation).is_none() {
            self.keep_archive(Some(ArchivedIncarnation::of_leftover(at, e)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Plan, Record, Retention, SweepRequested, Worktree};
    use crate::id::{EnvironmentId, Seq, Time};
    use crate::model::environment::{Environment, Phase};
    use crate::{Command, policy};

    fn folded(state: &mut State, at: Time, events: Vec<Event>) {
        for event in events {
            let seq = state.seq().next();
            state.apply(&Record { seq, at, boot: 1, event });
        }
    }

    fn ticked(state: &mut State, at: Time) -> Vec<Event> {
        let events = state.decide(at, Command::Tick).expect("a tick is never refused");
        folded(state, at, events.clone());
        events
    }

    #[test]
    fn sweep_runs_once_a_day() {
        let mut state = State::default();
        let start = Time(0);
        assert_eq!(state.next_deadline(start), None, "the start requests the first one");
        folded(&mut state, start, vec![SweepFinished::default().into()]);
        let due = start.after(policy::SWEEP_EVERY);
        assert_eq!(state.next_deadline(start), Some(due));
        assert_eq!(ticked(&mut state, Time(due.0 - 1)), []);
        let events = ticked(&mut state, due);
        assert!(
            matches!(&events[..], [Event::SweepRequested(SweepRequested { apply: true, .. })]),
            "{events:?}"
        );
        assert_eq!(ticked(&mut state, due), [], "one at a time");
        assert_eq!(state.next_deadline(due), None, "it is owed now");
        folded(&mut state, due, vec![SweepFinished::default().into()]);
        assert_eq!(state.next_deadline(due), Some(due.after(policy::SWEEP_EVERY)));
    }

    fn leftover() -> LeftoverArchived {
        LeftoverArchived {
            environment: EnvironmentId::parse("demo").expect("an id"),
            incarnation: 1,
            nonce: None,
            plan: Plan::default(),
            trash: "/trash/demo.1/project".into(),
            worktree: Worktree::default(),
            head: Some("c".repeat(40)),
            branch: None,
        }
    }

    /// A leftover counts as a last copy until a measurement has inspected it.
    #[test]
    fn leftover_is_kept_until_it_is_measured() {
        let mut state = State { retention: Retention::default(), ..State::default() };
        let e = leftover();
        let at = At { seq: Seq(0), time: Time(0) };
        let mut env = Environment::begin(at, &e.environment, 1, &Plan::default());
        state.environments.insert(e.environment.clone(), env.clone().into());
        let kinds = |state: &State| -> Vec<&'static str> {
            let events =
                state.swept(&Former::default(), SweepFinished::default(), vec![leftover()]);
            events.iter().map(Event::kind).collect()
        };
        assert_eq!(kinds(&state), ["SweepFinished"], "a live incarnation has no leftovers");
        env.owed = None;
        env.phase = Phase::Tombstoned;
        state.environments.insert(e.environment.clone(), env.into());
        assert_eq!(kinds(&state), ["LeftoverArchived", "SweepFinished"]);
        let events = state.swept(&Former::default(), SweepFinished::default(), vec![leftover()]);
        folded(&mut state, Time(1), events);
        let archive = state.archive_of(&e.environment, 1).expect("an archive");
        assert_eq!(archive.owed.as_ref().map(|o| o.step), Some(Step::Measure));
        assert!(archive.is_last_copy() && archive.due(0).is_none(), "it is not purged by age");
        assert_eq!(archive.restore_from().trash, Some(e.trash.clone()), "it can be restored");
        state.check().expect("consistent");
        assert_eq!(kinds(&state), ["SweepFinished"], "one directory an incarnation");
    }
}
