//! Labels: they belong to the id of an environment. A restored environment has the one that it
//! had; a new environment of the same id begins without one.

use crate::decision::{Decision, destroyed, not_found};
use crate::event::{EnvironmentLabeled, LabelEvent};
use crate::former::Former;
use crate::id::EnvironmentId;
use crate::label::Label;
use crate::model::environment::Phase;
use crate::model::step::At;
use crate::state::State;

impl State {
    /// Returns the label of an environment; also of a removed one, for as long as the state
    /// remembers that.
    #[must_use]
    pub fn label(&self, id: &EnvironmentId) -> Option<&Label> {
        self.labels.get(id)
    }

    /// Decides a label; the one that the environment has changes nothing.
    pub(crate) fn decide_label(&self, former: &Former, wanted: EnvironmentLabeled) -> Decision {
        let id = &wanted.environment;
        match self.environment(id) {
            Some(env) if env.phase == Phase::Tombstoned => return Err(destroyed(id)),
            Some(_) => {}
            None if former.life(id).is_some() => return Err(destroyed(id)),
            None => return Err(not_found(id)),
        }
        if self.label(id) == wanted.label.as_ref() {
            return Ok(Vec::new());
        }
        Ok(vec![wanted.into()])
    }

    /// Folds in an event about a label.
    pub(crate) fn apply_label(&mut self, at: At, event: LabelEvent<'_>) {
        let LabelEvent::EnvironmentLabeled(e) = event;
        match &e.label {
            Some(label) if self.environments.contains_key(&e.environment) => {
                self.labels.insert(e.environment.clone(), label.clone());
            }
            _ => drop(self.labels.remove(&e.environment)),
        }
        self.with(at, &e.environment, |_| {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Actor, Event, FormerLife, LivesForgotten, Plan, Record};
    use crate::model::environment::Environment;
    use crate::{Code, Command, Nonce, Provision, Seq, Time};

    fn id() -> EnvironmentId {
        EnvironmentId::parse("demo").expect("an id")
    }

    fn apply(state: &mut State, events: Vec<Event>) {
        for event in events {
            let seq = state.seq().next();
            state.apply(&Record { seq, at: Time(seq.0), boot: 1, event });
        }
    }

    /// A state with an environment in a phase.
    fn state(phase: Phase) -> State {
        let mut state = State::default();
        let at = At { seq: Seq(0), time: Time(0) };
        let mut env = Environment::begin(at, &id(), 1, &Plan::default());
        (env.owed, env.phase) = (None, phase);
        state.environments.insert(id(), env.into());
        state
    }

    fn label(state: &State, text: Option<&str>) -> Decision {
        let label = text.map(|text| Label::parse(text).expect("a label"));
        let wanted = EnvironmentLabeled { environment: id(), label, actor: Actor::daemon() };
        state.decide(Time(9), Command::Label(wanted))
    }

    fn shown(state: &State) -> Option<&str> {
        state.label(&id()).map(Label::as_str)
    }

    #[test]
    fn label_is_set_once_changed_and_taken_away() {
        let mut state = state(Phase::Ready);
        for (wanted, events) in
            [(Some("a"), 1), (Some("a"), 0), (Some("b"), 1), (None, 1), (None, 0)]
        {
            let decided = label(&state, wanted).expect("decided");
            assert_eq!(decided.len(), events, "{wanted:?}");
            apply(&mut state, decided);
            assert_eq!(shown(&state), wanted);
        }
    }

    #[test]
    fn what_is_not_there_gets_no_label() {
        let refused = |state: &State| label(state, Some("a")).map_err(|fault| fault.code);
        assert_eq!(refused(&State::default()), Err(Code::EnvironmentNotFound));
        assert_eq!(refused(&state(Phase::Tombstoned)), Err(Code::EnvironmentDestroyed));
        // A salvaged log may have the label of an environment that it has lost.
        let mut empty = State::default();
        let found = label(&state(Phase::Ready), Some("a")).expect("decided");
        apply(&mut empty, found);
        assert_eq!(shown(&empty), None);
        empty.check().expect("sound");
    }

    #[test]
    fn label_ends_with_new_life_and_with_forgotten_one() {
        let labeled = || {
            let mut state = state(Phase::Ready);
            let events = label(&state, Some("a")).expect("decided");
            apply(&mut state, events);
            state
                .environments
                .insert(id(), self::state(Phase::Tombstoned).environments[&id()].clone());
            assert_eq!(shown(&state), Some("a"));
            state
        };
        let mut again = labeled();
        let provision = Provision {
            environment: id(),
            plan: Plan::default(),
            actor: Actor::daemon(),
            request: None,
            nonce: Nonce::parse(&"0".repeat(32)).expect("a nonce"),
            attributes: None,
        };
        let events = again.decide(Time(9), Command::Provision(provision)).expect("decided");
        apply(&mut again, events);
        assert_eq!(shown(&again), None);

        let mut over = labeled();
        let life = FormerLife {
            environment: id(),
            incarnation: 1,
            nonce: None,
            begun: Seq(0),
            last: Seq(1),
            ended_at: Time(1),
            failed: false,
        };
        apply(&mut over, vec![LivesForgotten { lives: vec![life] }.into()]);
        assert_eq!(shown(&over), None);
        over.check().expect("sound");
    }
}
