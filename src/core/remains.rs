//! What is left of an incarnation that is over: a directory in the trash, a rescue's ref.
//!
//! Remains outlive the environment's record, so that a new environment of the same name changes
//! nothing about them. They are folded and decided here; they never serve anything.

use serde::{Deserialize, Serialize};

use super::apply::At;
use super::decide::Decision;
use super::effect::Outcome;
use super::event::{
    Actor, Base, Event, LateWorkRescued, Plan, ProcessSeen, PurgeDecided, RemainsAttemptFailed,
    Rescue, RescueDropRequested, RescueDropped, RestoreFrom, Size, TrashLookFailed, TrashMeasured,
    TrashPurged, Worktree,
};
use super::fault::{Code, Fault};
use super::id::{EffectId, EnvironmentId, HostPath, Subject, Time};
use super::policy;
use super::state::{Environment, Owed, State, Step};

/// What is left of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// Whose.
    pub id: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// What it was made by.
    pub plan: Plan,
    /// When it was over.
    pub at: Time,
    /// Its directory in the trash.
    pub trash: Option<HostPath>,
    /// How large that is, once it was measured.
    pub size: Option<Size>,
    /// The commit that its HEAD was at; empty when there was none.
    pub head: String,
    /// Where it started from.
    pub base: Option<Base>,
    /// Its worktree's facts, for a restore.
    pub worktree: Option<Worktree>,
    /// The ref that holds what no branch has.
    pub rescue: Option<Rescue>,
    /// When the last look at it before its rescue began: what was written since may be in no rescue.
    /// None once that was seen to, and where no rescue is wanted.
    pub looked_at: Option<Time>,
    /// Whether its branch was deleted.
    pub branch_deleted: bool,
    /// Processes that did not end; the unlink waits for them.
    pub survivors: Vec<ProcessSeen>,
    /// The incarnation that is being restored from it.
    pub restoring: Option<u32>,
    /// What the world owes it.
    pub owed: Option<Owed>,
    /// Why it is to be unlinked; empty while it is kept.
    pub purge: String,
    /// Why the last attempt at what is owed failed.
    pub fault: Option<Fault>,
}

impl Remains {
    /// Identity of the effect that is owed now.
    #[must_use]
    pub fn effect_id(&self) -> Option<EffectId> {
        let subject = Subject::Remains(self.id.clone(), self.incarnation);
        Some(EffectId { subject, entered: self.owed.as_ref()?.entered })
    }

    /// What a new incarnation would be restored from.
    #[must_use]
    pub fn restore_from(&self) -> RestoreFrom {
        RestoreFrom {
            incarnation: self.incarnation,
            trash: self.trash.clone().filter(|_| self.purge.is_empty()),
            head: self.head.clone(),
            rescue: self.rescue.as_ref().map(|r| r.commit.clone()).unwrap_or_default(),
        }
    }

    /// Whether its directory lies in the trash and nobody has looked at it there.
    fn is_unmeasured(&self) -> bool {
        self.trash.is_some() && self.size.is_none()
    }

    /// Whether its directory lies in the trash and nothing is happening to it.
    pub(super) fn is_kept(&self) -> bool {
        let dropping = self.owed.as_ref().is_some_and(|o| o.step == Step::DropRescue);
        self.trash.is_some() && self.purge.is_empty() && self.restoring.is_none() && !dropping
    }

    /// Whether nobody could look at it there, in all attempts: only a request begins anew.
    fn is_given_up(&self) -> bool {
        self.is_unmeasured() && self.owed.is_none() && self.fault.is_some()
    }

    /// When it is unlinked because of its age.
    pub(super) fn due(&self, seconds: u64) -> Option<Time> {
        (self.is_kept() && !self.is_given_up()).then(|| self.expires(seconds))
    }

    /// Whether it was to be unlinked and something was in the way, which may have gone since.
    fn is_put_off(&self) -> bool {
        !self.purge.is_empty() && self.fault.is_some() && self.restoring.is_none()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let step = self.owed.as_ref().map(|o| o.step);
        let fits = match step {
            None => true,
            // Also before it is unlinked: the measuring is what finds late work.
            Some(Step::Measure) => self.trash.is_some(),
            Some(Step::Purge) => self.trash.is_some() && !self.purge.is_empty(),
            Some(Step::DropRescue) => self.rescue.is_some(),
            Some(_) => false,
        };
        if !fits {
            return Err(format!("remains {}.{} owe {step:?}", self.id, self.incarnation));
        }
        Ok(())
    }

    /// What is left of an environment at the moment when it is over; none when nothing is.
    pub(super) fn of(env: &Environment, at: At, trash: Option<HostPath>) -> Option<Self> {
        let teardown = env.teardown.clone().unwrap_or_default();
        if trash.is_none() && teardown.rescue.is_none() {
            return None;
        }
        let base = env.base.as_ref().map(|b| b.commit.clone()).unwrap_or_default();
        Some(Self {
            id: env.id.clone(),
            incarnation: env.incarnation,
            plan: env.plan.clone(),
            at: at.time,
            owed: trash.is_some().then(|| Owed::new(Step::Measure, at)),
            trash,
            size: None,
            head: if teardown.head.is_empty() { base } else { teardown.head },
            base: env.base.clone(),
            worktree: env.worktree.clone(),
            rescue: teardown.rescue,
            // What a rollback leaves is the output of a set-up: the trash keeps it for its time.
            looked_at: env.teardown.as_ref().filter(|t| t.may_lack_work()).map(|t| t.looked_at),
            branch_deleted: teardown.branch_deleted,
            survivors: teardown.survivors,
            restoring: None,
            purge: String::new(),
            fault: None,
        })
    }

    fn apply(&mut self, at: At, event: &Event) {
        match event {
            Event::LateWorkRescued(e) => self.rescue = Some(e.rescue.clone()),
            Event::TrashMeasured(e) => {
                self.size = Some(e.size);
                self.looked_at = None;
                self.fault = None;
                let purge = !self.purge.is_empty();
                self.owed = purge.then(|| Owed::new(Step::Purge, at));
            }
            Event::TrashLookFailed(e) => {
                self.fault = Some(e.fault.clone());
                self.purge.clear();
                self.owed = None;
            }
            Event::PurgeDecided(e) => {
                self.purge.clone_from(&e.reason);
                self.fault = None;
                let step = if self.is_unmeasured() { Step::Measure } else { Step::Purge };
                match &mut self.owed {
                    // What is under way goes on, what waits for another attempt waits no longer.
                    Some(owed) if owed.step == step => {
                        owed.not_before = owed.not_before.min(at.time);
                    }
                    owed => *owed = Some(Owed::new(step, at)),
                }
            }
            Event::TrashPurged(_) => {
                self.trash = None;
                self.purge.clear();
                self.owed = None;
                self.fault = None;
            }
            Event::RescueDropRequested(_) => self.owed = Some(Owed::new(Step::DropRescue, at)),
            Event::RescueDropped(_) => {
                // What was written after it was made is in it no more than before.
                self.rescue = None;
                self.fault = None;
                self.owed = self.is_unmeasured().then(|| Owed::new(Step::Measure, at));
            }
            Event::RemainsAttemptFailed(e) => {
                self.fault = Some(e.fault.clone());
                if let Some(owed) = &mut self.owed {
                    owed.entered = at.seq;
                    owed.attempts = e.attempts;
                    owed.not_before = e.retry_at;
                }
            }
            _ => {}
        }
    }

    /// The events that the end of an effect for these remains leads to.
    pub(super) fn settle(
        &self,
        now: Time,
        step: Step,
        outcome: Result<Outcome, Fault>,
    ) -> Vec<Event> {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        let fault = match (step, outcome) {
            (Step::Measure, Ok(Outcome::Measured(size, late))) => {
                let measured =
                    TrashMeasured { environment: environment.clone(), incarnation, size };
                let late = late.map(|rescue| LateWorkRescued { environment, incarnation, rescue });
                return late.into_iter().map(Event::from).chain([measured.into()]).collect();
            }
            (Step::Purge, Ok(Outcome::Purged(entries))) => {
                let leftovers = Vec::new();
                return vec![TrashPurged { environment, incarnation, entries, leftovers }.into()];
            }
            (Step::DropRescue, Ok(Outcome::RescueDropped)) => {
                let leftover = String::new();
                return vec![RescueDropped { environment, incarnation, leftover }.into()];
            }
            (step, Ok(outcome)) => {
                let message = format!("{} came home with {outcome:?}", step.as_str());
                Fault::new(Code::Defect, message, "please report this")
            }
            (_, Err(fault)) => fault,
        };
        let attempts = self.owed.as_ref().map_or(0, |o| o.attempts).saturating_add(1);
        if attempts < policy::attempts_max(step) && fault.code != Code::NotOurs {
            // A survivor or a mount may be in the way for days, a broken repository as well.
            let delay = match step {
                Step::Measure | Step::Purge => policy::trash_delay(attempts),
                _ => policy::retry_delay(attempts),
            };
            let retry_at = now.after(delay);
            let step = step.as_str().to_owned();
            let failed =
                RemainsAttemptFailed { environment, incarnation, step, attempts, retry_at, fault };
            return vec![failed.into()];
        }
        self.give_up(step, fault)
    }

    /// The events that end a step without success; what is left is named.
    pub(super) fn give_up(&self, step: Step, fault: Fault) -> Vec<Event> {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        let leftover = format!("{}: {fault}", step.as_str());
        match step {
            Step::Purge => {
                let leftovers = vec![leftover];
                vec![TrashPurged { environment, incarnation, entries: 0, leftovers }.into()]
            }
            Step::DropRescue => {
                vec![RescueDropped { environment, incarnation, leftover }.into()]
            }
            // Nobody knows what is in it, so it stays.
            _ => vec![TrashLookFailed { environment, incarnation, fault }.into()],
        }
    }

    fn purge(&self, reason: &str, actor: Option<Actor>) -> Event {
        PurgeDecided {
            environment: self.id.clone(),
            incarnation: self.incarnation,
            reason: reason.to_owned(),
            actor,
        }
        .into()
    }
}

impl State {
    /// Folds in what happened to remains.
    pub(super) fn apply_to_remains(
        &mut self,
        at: At,
        (id, incarnation): (&EnvironmentId, u32),
        event: &Event,
    ) {
        let Some(lives) = self.remains.get_mut(id) else { return };
        if let Some(remains) = lives.get_mut(&incarnation) {
            remains.apply(at, event);
        }
        self.forget_empty(id, incarnation);
    }

    /// Remembers what is left of an incarnation that is over.
    pub(super) fn keep_remains(&mut self, remains: Option<Remains>) {
        let Some(remains) = remains else { return };
        self.remains.entry(remains.id.clone()).or_default().insert(remains.incarnation, remains);
    }

    /// A restore begins, has taken the directory, or has put it back.
    pub(super) fn restore_changed(
        &mut self,
        at: At,
        id: &EnvironmentId,
        from: &RestoreFrom,
        restoring: Option<u32>,
        taken: bool,
    ) {
        let lives = self.remains.get_mut(id);
        if let Some(remains) = lives.and_then(|l| l.get_mut(&from.incarnation)) {
            remains.restoring = restoring;
            if restoring.is_some() && remains.owed.as_ref().is_some_and(|o| o.step == Step::Measure)
            {
                remains.owed = None;
            }
            if taken {
                remains.trash = None;
            }
            if restoring.is_none() && remains.owed.is_none() {
                remains.owed = remains.is_unmeasured().then(|| Owed::new(Step::Measure, at));
            }
        }
        self.forget_empty(id, from.incarnation);
    }

    fn forget_empty(&mut self, id: &EnvironmentId, incarnation: u32) {
        let Some(lives) = self.remains.get_mut(id) else { return };
        if lives.get(&incarnation).is_some_and(|r| r.trash.is_none() && r.rescue.is_none()) {
            lives.remove(&incarnation);
        }
        if lives.is_empty() {
            self.remains.remove(id);
        }
    }

    /// Whether there is something in the trash that could make room.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        self.remains().any(Remains::is_kept) || self.has_outputs()
    }

    /// Whether the trash holds more bytes than it may.
    pub(super) fn trash_is_over(&self) -> bool {
        let sizes = self.remains().filter(|r| r.is_kept()).filter_map(|r| r.size);
        let total = sizes.map(|s| s.allocated).fold(0, u64::saturating_add);
        let total = total.saturating_add(self.output_bytes());
        total > self.retention().trash_bytes && total > 0
    }

    /// What is due by age, or because the trash holds more than it may: the oldest first.
    pub(super) fn purges_due(&self, now: Time) -> Vec<Event> {
        let limits = self.retention();
        let may_go = |r: &&Remains| r.is_kept() && !r.is_given_up();
        let mut kept: Vec<&Remains> = self.remains().filter(may_go).collect();
        kept.sort_by_key(|r| r.at);
        let bytes = |r: &Remains| r.size.map_or(0, |s| s.allocated);
        let mut total: u64 = kept.iter().map(|r| bytes(r)).fold(0, u64::saturating_add);
        // What a build makes again goes before anything else.
        let (mut events, outputs) = self.outputs_due(now, total);
        total = total.saturating_add(outputs);
        let too_many = kept.len().saturating_sub(policy::REMAINS_MAX);
        for (n, remains) in kept.into_iter().enumerate() {
            if n < too_many {
                events.push(remains.purge("count", None));
            } else if remains.expires(limits.trash_seconds) <= now {
                events.push(remains.purge("age", None));
            } else if total > limits.trash_bytes && remains.size.is_some() {
                events.push(remains.purge("bytes", None));
            } else {
                continue;
            }
            total = total.saturating_sub(bytes(remains));
        }
        events
    }

    /// What cleans took, then the oldest directory in the trash, goes to make room on a disk that is
    /// nearly full; one at a time, so that no more goes than must.
    pub(super) fn decide_disk_low(&self) -> Vec<Event> {
        if let Some(first) = self.output_for_space() {
            return first;
        }
        // One that something is in the way of makes no room.
        if self.remains().any(|r| !r.purge.is_empty() && r.fault.is_none()) {
            return Vec::new();
        }
        let may_go = |r: &&Remains| r.is_kept() && !r.is_given_up();
        let oldest = self.remains().filter(may_go).min_by_key(|r| r.at);
        oldest.map(|r| r.purge("disk", None)).into_iter().collect()
    }

    /// Unlinks the directories of one environment (all its lives), or of all.
    pub(super) fn decide_empty_trash(
        &self,
        only: Option<&EnvironmentId>,
        actor: &Actor,
    ) -> Vec<Event> {
        let wanted = self.remains().filter(|r| only.is_none_or(|id| *id == r.id));
        wanted
            .filter(|r| r.is_kept() || r.is_put_off())
            .map(|r| r.purge("request", Some(actor.clone())))
            .chain(self.outputs_to_empty(only, actor))
            .collect()
    }

    /// Lets go of a rescue's ref.
    pub(super) fn decide_drop_rescue(
        &self,
        id: &EnvironmentId,
        incarnation: u32,
        actor: Actor,
    ) -> Decision {
        let found = self.remains_of(id, incarnation).filter(|r| r.rescue.is_some());
        let Some(remains) = found else {
            let message = format!("there is no rescue of {id}, incarnation {incarnation}");
            return Err(Fault::new(
                Code::NotFound,
                message,
                "`groundskeeper rescue ls` lists them",
            ));
        };
        match remains.owed.as_ref().map(|o| o.step) {
            Some(Step::DropRescue) => return Ok(Vec::new()),
            _ if remains.restoring.is_some() || !remains.purge.is_empty() => {
                return Err(busy(remains));
            }
            _ => {}
        }
        let environment = id.clone();
        Ok(vec![RescueDropRequested { environment, incarnation, actor }.into()])
    }

    /// Remains that a restore can begin from.
    pub(super) fn restorable(
        &self,
        id: &EnvironmentId,
        incarnation: Option<u32>,
    ) -> Result<&Remains, Fault> {
        let lives = self.remains.get(id);
        let found = match incarnation {
            Some(n) => lives.and_then(|l| l.get(&n)),
            None => lives.and_then(|l| l.values().next_back()),
        };
        let Some(remains) = found else {
            let message = format!("nothing is left of {id} to restore");
            let hint = "`groundskeeper trash ls` and `groundskeeper rescue ls` list what is kept";
            return Err(Fault::new(Code::EnvironmentNotFound, message, hint));
        };
        let from = remains.restore_from();
        if from.trash.is_none() && from.rescue.is_empty() || remains.restoring.is_some() {
            return Err(busy(remains));
        }
        Ok(remains)
    }
}

impl Remains {
    pub(super) fn expires(&self, seconds: u64) -> Time {
        self.at.after(std::time::Duration::from_secs(seconds))
    }
}

fn busy(remains: &Remains) -> Fault {
    let (id, life) = (&remains.id, remains.incarnation);
    let message = match (&remains.restoring, remains.purge.as_str()) {
        (Some(_), _) => format!("incarnation {life} of {id} is being restored"),
        (None, "") => format!("incarnation {life} of {id} is being worked on"),
        (None, why) => format!("incarnation {life} of {id} is being unlinked ({why})"),
    };
    Fault::new(Code::EnvironmentBusy, message, "try again when that is done")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Seq;

    fn in_the_trash() -> Remains {
        let at = At { seq: Seq(1), time: Time(1) };
        let id = EnvironmentId::parse("demo").expect("an id");
        let env = Environment::begin(at, &id, 1, &Plan::default());
        Remains::of(&env, at, Some("/trash/demo.1".into())).expect("something is left")
    }

    #[test]
    fn what_nobody_could_look_at_is_never_unlinked() {
        let mut remains = in_the_trash();
        let mut seq = 1;
        let mut happens = |remains: &mut Remains, event: &Event| {
            seq += 1;
            remains.apply(At { seq: Seq(seq), time: Time(seq) }, event);
            remains.check().expect("consistent");
        };
        for round in 0..2 {
            let purge = remains.purge("request", None);
            happens(&mut remains, &purge);
            let mut failed = 0;
            while let Some(owed) = &remains.owed {
                assert_eq!(owed.step, Step::Measure, "round {round}: nothing else is tried");
                let fault = Fault::new(Code::GitFailed, "made up", "none");
                for event in remains.settle(Time(1), Step::Measure, Err(fault)) {
                    happens(&mut remains, &event);
                }
                failed += 1;
            }
            assert_eq!(failed, policy::attempts_max(Step::Measure));
            assert!(remains.is_kept() && remains.fault.is_some(), "it stays, and says why");
            assert_eq!(remains.due(0), None, "until somebody asks");
        }
    }

    #[test]
    fn what_is_being_restored_from_its_rescue_is_left_alone_by_a_second_request() {
        let mut remains = in_the_trash();
        remains.apply(At { seq: Seq(2), time: Time(2) }, &remains.purge("request", None));
        remains.fault = Some(Fault::new(Code::Io, "made up", "none"));
        let asked = |remains: &Remains| {
            let mut state = State::default();
            state.keep_remains(Some(remains.clone()));
            state.decide_empty_trash(None, &Actor::default()).len()
        };
        assert_eq!(asked(&remains), 1, "what was in the way may have gone");
        remains.restoring = Some(2);
        assert_eq!(asked(&remains), 0);
    }

    #[test]
    fn who_drops_a_rescue_has_not_seen_what_came_after_it() {
        let mut remains = in_the_trash();
        remains.looked_at = Some(Time(1));
        let (environment, incarnation, leftover) = (remains.id.clone(), 1, String::new());
        let dropped = RescueDropped { environment, incarnation, leftover }.into();
        remains.apply(At { seq: Seq(2), time: Time(2) }, &dropped);
        assert_eq!(remains.looked_at, Some(Time(1)));
        assert_eq!(remains.owed.map(|o| o.step), Some(Step::Measure));
    }

    #[test]
    fn a_second_request_does_not_wait_for_the_next_attempt() {
        let mut remains = in_the_trash();
        let fault = Fault::new(Code::GitFailed, "made up", "none");
        for event in remains.settle(Time(5), Step::Measure, Err(fault)) {
            remains.apply(At { seq: Seq(2), time: Time(5) }, &event);
        }
        let before = remains.owed.clone().expect("another attempt");
        assert!(before.not_before > Time(6), "later");
        remains.apply(At { seq: Seq(3), time: Time(6) }, &remains.purge("request", None));
        let after = remains.owed.expect("the same attempt");
        assert_eq!((after.entered, after.not_before), (before.entered, Time(6)));
    }
}
