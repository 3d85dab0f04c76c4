//! Finished lives: the state remembers the latest, and forgets the others. An index beside the log
//! leads to those; their archives stay in the state for as long as they exist. A provision that
//! failed and left nothing becomes such a life by itself.

use std::time::Duration;

use crate::event::{Event, FormerLife, LivesForgotten};
use crate::id::Time;
use crate::model::environment::{Environment, Phase};
use crate::policy;
use crate::state::State;

impl State {
    /// Returns the lives that nothing waits for any more.
    fn finished(&self) -> impl Iterator<Item = &Environment> {
        self.environments().filter(|env| !env.is_live() && env.owed.is_none())
    }

    /// Returns whether more finished lives than necessary are remembered.
    fn remembers_too_much(&self) -> bool {
        let most = policy::LIVES_REMEMBERED + policy::LIVES_FORGOTTEN_AT_ONCE;
        self.environments.len() >= most && self.finished().count() >= most
    }

    /// Returns the finished lives that may be forgotten, the one that has been still for longest
    /// first.
    pub(crate) fn forgettable(&self) -> Vec<FormerLife> {
        // The end of a run is recorded for its environment, even after the tombstone.
        let open: Vec<_> = self.runs.values().filter(|run| run.ended.is_none()).collect();
        let is_over = |env: &&Environment| !open.iter().any(|run| run.environment == env.id);
        let mut over: Vec<&Environment> = self.finished().filter(is_over).collect();
        over.sort_by_key(|env| env.seq);
        over.into_iter().map(Environment::former).collect()
    }

    /// Returns the event that forgets the oldest finished lives, if there are too many.
    pub(crate) fn lives_to_forget(&self) -> Option<LivesForgotten> {
        if !self.remembers_too_much() {
            return None;
        }
        let mut lives = self.forgettable();
        let most = lives.len().saturating_sub(policy::LIVES_REMEMBERED);
        lives.truncate(most.min(policy::LIVES_FORGOTTEN_MAX));
        (!lives.is_empty()).then_some(LivesForgotten { lives })
    }

    /// Returns a time that is past already while too many finished lives are remembered: the next
    /// tick comes at once.
    pub(crate) fn forgetting_due(&self) -> Option<Time> {
        self.lives_to_forget().map(|_| self.at())
    }

    /// Returns when a failed provision that left nothing is over, for each of them: as long as the
    /// trash is kept, and at least [`policy::FAILURES_SHOWN`], lists show it. What it could not
    /// remove, or a lease on it, keeps it there.
    fn failures(&self) -> impl Iterator<Item = (Time, &Environment)> {
        let shown = Duration::from_secs(self.retention().trash_seconds).max(policy::FAILURES_SHOWN);
        let leased = |env: &Environment| self.leases().any(|(_, l)| l.environment == env.id);
        let failed = self.environments().filter(move |env| {
            env.owed.is_none() && env.is_empty_failure() && env.leftovers.is_empty() && !leased(env)
        });
        failed.map(move |env| (env.changed_at.after(shown), env))
    }

    /// Returns the events that end failed provisions which lists have shown for long enough.
    pub(crate) fn failures_over(&self, now: Time) -> Vec<Event> {
        let over = self.failures().filter(|(end, _)| *end <= now);
        over.filter_map(|(_, env)| env.ends_at_once()).collect()
    }

    /// Returns the next such end.
    pub(crate) fn failures_over_at(&self) -> Option<Time> {
        self.failures().map(|(end, _)| end).min()
    }

    pub(crate) fn forget(&mut self, e: &LivesForgotten) {
        for life in &e.lives {
            let env = self.environments.get(&life.environment);
            if env.is_some_and(|env| env.incarnation == life.incarnation && !env.is_live()) {
                self.environments.remove(&life.environment);
                self.labels.remove(&life.environment);
            }
        }
    }
}

impl Environment {
    fn former(&self) -> FormerLife {
        FormerLife {
            environment: self.id.clone(),
            incarnation: self.incarnation,
            nonce: self.nonce.clone(),
            begun: self.begun,
            last: self.seq,
            ended_at: self.changed_at,
            failed: self.phase == Phase::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Plan, Record};
    use crate::id::{EnvironmentId, LeaseId, Seq};
    use crate::model::lease::Lease;
    use crate::model::step::At;
    use crate::{Command, Former, Moment, Nonce, Provision};

    fn id(n: usize) -> EnvironmentId {
        EnvironmentId::parse(&format!("e{n}")).expect("an id")
    }

    fn ended(state: &mut State, n: usize) {
        let at = At { seq: Seq(n as u64 + 1), time: Time(n as u64) };
        let mut env = Environment::begin(at, &id(n), 3, &Plan::default());
        (env.owed, env.phase) = (None, Phase::Tombstoned);
        state.environments.insert(id(n), env.into());
        (state.seq, state.at) = (at.seq, at.time);
    }

    fn provision(n: usize) -> Command {
        Command::Provision(Provision {
            environment: id(n),
            plan: Plan::default(),
            actor: crate::event::Actor::default(),
            request: None,
            nonce: Nonce::parse(&"a".repeat(32)).expect("a nonce"),
            attributes: None,
        })
    }

    /// The memory of a daemon is bounded however many lives are over, and a forgotten one is still
    /// over.
    #[test]
    fn oldest_finished_lives_are_forgotten() {
        let mut state = State::default();
        let mut former = Vec::new();
        let most = policy::LIVES_REMEMBERED + policy::LIVES_FORGOTTEN_AT_ONCE;
        for n in 0..3 * most {
            ended(&mut state, n);
            if state.next_deadline(state.at()) != Some(state.at()) {
                continue;
            }
            for event in state.decide(state.at(), Command::Tick).expect("a tick") {
                if let crate::Event::LivesForgotten(e) = &event {
                    former.extend(e.lives.clone());
                }
                let seq = state.seq().next();
                state.apply(&Record { seq, at: state.at(), boot: 1, event });
            }
        }
        assert!(state.environments.len() < most, "{} are remembered", state.environments.len());
        assert_eq!(former.len() + state.environments.len(), 3 * most, "each of them once");
        assert!(former.is_sorted_by_key(|life| life.last), "the oldest first");
        let moment = Moment { now: state.at(), former: former.into_iter().collect::<Former>() };
        let events = state.decide(moment, provision(0)).expect("a new life");
        let crate::Event::ProvisionRequested(begun) = &events[0] else { panic!("{events:?}") };
        assert_eq!(begun.incarnation, 4, "no number is given twice");
    }

    /// A provision that failed and left nothing does not stay in the lists for ever.
    #[test]
    fn empty_failure_ends_with_retention_of_trash() {
        let mut state = State::default();
        let id = id(0);
        let at = At { seq: Seq(1), time: Time(0) };
        let mut env = Environment::begin(at, &id, 1, &Plan::default());
        (env.owed, env.phase) = (None, Phase::Failed);
        state.environments.insert(id.clone(), env.into());
        (state.seq, state.at) = (at.seq, at.time);
        state.retention.trash_seconds = 2 * 86_400;
        let due = Time(0).after(Duration::from_secs(2 * 86_400));
        assert_eq!(state.next_deadline(state.at()), Some(due));
        assert_eq!(state.decide(Time(due.0 - 1), Command::Tick).expect("a tick"), []);
        let events = state.decide(due, Command::Tick).expect("a tick");
        assert!(matches!(&events[..], [Event::Tombstoned(e)] if e.environment == id), "{events:?}");
        for event in events {
            state.apply(&Record { seq: state.seq().next(), at: due, boot: 1, event });
        }
        assert_eq!(state.environment(&id).map(|env| env.phase), Some(Phase::Tombstoned));
        assert_eq!(state.next_deadline(due), None);
        // What it left is still to be looked at.
        let mut env = Environment::begin(at, &id, 2, &Plan::default());
        (env.owed, env.phase) = (None, Phase::Failed);
        env.leftovers = vec!["the branch".to_owned()];
        state.environments.insert(id.clone(), env.into());
        assert_eq!(state.next_deadline(due), None);
        // At least a day, whatever the trash.
        state.retention.trash_seconds = 0;
        let mut env = Environment::begin(at, &id, 3, &Plan::default());
        (env.owed, env.phase) = (None, Phase::Failed);
        state.environments.insert(id.clone(), env.into());
        assert_eq!(state.next_deadline(due), Some(Time(0).after(policy::FAILURES_SHOWN)));
        // A lease says that it is in use; only its end is due.
        let until = due.after(Duration::from_secs(5 * 86_400));
        let lease = Lease { environment: id, until, purpose: String::new() };
        state.leases.insert(LeaseId::parse("lease-a").expect("an id"), lease);
        assert_eq!(state.next_deadline(due), Some(until));
        assert_eq!(state.decide(due, Command::Tick).expect("a tick"), []);
    }
}
