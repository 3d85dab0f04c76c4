//! Owed effects to running threads: one per environment, a bounded number in all.
//!
//! There is no queue: what cannot be started now is still owed after the next batch. An effect
//! that is running but not owed any more is asked to stop, and the one that replaces it waits
//! until it is home.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::broadcast;

use super::handle::{Message, Progress, Receipt, Reply};
use crate::core::effect::Effect;
use crate::core::{
    Code, Command, EffectId, Fault, Note, Outcome, OwedEffect, State, Step, Subject, Target, Time,
};
use crate::engine::scheduling;
use crate::failpoint::kill::point;
use crate::migrate::MigrationRunner;
use crate::world::process::cancel::Cancel;
use crate::world::{Reporter, World};

/// Most effects that run at once. Hooks mostly wait, so this is more than there are cores.
pub const EFFECTS_MAX: usize = 64;
/// Most setup hooks that run at once, so that hooks that hang leave room for everything else.
pub const HOOKS_MAX: usize = 32;
/// Most bases that are resolved, or file sets that are copied, at once.
const OTHERS_MAX: usize = 8;
/// Most databases that are copied, or built, at once.
const MIGRATIONS_MAX: usize = 2;
/// Most walks through large trees at once, of each kind: nobody waits for them.
const BACKGROUND_MAX: usize = 1;

/// Starts and stops effects.
pub(super) struct Driver {
    world: Arc<World>,
    desk: Option<Arc<MigrationRunner>>,
    mailbox: SyncSender<Message>,
    progress: broadcast::Sender<Progress>,
    running: BTreeMap<Subject, Running>,
    /// Checkouts keep the processors busy; one more than cores fills the gaps between two, and
    /// with more they only get slower.
    checkouts_max: usize,
    cores: usize,
    stuck: bool,
}

struct Running {
    id: EffectId,
    step: Step,
    /// Nobody waits for it.
    in_background: bool,
    cancel: Arc<Cancel>,
}

impl Driver {
    pub(super) fn new(
        world: Arc<World>,
        mailbox: SyncSender<Message>,
        progress: broadcast::Sender<Progress>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let checkouts_max = cores + 1;
        let running = BTreeMap::new();
        let desk = None;
        Self { world, desk, mailbox, progress, running, checkouts_max, cores, stuck: false }
    }

    pub(super) fn set_desk(&mut self, desk: Arc<MigrationRunner>) {
        self.desk = Some(desk);
    }

    /// Starts what is owed and has room; asks what is not owed any more to stop.
    pub(super) fn start_owed(&mut self, state: &State, now: Time) {
        for (who, running) in &self.running {
            if state.owed_to(who).as_ref() != Some(&running.id) {
                running.cancel.cancel();
            }
        }
        self.stuck = false;
        for owed in state.owed(now) {
            let in_background = is_retired(state, &owed.id.subject);
            if self.has_room(&owed, in_background)
                && let Some(effect) = state.effect(&owed.id)
            {
                self.start(effect, in_background);
            }
        }
    }

    fn has_room(&self, owed: &OwedEffect, in_background: bool) -> bool {
        // Hundreds may be retired at once; what somebody waits for goes on beside them.
        let retired = self.running.values().filter(|r| r.in_background).count();
        if in_background && retired >= (self.cores / 2).max(1) {
            return false;
        }
        let most = match owed.step {
            Step::AddWorktree | Step::ApplyRescue => self.checkouts_max,
            Step::RunSetup | Step::RunTeardown => HOOKS_MAX,
            Step::ResolveBase | Step::CopyIncluded | Step::Rescue => OTHERS_MAX,
            Step::Measure | Step::Purge | Step::Clean => BACKGROUND_MAX,
            Step::CopySource | Step::NormaliseSource | Step::BuildStaging => MIGRATIONS_MAX,
            _ => EFFECTS_MAX,
        };
        !self.running.contains_key(&owed.id.subject)
            && self.running.len() < EFFECTS_MAX
            && self.running.values().filter(|r| kind(r.step) == kind(owed.step)).count() < most
    }

    /// Whether something could not be started that is owed now.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    fn start(&mut self, effect: Effect, in_background: bool) {
        let id = effect.id.clone();
        let started = Cancel::new().map(Arc::new).and_then(|cancel| {
            let job = Job {
                world: Arc::clone(&self.world),
                desk: self.desk.clone(),
                mailbox: self.mailbox.clone(),
                progress: self.progress.clone(),
                cancel: Arc::clone(&cancel),
            };
            let step = effect.step;
            let name = format!("gk-{}", step.as_str());
            std::thread::Builder::new().name(name).spawn(move || {
                if in_background {
                    scheduling::lower();
                }
                job.run(&effect);
            })?;
            Ok(Running { id: id.clone(), step, in_background, cancel })
        });
        match started {
            Ok(running) => {
                self.running.insert(id.subject.clone(), running);
            }
            // No thread or no descriptor: it stays owed and is tried again soon.
            Err(e) => {
                self.stuck = true;
                tracing::warn!(effect = %id, error = %e, "an effect cannot be started");
            }
        }
    }

    /// Notes that an effect has ended.
    pub(super) fn home(&mut self, id: &EffectId) {
        if self.running.get(&id.subject).is_some_and(|r| r.id == *id) {
            self.running.remove(&id.subject);
        }
    }

    /// Asks everything to stop.
    pub(super) fn cancel_all(&self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

/// Whether it goes because a live set does not list it.
fn is_retired(state: &State, subject: &Subject) -> bool {
    let Subject::Environment(id) = subject else { return false };
    let teardown = state.environment(id).and_then(|env| env.teardown.as_ref());
    teardown.is_some_and(|teardown| teardown.options.reason == crate::core::model::live_set::REASON)
}

/// Steps that share a bound: hooks that hang must leave room, whichever they are.
fn kind(step: Step) -> Step {
    match step {
        Step::RunTeardown => Step::RunSetup,
        other => other,
    }
}

/// What one effect's thread holds.
struct Job {
    world: Arc<World>,
    desk: Option<Arc<MigrationRunner>>,
    mailbox: SyncSender<Message>,
    progress: broadcast::Sender<Progress>,
    cancel: Arc<Cancel>,
}

impl Job {
    fn run(&self, effect: &Effect) {
        point("effect.started");
        let span = tracing::debug_span!("effect", id = %effect.id, step = effect.step.as_str());
        let _inside = span.enter();
        let reporter = EffectReporter { job: self, id: &effect.id };
        let outcome = match (&effect.target, &self.desk) {
            (Target::Migration(migration), Some(desk)) => {
                desk.perform(migration, effect.step, &|| self.cancel.is_cancelled())
            }
            _ => self.world.perform(effect, &self.cancel, &reporter),
        };
        point("effect.performed");
        match &outcome {
            Ok(_) => tracing::debug!("done"),
            Err(fault) => tracing::info!(%fault, "failed"),
        }
        // The engine is gone only when the process is about to be.
        drop(self.mailbox.send(Message::Home(effect.id.clone(), outcome)));
    }
}

struct EffectReporter<'a> {
    job: &'a Job,
    id: &'a EffectId,
}

impl Reporter for EffectReporter<'_> {
    fn note(&self, note: Note) -> bool {
        let (answer, answered) = std::sync::mpsc::sync_channel::<Result<Receipt, Fault>>(1);
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        let command = Command::Note { effect: self.id.clone(), note };
        self.job.mailbox.send(Message::Command(command, reply)).is_ok()
            && matches!(answered.recv(), Ok(Ok(Receipt { changed: true, .. })))
    }

    fn output(&self, line: &str) {
        let Subject::Environment(environment) = self.id.subject.clone() else { return };
        drop(self.job.progress.send(Progress { environment, line: line.to_owned() }));
    }
}

/// What an effect comes home with when the daemon is stopping: nothing that counts.
pub(super) fn is_interruption(outcome: &Result<Outcome, Fault>) -> bool {
    matches!(outcome, Err(fault) if fault.code == Code::Cancelled)
}
