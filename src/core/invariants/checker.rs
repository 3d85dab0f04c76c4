//! The audit's fold: checks before a record is applied, and after the records of one decision.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Record};
use crate::id::{EnvironmentId, HostPath, MigrationId, Seq};
use crate::invariants::list::{Breach, SOUND, Violations};
use crate::model::archive::ArchivedIncarnation;
use crate::model::cleaned_output::CleanedOutput;
use crate::model::environment::{Environment, Phase};
use crate::model::migration::Migration;
use crate::state::State;

/// Facts that the audit needs and the state does not hold.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Live environments by their directory.
    pub(super) places: BTreeMap<HostPath, EnvironmentId>,
    /// Environments whose rescue has settled since their last inspection.
    pub(super) rescued: BTreeSet<EnvironmentId>,
    /// Migrations whose new database is verified.
    pub(super) verified: BTreeSet<MigrationId>,
    /// Number of the last incarnation of each environment that the state has forgotten.
    pub(super) former: BTreeMap<EnvironmentId, u32>,
    /// Whether it begins with a state, so that lives forgotten before it are not known.
    pub(super) begins_late: bool,
    /// Subject and position of the last record.
    open: Option<(About, Seq)>,
}

impl Audit {
    /// Creates an audit that begins with a state: the empty one, or that of a snapshot.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut audit = Self { begins_late: state.seq() > Seq(0), ..Self::default() };
        for env in state.environments().filter(|e| e.is_live()) {
            audit.places.insert(env.plan.path.clone(), env.id.clone());
            // A snapshot does not tell whether its rescue was recorded; assume it was.
            audit.rescued.insert(env.id.clone());
        }
        audit.verified.extend(state.migrations().map(|m| m.id.clone()));
        audit
    }

    /// Folds a record in and returns the invariants it breaks.
    pub fn fold(&mut self, state: &mut State, record: &Record) -> Vec<Breach> {
        let mut found = Violations::new();
        crate::invariants::ordering::check(state, record, &mut found);
        crate::invariants::settlement::check(state, &record.event, &mut found);
        self.check_life(state, record, &mut found);
        self.check_work(state, record, &mut found);
        crate::invariants::ordering::check_bounds(state, record, &mut found);
        let seq = record.seq;
        let breach = |(invariant, what)| Breach { invariant, seq, what };
        let mut breaches: Vec<Breach> = found.into_iter().map(breach).collect();
        // Checked at the end of a decision: its records are consistent only together.
        let about = About::of(&record.event);
        if self.open.as_ref().is_some_and(|(open, _)| Some(open) != about.as_ref()) {
            breaches.extend(self.finish(state));
        }
        self.open = about.map(|about| (about, seq));
        state.apply(record);
        self.remember(state, record);
        breaches
    }

    /// Returns a contradiction in the subject of the last record, once its decision is complete.
    #[must_use]
    pub fn finish(&self, state: &State) -> Option<Breach> {
        let (about, seq) = self.open.as_ref()?;
        let what = about.check(state).err()?;
        Some(Breach { invariant: SOUND, seq: *seq, what })
    }

    /// Records the facts that later records are compared with.
    fn remember(&mut self, state: &State, record: &Record) {
        match &record.event {
            Event::WorkRescued(e) => drop(self.rescued.insert(e.environment.clone())),
            Event::TeardownInspected(e) => drop(self.rescued.remove(&e.environment)),
            Event::StagingVerified(e) => drop(self.verified.insert(e.migration.clone())),
            Event::MigrationRequested(e) => drop(self.verified.remove(&e.migration)),
            Event::LivesForgotten(e) => {
                let lives = e.lives.iter().map(|life| (life.environment.clone(), life.incarnation));
                self.former.extend(lives);
            }
            Event::DataDirectoryMoved(_) | Event::DataDirectoryCopied(_) => {
                self.places.clear();
                for env in state.environments().filter(|env| env.is_live()) {
                    self.places.insert(env.plan.path.clone(), env.id.clone());
                }
            }
            _ => {}
        }
        let Some(env) = record.event.environment().and_then(|id| state.environment(id)) else {
            return;
        };
        if env.is_live() {
            self.places.entry(env.plan.path.clone()).or_insert_with(|| env.id.clone());
            return;
        }
        if self.places.get(&env.plan.path) == Some(&env.id) {
            self.places.remove(&env.plan.path);
        }
        if env.phase == Phase::Tombstoned {
            self.rescued.remove(&env.id);
        }
    }
}

/// The subject of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    Environment(EnvironmentId),
    Archive(EnvironmentId, u32),
    Output(EnvironmentId, Seq),
    Migration(MigrationId),
}

impl About {
    fn of(event: &Event) -> Option<Self> {
        if let Some((id, life)) = event.archive() {
            return Some(Self::Archive(id.clone(), life));
        }
        if let Some((id, clean)) = event.output() {
            return Some(Self::Output(id.clone(), clean));
        }
        let environment = event.environment().cloned().map(Self::Environment);
        environment.or_else(|| event.migration().cloned().map(Self::Migration))
    }

    fn check(&self, state: &State) -> Result<(), String> {
        match self {
            Self::Environment(id) => state.environment(id).map_or(Ok(()), Environment::check),
            Self::Archive(id, life) => {
                state.archive_of(id, *life).map_or(Ok(()), ArchivedIncarnation::check)
            }
            Self::Output(id, clean) => {
                state.output(id, *clean).map_or(Ok(()), CleanedOutput::check)
            }
            Self::Migration(id) => state.migration(id).map_or(Ok(()), Migration::check),
        }
    }
}
