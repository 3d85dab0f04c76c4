//! Lives that the state has forgotten, found again through the index of the log. Reads only.

use crate::core::event::{FormerLife, Record};
use crate::core::{
    Code, Command, Environment, EnvironmentId, Event, Fault, Former, Moment, Seq, State, Time,
    destroyed, not_found,
};
use crate::engine::Handle;
use crate::journal::{self, Reader};
use crate::world::effects::former_lives::FormerLives;

/// Most records of one life that are read to describe it; a longer one is described as far as they
/// go.
const RECORDS_MAX: usize = 4_096;
/// Most records that are read to find out whether an environment has changed.
const CHANGES_READ: usize = 64;

/// Returns what a command is decided by besides the state. `pending` are lives that a record which
/// is not committed yet forgets.
pub(super) fn moment(
    reader: &Reader,
    state: &State,
    pending: &[FormerLife],
    (now, command): (Time, &Command),
) -> Result<Moment, Fault> {
    let mut lives = Vec::new();
    for id in command.lives_named() {
        if state.environment(id).is_some() {
            continue;
        }
        let waiting = pending.iter().rev().find(|life| life.environment == *id).cloned();
        let life = match waiting {
            Some(life) => Some(life),
            None => reader.life(id).map_err(|e| unread(&e))?,
        };
        lives.extend(life);
    }
    Ok(Moment { now, former: lives.into_iter().collect::<Former>() })
}

/// Returns a life as its records describe it. Of one whose records are trimmed, what the index has.
fn described(reader: &Reader, life: &FormerLife) -> Result<Environment, Fault> {
    let before = Seq(life.begun.0.saturating_sub(1));
    let records = reader.of_environment(&life.environment, before, RECORDS_MAX);
    let records = records.map_err(|e| unread(&e))?;
    let mut state = State::default();
    for record in records.iter().take_while(|record| record.seq <= life.last) {
        state.apply(record);
    }
    let found = state.environment(&life.environment).cloned();
    Ok(found.unwrap_or_else(|| life.outline()))
}

fn unread(error: &journal::Error) -> Fault {
    let hint = "run `replay verify` on the log of the data directory";
    Fault::new(Code::JournalFailed, "cannot find a former life in the log", hint)
        .because(error.to_string())
}

impl Handle {
    /// Returns the present or last life of an environment, also one that the state has forgotten.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn environment(&self, id: &EnvironmentId) -> Result<Option<Environment>, Fault> {
        if let Some(env) = self.view(|state| state.environment(id).cloned()) {
            return Ok(Some(env));
        }
        let life = self.reader.life(id).map_err(|e| unread(&e))?;
        life.map(|life| described(&self.reader, &life)).transpose()
    }

    /// Returns whether the log knows an incarnation, as [`State::knows`] does.
    #[must_use]
    pub fn knows(&self, id: &EnvironmentId, incarnation: u32, nonce: Option<&str>) -> bool {
        if self.view(|state| state.environment(id).is_some()) {
            return self.view(|state| state.knows(id, incarnation, nonce));
        }
        // What cannot be read counts as known: nothing of it is taken for lost.
        let Ok(found) = self.environment(id) else { return true };
        let knows = |env| self.view(|state| state.knows_of(&env, incarnation, nonce));
        found.is_some_and(knows)
    }

    /// Returns the fault for an environment that is not in the state: it is over, or never was.
    #[must_use]
    pub fn absent(&self, id: &EnvironmentId) -> Fault {
        match self.reader.life(id) {
            Ok(Some(_)) => destroyed(id),
            Ok(None) => not_found(id),
            Err(error) => unread(&error),
        }
    }

    /// Returns up to `max` lives that the state has forgotten, of the environments after `after`,
    /// by id.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn forgotten(&self, after: &str, max: usize) -> Result<Vec<Environment>, Fault> {
        let lives = self.reader.lives(after, max).map_err(|e| unread(&e))?;
        lives.iter().map(|life| described(&self.reader, life)).collect()
    }
}

/// The index, for a sweep.
#[derive(Debug)]
pub(super) struct Index(pub(super) Reader);

impl FormerLives for Index {
    fn life(&self, id: &EnvironmentId) -> Option<Environment> {
        let life = self.0.life(id).map_err(|e| unread(&e));
        let found = life.and_then(|life| life.map(|life| described(&self.0, &life)).transpose());
        // Without it the sweep names what it finds, and settles nothing of it.
        found.unwrap_or_else(|fault| {
            tracing::warn!(environment = %id, %fault, "cannot find a former life");
            None
        })
    }

    fn has_changed_since(&self, id: &EnvironmentId, seq: Seq) -> bool {
        let is_of_fold = |record: &Record| {
            let event = &record.event;
            matches!(event, Event::RemainsAttemptFailed(_) | Event::RescueFoldDecided(_))
                || matches!(event, Event::RescuesFolded(_))
        };
        let records = self.0.of_environment(id, seq, CHANGES_READ);
        // As many as were asked for may be followed by others.
        records.map_or(true, |found| found.len() == CHANGES_READ || !found.iter().all(is_of_fold))
    }
}
