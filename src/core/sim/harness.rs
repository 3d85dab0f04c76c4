//! A daemon without a world: the core, its log and a simulated disk, driven act by act.
//!
//! The laws play random histories on it, and the tests of the control server let it be a host. It
//! checks what must hold after every act, and does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::{PurgeReason, Retention};
use crate::invariants::Audit;
use crate::sim::actions::EffectEnd;
use crate::sim::disk::{Traces, is_lacking, settlement, small_step};
use crate::sim::memory::Memory;
use crate::{
    Code, Command, EffectId, Ended, EnvironmentId, EnvironmentOutcome, Event, Fault, Ground, Note,
    Phase, Record, RolledBackTo, Settlement, State, Step, Subject, Time,
};

pub(crate) struct InFlight {
    pub(crate) id: EffectId,
    pub(crate) step: Step,
    pub(crate) noted: bool,
}

/// A daemon with a fake world. `broken` takes a guard out, to see the laws fail.
pub struct Harness {
    /// Every record that was appended.
    pub log: Vec<Record>,
    /// The state that the log adds up to.
    pub state: State,
    /// The time, which moves only when an act says so.
    pub now: Time,
    pub(crate) disk: BTreeMap<EnvironmentId, Traces>,
    pub(crate) running: BTreeMap<Subject, InFlight>,
    pub(crate) settled: BTreeMap<Subject, Settlement>,
    /// Pieces of work made so far, and those discarded with a trash entry or rescue.
    pub(crate) made: u32,
    pub(crate) released: BTreeSet<u32>,
    pub(crate) over: BTreeSet<(EnvironmentId, u32)>,
    pub(crate) broken: DisabledGuard,
    pub(crate) ghosts: Vec<(Subject, InFlight)>,
    pub(crate) audit: Audit,
    pub(crate) memory: Memory,
}

/// The guard that is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisabledGuard {
    Nothing,
    /// A settlement counts for the effect that is owed now, not for the effect it names.
    Fence,
    /// Children of a dead daemon continue, and finish at any later time.
    Children,
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness {
    /// Creates one with an empty log, and starts it.
    pub fn new() -> Self {
        let mut bench = Self {
            log: Vec::new(),
            state: State::default(),
            now: Time(1),
            disk: BTreeMap::new(),
            running: BTreeMap::new(),
            settled: BTreeMap::new(),
            made: 0,
            released: BTreeSet::new(),
            over: BTreeSet::new(),
            broken: DisabledGuard::Nothing,
            ghosts: Vec::new(),
            audit: Audit::default(),
            memory: Memory::default(),
        };
        bench.start();
        bench
    }

    fn start(&mut self) {
        let (trash_seconds, trash_bytes, clean_seconds) = (30, 3, 10);
        let rescue_seconds = Some(3_600);
        let retention = Retention { trash_seconds, trash_bytes, clean_seconds, rescue_seconds };
        let ground = Ground::default();
        self.command(Command::Start { pid: 1, version: "test".into(), retention, ground });
    }

    /// Decides a command and appends its events; returns whether it was accepted.
    ///
    /// # Panics
    /// When an invariant of the log is broken.
    pub fn command(&mut self, command: Command) -> bool {
        let decided = self.memory.decided(&self.state, self.now, command);
        let Ok(events) = decided else { return false };
        self.append(events)
    }

    /// Appends the events of one decision; returns whether there are any.
    pub(crate) fn append(&mut self, events: Vec<Event>) -> bool {
        let accepted = !events.is_empty();
        for event in events {
            let start = matches!(event, Event::DaemonStarted(_));
            let boot = self.state.boot() + u32::from(start);
            let record = Record { seq: self.state.seq().next(), at: self.now, boot, event };
            let breaches = self.audit.fold(&mut self.state, &record);
            assert_eq!(breaches, [], "{record:?}");
            self.check_no_resurrection(&record);
            self.memory.note(&record);
            self.log.push(record);
        }
        assert_eq!(self.audit.finish(&self.state), None);
        self.state.check().expect("the state is consistent after every decision");
        self.memory.check(&self.state);
        accepted
    }

    fn check_no_resurrection(&mut self, record: &Record) {
        let after = record.event.archive().is_some() || record.event.output().is_some();
        let Some(id) = record.event.environment().filter(|_| !after) else { return };
        let env = self.state.environment(id).expect("an event is about a known environment");
        let life = (id.clone(), env.incarnation);
        assert!(!self.over.contains(&life), "{record:?} about {life:?}, which is over");
        if env.phase == Phase::Tombstoned {
            self.over.insert(life);
        }
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.command(Command::Tick);
    }

    pub(crate) fn start_owed(&mut self) {
        let owed: Vec<_> = self.state.owed(self.now).collect();
        for effect in owed {
            let who = effect.id.subject.clone();
            if let std::collections::btree_map::Entry::Vacant(e) = self.running.entry(who) {
                let running = InFlight { id: effect.id, step: effect.step, noted: false };
                e.insert(running);
            }
        }
    }

    /// Performs up to `steps` of the small steps of a running effect.
    pub(crate) fn work(&mut self, subject: &Subject, steps: u8) {
        let waits = self.awaits_clean(subject);
        let Some(running) = self.running.get_mut(subject) else { return };
        match subject {
            Subject::Environment(who) => {
                // An effect that is no longer owed was told to stop, but it may come this far.
                let env = self.state.environment(who).cloned();
                let traces = self.disk.entry(who.clone()).or_default();
                for small in 0..steps {
                    small_step(traces, env.as_ref(), (running.step, running.id.entered), small);
                }
            }
            Subject::Archive(who, life) if steps > 0 => {
                let purge = self.state.archive_of(who, *life).and_then(|r| r.purge.clone());
                let named = purge == Some(PurgeReason::Lose);
                let traces = self.disk.entry(who.clone()).or_default();
                let gone = match running.step {
                    Step::Measure => {
                        let work = traces.trash.get(life).cloned().unwrap_or_default();
                        let saved = work.into_iter().filter(|n| !is_lacking(*n));
                        traces.rescued.entry(*life).or_default().extend(saved);
                        None
                    }
                    Step::Purge => traces.trash.remove(life),
                    Step::DropRescue => traces.rescued.remove(life),
                    _ => None,
                };
                // A last copy may be discarded only where a request named it.
                let gone = gone.unwrap_or_default();
                self.released.extend(gone.into_iter().filter(|n| named || !is_lacking(*n)));
            }
            Subject::Output(who, clean) if steps > 0 && !waits => {
                self.disk.entry(who.clone()).or_default().cleaned.remove(clean);
            }
            _ => {}
        }
        let hook = matches!(running.step, Step::RunSetup | Step::RunTeardown);
        if hook && steps > 0 && !running.noted {
            running.noted = true;
            let effect = running.id.clone();
            let note = Note::HookSpawned { pid: 7, started: 1, hash: "h".into() };
            self.command(Command::Note { effect, note });
        }
    }

    pub(crate) fn finish(&mut self, subject: &Subject, how: EffectEnd) {
        let waits = self.awaits_clean(subject);
        let stale = self.would_move_changed_tree(subject);
        if how == EffectEnd::Well && !stale {
            self.work(subject, 4);
        }
        let Some(mut running) = self.running.remove(subject) else { return };
        if self.broken == DisabledGuard::Fence
            && let Some(now_owed) = self.state.owed_to(subject)
            && let Some(effect) = self.state.effect(&now_owed)
        {
            running.id = now_owed;
            running.step = effect.step();
        }
        let fault = Fault::new(Code::Io, "made up", "none");
        let (entered, id) = (running.id.entered, running.id);
        let settled = match (how, subject) {
            (EffectEnd::Well, _) if waits => Settlement::failed(id, fault.transient()),
            (EffectEnd::Well, Subject::Environment(who)) if stale => {
                let result = Ok(EnvironmentOutcome::Outdated);
                Settlement::Environment(who.clone(), Ended { entered, result })
            }
            (EffectEnd::Well, _) => settlement(&self.state, &self.disk, &id, running.step),
            (EffectEnd::WrongOutcome, Subject::Environment(who))
                if running.step == Step::Inspect =>
            {
                let result = Ok(EnvironmentOutcome::RolledBack(RolledBackTo::default()));
                Settlement::Environment(who.clone(), Ended { entered, result })
            }
            (EffectEnd::Transient | EffectEnd::WrongOutcome, _) => {
                Settlement::failed(id, fault.transient())
            }
            (EffectEnd::Permanent, _) => Settlement::failed(id, fault),
        };
        let accepted = self.command(Command::Settle(settled.clone()));
        let is_wrong = how == EffectEnd::WrongOutcome && settled.fault().is_none();
        if accepted && is_wrong {
            let last = format!("{:?}", self.log.last());
            assert!(last.contains("Defect"), "the outcome of another step is a failure: {last}");
        }
        self.settled.insert(subject.clone(), settled);
    }

    /// Returns whether an unlink of a clean's output must wait for a clean or undo told to stop.
    fn awaits_clean(&self, subject: &Subject) -> bool {
        let Subject::Output(who, _) = subject else { return false };
        let running = self.running.get(&Subject::Environment(who.clone()));
        running.is_some_and(|r| matches!(r.step, Step::Clean | Step::UndoClean))
    }

    /// Returns whether a move to the trash would find another tree than the one consented to.
    fn would_move_changed_tree(&self, subject: &Subject) -> bool {
        let Subject::Environment(who) = subject else { return false };
        let moving = self.running.get(subject).is_some_and(|r| r.step == Step::MoveToTrash);
        let teardown = self.state.environment(who).and_then(|e| e.teardown.as_ref());
        let seen = self.disk.get(who).map(|t| format!("{:?}", t.work)).unwrap_or_default();
        moving && teardown.is_some_and(|t| t.disturbed && t.fingerprint.as_ref() != Some(&seen))
    }

    /// SIGKILL: running effects stop anywhere, memory is lost, the log is folded again.
    ///
    /// # Panics
    /// When the fold of the log is not the state.
    pub fn crash(&mut self, how_far: u8) {
        let running: Vec<_> = self.running.keys().cloned().collect();
        for who in running {
            let hook = |r: &InFlight| matches!(r.step, Step::RunSetup | Step::RunTeardown);
            let may = self.running.get(&who).is_some_and(|r| !hook(r));
            if may && !self.would_move_changed_tree(&who) {
                self.work(&who, how_far);
            }
        }
        let lost = std::mem::take(&mut self.running);
        if self.broken == DisabledGuard::Children {
            self.ghosts.extend(lost);
        }
        let folded = fold(&self.log);
        assert_eq!(folded, self.state, "the fold of the log is the live state");
        self.state = folded;
        self.start();
    }

    /// Starts what is owed and lets it succeed, for a few rounds.
    pub fn flow(&mut self) {
        self.start_owed();
        let running: Vec<_> = self.running.keys().cloned().collect();
        for who in &running {
            self.finish(who, EffectEnd::Well);
        }
    }

    /// Runs every effect successfully until the state is at rest.
    pub(crate) fn drain(&mut self) {
        for _ in 0..400 {
            self.flow();
            if self.state.is_quiet() && self.running.is_empty() {
                return;
            }
            if let Some(deadline) = self.state.next_deadline(self.now) {
                let span = deadline.since(self.now);
                self.wait(span);
            }
        }
        panic!("did not come to rest: {:#?}", self.state);
    }

    /// Like [`Harness::drain`], but no time passes in which a retention could end.
    pub(crate) fn drain_but_keep_the_trash(&mut self) {
        for _ in 0..20 {
            self.flow();
        }
    }
}

/// Returns the state that a log adds up to.
pub(crate) fn fold(log: &[Record]) -> State {
    let mut state = State::default();
    for record in log {
        state.apply(record);
    }
    state
}
