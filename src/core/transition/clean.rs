//! Output of cleans: rebuildable files in the trash, each clean in a folder of its own.
//!
//! An entry exists from the request on, so that the state explains every folder. It is kept for a
//! short time, is unlinked before anything else when space is needed, and can be put back until
//! then. Its name is the record that requested the clean. When its environment is removed it stays
//! until its time: a restore within that time can still be followed by an undo, and the removal
//! need not wait for another unlink. Nothing here reads the disk.

use std::sync::Arc;

use crate::decision::{Decision, destroyed, not_ready};
use crate::effect::OutputOutcome;
use crate::event::{
    Actor, CleanAttemptFailed, CleanEvent, CleanPurgeDecided, CleanPurged, CleanRequested,
    CleanUndoRequested, CleanUndone, Cleaned, Event, OutputEvent, PurgeReason,
};
use crate::fault::{Code, Fault};
use crate::former::Former;
use crate::id::{EnvironmentId, Seq, Time};
use crate::model::cleaned_output::{CleanedOutput, OutputPhase};
use crate::model::environment::{Environment, Phase};
use crate::model::step::{At, EnvironmentStep as Step, OutputStep, Owed};
use crate::policy;
use crate::state::State;

impl CleanedOutput {
    fn begin(at: At, env: &Environment, now: bool) -> Self {
        Self {
            id: env.id.clone(),
            clean: at.seq,
            incarnation: env.incarnation,
            at: at.time,
            repository: env.plan.repository.common_dir.clone(),
            branch: env.plan.branch.clone(),
            phase: OutputPhase::Taking,
            now,
            trash: None,
            paths: Vec::new(),
            size: None,
            purge: None,
            owed: None,
            fault: None,
        }
    }

    fn start_purge(&mut self, at: At, reason: PurgeReason) {
        self.purge = reason.given();
        (self.fault, self.phase) = (None, OutputPhase::Kept);
        match &mut self.owed {
            // A running step goes on; a step that waits for another attempt may start at once.
            Some(owed) => owed.not_before = owed.not_before.min(at.time),
            owed => *owed = Some(Owed::new(OutputStep::Purge, at)),
        }
    }

    fn taken(&mut self, at: At, e: &Cleaned) {
        if e.fault.is_some() {
            return self.start_purge(at, PurgeReason::Interrupted);
        }
        self.phase = OutputPhase::Kept;
        self.trash.clone_from(&e.trash);
        self.paths.clone_from(&e.paths);
        self.size = Some(e.size);
        if self.now {
            self.start_purge(at, PurgeReason::Now);
        }
    }

    fn returned(&mut self, e: &CleanUndone) {
        self.phase = OutputPhase::Kept;
        if e.fault.is_none() {
            self.paths = e.left.iter().map(|left| left.path.clone()).collect();
            self.size = Some(e.size);
            if self.paths.is_empty() {
                self.trash = None;
            }
        }
    }

    /// Folds in the present state of its environment. A clean that is no longer owed has lost its
    /// result, so what it may have moved is unlinked: no user was told of it. An undo that is no
    /// longer owed left the rest in the trash.
    fn follow(&mut self, at: At, env: &Environment) {
        let owed = env.owed.as_ref().map(|o| o.step);
        match self.phase {
            OutputPhase::Taking if owed != Some(Step::Clean) => {
                self.start_purge(at, PurgeReason::Interrupted);
            }
            OutputPhase::Returning if owed != Some(Step::UndoClean) => {
                self.phase = OutputPhase::Kept;
            }
            _ => {}
        }
        let restored_from = env.restore.as_ref().map(|from| from.incarnation);
        if env.phase == Phase::Ready && restored_from == Some(self.incarnation) {
            self.incarnation = env.incarnation;
        }
    }

    fn apply(&mut self, at: At, event: OutputEvent<'_>) {
        match event {
            OutputEvent::CleanPurgeDecided(e) => self.start_purge(at, e.reason.clone()),
            OutputEvent::CleanPurged(e) => {
                self.purge = None;
                self.owed = None;
                self.fault.clone_from(&e.fault);
                if e.fault.is_none() {
                    self.trash = None;
                }
            }
            OutputEvent::CleanAttemptFailed(e) => {
                self.fault = Some(e.fault.clone());
                if let Some(owed) = &mut self.owed {
                    owed.retry(at, e.attempts, e.retry_at);
                }
            }
        }
    }

    /// Returns the events that the end of its effect leads to.
    pub(crate) fn settle(
        &self,
        now: Time,
        step: OutputStep,
        result: Result<OutputOutcome, Fault>,
    ) -> Vec<Event> {
        let (environment, clean) = (self.id.clone(), self.clean);
        let fault = match result {
            Ok(OutputOutcome::Purged(entries)) => {
                return vec![CleanPurged { environment, clean, entries, fault: None }.into()];
            }
            Err(fault) => fault,
        };
        let attempts = self.owed.as_ref().map_or(0, |o| o.attempts).saturating_add(1);
        if attempts >= policy::attempts_max(step) || fault.code == Code::NotOurs {
            return self.give_up(fault);
        }
        let retry_at = now.after(policy::trash_delay(attempts));
        let step = step.as_str().to_owned();
        vec![CleanAttemptFailed { environment, clean, step, attempts, retry_at, fault }.into()]
    }

    /// Returns the event that ends its unlinking without success: it stays, with the reason.
    pub(crate) fn give_up(&self, fault: Fault) -> Vec<Event> {
        let (environment, clean) = (self.id.clone(), self.clean);
        vec![CleanPurged { environment, clean, entries: 0, fault: Some(fault) }.into()]
    }

    fn purge(&self, reason: PurgeReason, actor: Option<Actor>) -> Event {
        let (environment, clean) = (self.id.clone(), self.clean);
        CleanPurgeDecided { environment, clean, reason, actor }.into()
    }
}

impl State {
    /// Folds in an event about the output of a clean.
    pub(crate) fn apply_output(&mut self, at: At, event: OutputEvent<'_>) {
        let (id, clean) = event.subject();
        if let Some(output) = self.output_mut(id, clean) {
            output.apply(at, event);
        }
        self.forget_outputs(id);
    }

    /// Folds in an event about a clean or its undo, for the environment and for the output.
    pub(crate) fn apply_clean(&mut self, at: At, event: CleanEvent<'_>) {
        match event {
            CleanEvent::CleanRequested(e) => {
                self.with(at, &e.environment, |env| {
                    env.cleaned = None;
                    env.enter(Step::Clean, at);
                });
                if let Some(env) = self.environments.get(&e.environment) {
                    let output = Arc::new(CleanedOutput::begin(at, env, e.now));
                    self.outputs.entry(env.id.clone()).or_default().insert(at.seq, output);
                }
            }
            CleanEvent::Cleaned(e) => {
                self.with(at, &e.environment, |env| {
                    env.owed = None;
                    env.cleaned = Some(e.clone());
                });
                let outputs = self.outputs.get_mut(&e.environment).into_iter();
                let outputs = outputs.flat_map(std::collections::BTreeMap::values_mut);
                let taking = outputs.filter(|o| o.phase == OutputPhase::Taking);
                taking.map(Arc::make_mut).for_each(|output| output.taken(at, e));
            }
            CleanEvent::CleanUndoRequested(e) => {
                self.with(at, &e.environment, |env| {
                    (env.undoing, env.undone) = (Some(e.clean), None);
                    env.enter(Step::UndoClean, at);
                });
                if let Some(output) = self.output_mut(&e.environment, e.clean) {
                    output.phase = OutputPhase::Returning;
                }
            }
            CleanEvent::CleanUndone(e) => {
                self.with(at, &e.environment, |env| {
                    env.owed = None;
                    env.undone = Some(e.clone());
                });
                if let Some(output) = self.output_mut(&e.environment, e.clean) {
                    output.returned(e);
                }
            }
        }
    }

    fn output_mut(&mut self, id: &EnvironmentId, clean: Seq) -> Option<&mut CleanedOutput> {
        self.outputs.get_mut(id)?.get_mut(&clean).map(Arc::make_mut)
    }

    /// Folds the present state of an environment into the output of its cleans.
    pub(crate) fn follow_cleans(&mut self, at: At, id: &EnvironmentId) {
        let Some(env) = self.environments.get(id) else { return };
        let Some(outputs) = self.outputs.get_mut(id) else { return };
        for output in outputs.values_mut().map(Arc::make_mut) {
            output.follow(at, env);
        }
        self.forget_outputs(id);
    }

    fn forget_outputs(&mut self, id: &EnvironmentId) {
        let Some(outputs) = self.outputs.get_mut(id) else { return };
        outputs.retain(|_, output| !output.is_nothing());
        if outputs.is_empty() {
            self.outputs.remove(id);
        }
    }

    /// Decides to move the rebuildable output of an environment to the trash.
    pub(crate) fn decide_clean(
        &self,
        former: &Former,
        id: EnvironmentId,
        now: bool,
        actor: Actor,
    ) -> Decision {
        let env = self.served(former, &id)?;
        if env.adopted {
            let message =
                format!("environment {id} is adopted; nothing in its worktree is deleted");
            let hint = "delete its build output with the tools that made it";
            return Err(Fault::new(Code::NotOurs, message, hint));
        }
        match env.owed.as_ref().map(|o| o.step) {
            Some(Step::Clean) if self.outputs_of(&id).any(|o| o.is_taken(now)) => Ok(Vec::new()),
            Some(Step::Clean) => Err(cleaning(&id)),
            Some(Step::Inspect) => Err(not_ready(env)),
            Some(Step::UndoClean) => Err(undoing(&id)),
            _ => Ok(vec![CleanRequested { environment: id, actor, now }.into()]),
        }
    }

    /// Decides to put back the output of the last clean that is still in the trash.
    pub(crate) fn decide_undo_clean(
        &self,
        former: &Former,
        id: EnvironmentId,
        actor: Actor,
    ) -> Decision {
        let over = self.environment(&id).filter(|env| env.phase == Phase::Tombstoned);
        if let Some(env) = over {
            return Err(self.not_after_its_end(env));
        }
        let env = self.served(former, &id)?;
        match env.owed.as_ref().map(|o| o.step) {
            Some(Step::UndoClean) => return Ok(Vec::new()),
            Some(Step::Inspect | Step::Clean) => return Err(not_ready(env)),
            _ => {}
        }
        let life = env.incarnation;
        let last = self.outputs_of(&id).filter(|o| o.incarnation == life).last();
        let Some(last) = last else {
            let message = format!("the trash holds no cleaned output of environment {id}");
            let hint = "run `groundskeeper trash ls` to list the trash, or build again";
            return Err(Fault::new(Code::NotFound, message, hint));
        };
        if !last.is_kept() {
            let message =
                format!("the output of the last clean of environment {id} is being unlinked");
            let hint = "build again, or run `groundskeeper trash ls` to list the trash";
            return Err(Fault::new(Code::EnvironmentBusy, message, hint));
        }
        Ok(vec![CleanUndoRequested { environment: id, clean: last.clean, actor }.into()])
    }

    /// Returns why a clean of a destroyed environment is not undone: its worktree does not exist.
    fn not_after_its_end(&self, env: &Environment) -> Fault {
        let id = &env.id;
        let kept = self.outputs_of(id).any(|o| o.incarnation == env.incarnation && o.is_kept());
        if !kept {
            return destroyed(id);
        }
        let message = format!(
            "environment {id} is destroyed: its cleaned output has no worktree to return to"
        );
        let hint =
            format!("run `groundskeeper restore {id}`, then `groundskeeper clean {id} --undo`");
        Fault::new(Code::EnvironmentDestroyed, message, hint)
    }

    /// Returns the bytes that cleans have put into the trash and that may be purged by themselves.
    pub(crate) fn output_bytes(&self) -> u64 {
        let may_go = self.outputs().filter(|o| o.may_go());
        may_go.map(CleanedOutput::bytes).fold(0, u64::saturating_add)
    }

    /// Returns when the next output is unlinked because of its age.
    pub(crate) fn output_due(&self) -> Option<Time> {
        let seconds = self.retention().clean_seconds;
        self.outputs().filter(|o| o.may_go()).map(|o| o.expires(seconds)).min()
    }

    /// Returns the purges due by age, number, or because the trash is over its limit together with
    /// `others` bytes of removed environments; and how many bytes of output stay.
    pub(crate) fn outputs_due(&self, now: Time, others: u64) -> (Vec<Event>, u64) {
        let limits = self.retention();
        let mut kept: Vec<&CleanedOutput> = self.outputs().filter(|o| o.may_go()).collect();
        kept.sort_by_key(|o| o.clean);
        let (mut bytes, mut events) = (self.output_bytes(), Vec::new());
        let too_many = kept.len().saturating_sub(policy::CLEANS_MAX);
        for (n, output) in kept.into_iter().enumerate() {
            let reason = if n < too_many {
                PurgeReason::Count
            } else if output.expires(limits.clean_seconds) <= now {
                PurgeReason::Age
            } else if bytes.saturating_add(others) > limits.trash_bytes && output.bytes() > 0 {
                PurgeReason::Bytes
            } else {
                continue;
            };
            events.push(output.purge(reason, None));
            bytes = bytes.saturating_sub(output.bytes());
        }
        (events, bytes)
    }

    /// Returns what to purge first on a nearly full disk: all of it can be made again. None when
    /// there is no such output, and no events while some is being unlinked.
    pub(crate) fn output_for_space(&self) -> Option<Vec<Event>> {
        if self.outputs().any(CleanedOutput::is_being_purged) {
            return Some(Vec::new());
        }
        let oldest = self.outputs().filter(|o| o.may_go()).min_by_key(|o| o.clean)?;
        Some(vec![oldest.purge(PurgeReason::Disk, None)])
    }

    /// Returns whether unlinking output could free space.
    pub(crate) fn has_outputs(&self) -> bool {
        self.outputs().any(CleanedOutput::may_go)
    }

    /// Returns the purges of a request to empty the trash, of one environment or of all.
    pub(crate) fn outputs_to_empty(
        &self,
        only: Option<&EnvironmentId>,
        actor: &Actor,
    ) -> Vec<Event> {
        let wanted = self.outputs().filter(|o| only.is_none_or(|id| *id == o.id));
        let postponed = |o: &CleanedOutput| o.purge.is_some() && o.fault.is_some();
        let wanted = wanted.filter(|o| o.is_kept() || postponed(o));
        wanted.map(|o| o.purge(PurgeReason::Request, Some(actor.clone()))).collect()
    }

    /// Checks for contradictions between outputs and environments.
    pub(crate) fn check_outputs(&self) -> Result<(), String> {
        for (id, outputs) in &self.outputs {
            for (clean, output) in outputs {
                if (id, *clean) != (&output.id, output.clean) || *clean > self.seq() {
                    return Err(format!("clean {clean} of {id}: filed under a wrong key"));
                }
                let env = self.environment(id).and_then(|env| env.owed.as_ref());
                let fits = match output.phase {
                    OutputPhase::Kept => true,
                    OutputPhase::Taking => env.is_some_and(|o| o.step == Step::Clean),
                    OutputPhase::Returning => env.is_some_and(|o| o.step == Step::UndoClean),
                };
                if !fits {
                    return Err(format!("clean {clean} of {id} is {:?}", output.phase));
                }
                output.check()?;
            }
        }
        Ok(())
    }
}

fn cleaning(id: &EnvironmentId) -> Fault {
    let message = format!("a clean of environment {id} with other options is in progress");
    let hint =
        format!("when it has ended, run `groundskeeper trash empty {id}` to unlink its output");
    Fault::new(Code::EnvironmentBusy, message, hint)
}

fn undoing(id: &EnvironmentId) -> Fault {
    let message = format!("a clean of environment {id} is being undone");
    let hint = format!("run `groundskeeper clean {id}` again when the undo has ended");
    Fault::new(Code::EnvironmentBusy, message, hint)
}
