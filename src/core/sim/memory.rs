//! The index of forgotten lives, and a second state that forgets none: what is decided must not
//! depend on what was forgotten.

use std::collections::BTreeMap;

use crate::event::{FormerLife, Opaque};
use crate::{Code, Command, EnvironmentId, Event, Former, Moment, Phase, Record, State, Time};

/// What a daemon finds outside its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    former: BTreeMap<EnvironmentId, FormerLife>,
    whole: State,
}

impl Memory {
    /// Folds a record in, as the index of the log does.
    pub(crate) fn note(&mut self, record: &Record) {
        let Event::LivesForgotten(e) = &record.event else { return self.whole.apply(record) };
        let lives = e.lives.iter().map(|life| (life.environment.clone(), life.clone()));
        self.former.extend(lives);
        let (kind, version) = (record.event.kind_number(), record.event.kind_version());
        let event = Event::Opaque(Opaque { kind, version, payload: Vec::new() });
        self.whole.apply(&Record { event, ..record.clone() });
    }

    /// Returns the state that forgets nothing.
    pub(crate) fn whole(&self) -> &State {
        &self.whole
    }

    fn moment(&self, state: &State, now: Time, command: &Command) -> Moment {
        let named = command.lives_named().into_iter();
        let unknown = named.filter(|id| state.environment(id).is_none());
        let former: Former = unknown.filter_map(|id| self.former.get(id).cloned()).collect();
        Moment { now, former }
    }

    /// Returns whether a failed provision is forgotten: a user who removes it again changes nothing
    /// any more, while a remembered one goes.
    fn lacks_failure(&self, state: &State) -> bool {
        let failed = self.whole.environments().filter(|env| env.phase == Phase::Failed);
        failed.into_iter().any(|env| state.environment(&env.id).is_none())
    }

    /// Decides a command with what the index knows of the lives that it names.
    ///
    /// # Panics
    /// When a state that has forgotten nothing decides otherwise.
    pub(crate) fn decided(
        &self,
        state: &State,
        now: Time,
        command: Command,
    ) -> Result<Vec<Event>, Code> {
        let moment = self.moment(state, now, &command);
        let decided = state.decide(moment, command.clone()).map_err(|fault| fault.code);
        if !self.lacks_failure(state) {
            let what = format!("{command:?} depends on what was forgotten");
            let whole = self.whole.decide(now, command).map_err(|fault| fault.code);
            assert_eq!(decided, whole, "{what}");
        }
        decided
    }

    /// Checks that nothing but finished lives is missing from the state.
    ///
    /// # Panics
    /// When something else is.
    pub(crate) fn check(&self, state: &State) {
        assert!(state.archives().eq(self.whole.archives()), "archives are forgotten");
        assert!(state.outputs().eq(self.whole.outputs()), "cleaned output is forgotten");
        let live = |state: &State| -> Vec<_> {
            state.environments().filter(|env| env.is_live()).cloned().collect()
        };
        assert_eq!(live(state), live(&self.whole));
    }
}
