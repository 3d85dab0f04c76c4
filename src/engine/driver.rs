//! Runs owed effects on threads: one per subject (such as an environment), with a total bound.
//!
//! There is no queue: an effect that cannot start now is still owed after the next batch. An effect
//! that runs but is no longer owed is asked to stop; its replacement starts after it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::broadcast;
use tracing::Span;

use super::handle::{Message, Progress, Receipt, Reply};
use crate::core::effect::Effect;
use crate::core::{
    Code, Command, EffectId, Ended, Fault, MigrationStep, Note, OwedEffect, Settlement, State,
    Step, Subject, Target, Time,
};
use crate::engine::{scheduling, spans};
use crate::failpoint::kill::point;
use crate::migrate::MigrationRunner;
use crate::world::process::cancel::Cancel;
use crate::world::{Reporter, World};

/// Most effects that run at once. Hooks mostly wait, so this exceeds the number of cores.
pub const EFFECTS_MAX: usize = 64;
/// Most setup and teardown hooks at once, so that hanging hooks leave room for other effects.
pub const HOOKS_MAX: usize = 32;
/// Most base resolutions, file copies and rescues at once, of each kind.
const OTHERS_MAX: usize = 8;
/// Most database copies, or builds, at once, of each kind.
const MIGRATIONS_MAX: usize = 2;
/// Most walks through large trees at once, of each kind: no caller waits for them.
const BACKGROUND_MAX: usize = 1;

/// Starts effects and asks them to stop.
pub(super) struct Driver {
    world: Arc<World>,
    migration_runner: Option<Arc<MigrationRunner>>,
    mailbox: SyncSender<Message>,
    progress: broadcast::Sender<Progress>,
    running: BTreeMap<Subject, Running>,
    /// Checkouts keep the processors busy. One more than cores fills the gaps between two; with
    /// more, each only gets slower.
    checkouts_max: usize,
    cores: usize,
    stuck: bool,
}

struct Running {
    id: EffectId,
    step: Step,
    /// Whether the effect is background work, for which no caller waits.
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
        let migration_runner = None;
        Self {
            world,
            migration_runner,
            mailbox,
            progress,
            running,
            checkouts_max,
            cores,
            stuck: false,
        }
    }

    pub(super) fn set_migration_runner(&mut self, migration_runner: Arc<MigrationRunner>) {
        self.migration_runner = Some(migration_runner);
    }

    /// Starts owed effects within the bounds, and asks effects that are no longer owed to stop.
    pub(super) fn start_owed(&mut self, state: &State, now: Time) {
        for (subject, running) in &self.running {
            if state.owed_to(subject).as_ref() != Some(&running.id) {
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
        // Hundreds can be retired at once; effects that a caller waits for need permits too.
        let retired = self.running.values().filter(|r| r.in_background).count();
        if in_background && retired >= (self.cores / 2).max(1) {
            return false;
        }
        let most = match owed.step {
            Step::AddWorktree | Step::ApplyRescue => self.checkouts_max,
            Step::RunSetup | Step::RunTeardown => HOOKS_MAX,
            Step::ResolveBase | Step::CopyIncluded | Step::Rescue => OTHERS_MAX,
            Step::Measure | Step::Purge | Step::Clean | Step::FoldRescues => BACKGROUND_MAX,
            Step::CopySource | Step::NormaliseSource | Step::BuildStaging => MIGRATIONS_MAX,
            _ => EFFECTS_MAX,
        };
        !self.running.contains_key(&owed.id.subject)
            && self.running.len() < EFFECTS_MAX
            && self.running.values().filter(|r| kind(r.step) == kind(owed.step)).count() < most
    }

    /// Returns whether an owed effect could not be started for lack of a thread or a descriptor.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    fn start(&mut self, effect: Effect, in_background: bool) {
        let id = effect.id.clone();
        let started = Cancel::new().map(Arc::new).and_then(|cancel| {
            let job = Job {
                world: Arc::clone(&self.world),
                migration_runner: self.migration_runner.clone(),
                mailbox: self.mailbox.clone(),
                progress: self.progress.clone(),
                cancel: Arc::clone(&cancel),
            };
            let step = effect.step();
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
                // In time for the outcome: this thread is the one that reads the mailbox.
                self.running.insert(id.subject.clone(), running);
            }
            // No thread or no descriptor: the effect stays owed and is retried after a second.
            Err(e) => {
                self.stuck = true;
                tracing::warn!(effect = %id, error = %e, "cannot start an effect");
            }
        }
    }

    /// Removes an effect that has ended.
    pub(super) fn completed(&mut self, id: &EffectId) {
        // Another effect of the subject may run by now; an old message must not remove it.
        if self.running.get(&id.subject).is_some_and(|r| r.id == *id) {
            self.running.remove(&id.subject);
        }
    }

    /// Asks all running effects to stop.
    pub(super) fn cancel_all(&self) {
        for running in self.running.values() {
            running.cancel.cancel();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

/// Returns whether the environment is removed because a live set does not list it.
fn is_retired(state: &State, subject: &Subject) -> bool {
    let Subject::Environment(id) = subject else { return false };
    let teardown = state.environment(id).and_then(|env| env.teardown.as_ref());
    teardown.is_some_and(|teardown| {
        teardown.options.reason == crate::core::event::TeardownReason::Reconcile
    })
}

/// Maps steps that share a bound to one of them: hanging hooks of either kind must leave room.
fn kind(step: Step) -> Step {
    match step {
        Step::RunTeardown => Step::RunSetup,
        other => other,
    }
}

/// Resources of the thread that runs one effect.
struct Job {
    world: Arc<World>,
    migration_runner: Option<Arc<MigrationRunner>>,
    mailbox: SyncSender<Message>,
    progress: broadcast::Sender<Progress>,
    cancel: Arc<Cancel>,
}

impl Job {
    fn run(&self, effect: &Effect) {
        point("effect.started");
        let span = spans::step(effect);
        let inside = span.enter();
        tracing::debug!("step started");
        let reporter = EffectReporter { job: self, id: &effect.id };
        let settlement = self.perform(effect, &reporter);
        point("effect.performed");
        match settlement.fault() {
            None => tracing::debug!("step done"),
            Some(_) if is_interruption(&settlement) => tracing::debug!("step interrupted"),
            Some(fault) => tracing::info!(%fault, "step failed"),
        }
        drop(inside);
        // A send fails only when the engine has ended, and then the process is about to end.
        drop(self.mailbox.send(Message::Completed(settlement, span)));
    }

    fn perform(&self, effect: &Effect, reporter: &EffectReporter<'_>) -> Settlement {
        let (world, cancel, entered) = (&self.world, &*self.cancel, effect.id.entered);
        match &effect.target {
            Target::Environment(step, env, trusted) => {
                let result = world.perform(*step, env, trusted, cancel, reporter);
                Settlement::Environment(env.id.clone(), Ended { entered, result })
            }
            Target::Archive(step, archive, to_fold) => {
                let result = world.perform_on_archive(*step, archive, to_fold, cancel);
                let (id, incarnation) = (archive.id.clone(), archive.incarnation);
                Settlement::Archive(id, incarnation, Ended { entered, result })
            }
            Target::Output(step, output) => {
                let result = world.perform_on_output(*step, output, cancel);
                Settlement::Output(output.id.clone(), output.clean, Ended { entered, result })
            }
            Target::Migration(step, migration) => {
                let result = match &self.migration_runner {
                    Some(runner) => runner.perform(migration, *step, &|| cancel.is_cancelled()),
                    None => Err(no_runner(*step)),
                };
                Settlement::Migration(migration.id.clone(), Ended { entered, result })
            }
            Target::Host(step, state) => {
                let result = world.perform_on_host(*step, state, cancel);
                Settlement::Host(Ended { entered, result })
            }
        }
    }
}

struct EffectReporter<'a> {
    job: &'a Job,
    id: &'a EffectId,
}

impl Reporter for EffectReporter<'_> {
    fn note(&self, note: Note) -> bool {
        // Returns only when the note is durable, so the effect never acts ahead of the log.
        let (answer, answered) = std::sync::mpsc::sync_channel::<Result<Receipt, Fault>>(1);
        let reply: Reply = Box::new(move |result| drop(answer.send(result)));
        let command = Command::Note { effect: self.id.clone(), note };
        self.job.mailbox.send(Message::Command(command, reply, Span::current())).is_ok()
            && matches!(answered.recv(), Ok(Ok(Receipt { changed: true, .. })))
    }

    fn output(&self, line: &str) {
        let Subject::Environment(environment) = self.id.subject.clone() else { return };
        drop(self.job.progress.send(Progress { environment, line: line.to_owned() }));
    }
}

/// Returns whether an effect was cancelled, as at a shutdown; then its outcome is not settled.
pub(super) fn is_interruption(settlement: &Settlement) -> bool {
    settlement.fault().is_some_and(|fault| fault.code == Code::Cancelled)
}

/// Returns the fault of a migration's step where the engine was started without its runner.
fn no_runner(step: MigrationStep) -> Fault {
    let message = format!("step {} has no runner", step.as_str());
    Fault::new(Code::Defect, message, "report this defect with the daemon log")
}
