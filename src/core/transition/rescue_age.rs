//! The age of rescues: a user may limit it. A rescue is announced a day before it is dropped, and
//! dropped only when it is the last that is left of its incarnation.
//!
//! The age counts from the end of the incarnation, or from when the limit was set if that is later,
//! so that a new limit drops nothing at once. Without a limit nothing here is ever due.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Actor, Event, RescueDropRequested, RescueExpiryAnnounced, RetentionChanged};
use crate::id::Time;
use crate::model::archive::ArchivedIncarnation;
use crate::model::step::ArchiveStep as Step;
use crate::policy;
use crate::state::State;

impl ArchivedIncarnation {
    /// Returns whether only a rescue is left and no operation concerns it.
    fn is_rescue_alone(&self) -> bool {
        self.rescue.is_some()
            && self.trash.is_none()
            && self.restoring.is_none()
            && self.owed.is_none()
    }

    /// Returns whether its rescue is being dropped. One that cannot be dropped now is retried, and
    /// must not hold the others up.
    fn is_dropping(&self) -> bool {
        let step = self.owed.as_ref().map(|owed| owed.step);
        step == Some(Step::DropRescue) && self.fault.is_none()
    }

    fn announced(&self, at: Time) -> Event {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        RescueExpiryAnnounced { environment, incarnation, at }.into()
    }

    fn expired(&self) -> Event {
        let (environment, incarnation) = (self.id.clone(), self.incarnation);
        RescueDropRequested { environment, incarnation, actor: Actor::daemon() }.into()
    }
}

impl State {
    /// Returns when the rescue of an archive reaches the limit of age; none without a limit.
    pub(crate) fn rescue_due(&self, archive: &ArchivedIncarnation) -> Option<Time> {
        let limits = self.retention();
        let seconds = limits.rescue_seconds?.max(limits.trash_seconds);
        let since = self.rescue_limit_set.unwrap_or_default().max(archive.at);
        Some(since.after(Duration::from_secs(seconds)))
    }

    /// Returns when a rescue is dropped because of its age, not before its directory has left the
    /// trash; none for one that is kept until a request drops it.
    #[must_use]
    pub fn rescue_ends(&self, archive: &ArchivedIncarnation) -> Option<Time> {
        archive.rescue.as_ref()?;
        archive.rescue_ends.or_else(|| self.rescue_due(archive))
    }

    /// Returns the announcements and drops that are due, each a bounded number; oldest first.
    pub(crate) fn rescues_over(&self, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        let mut drops = self.drops_free();
        let mut aging: Vec<(Time, &ArchivedIncarnation)> = self.rescues_aging().collect();
        aging.sort_by_key(|(due, _)| *due);
        for (due, archive) in aging {
            match archive.rescue_ends {
                None if due.before(policy::EXPIRY_NOTICE) > now => break,
                None if events.len() < policy::EXPIRIES_AT_ONCE => {
                    events.push(archive.announced(due.max(now.after(policy::EXPIRY_NOTICE))));
                }
                Some(ends) if ends.max(due) <= now && drops > 0 => {
                    drops -= 1;
                    events.push(archive.expired());
                }
                _ => {}
            }
        }
        events
    }

    /// Returns when the next announcement or drop is due.
    pub(crate) fn rescues_over_at(&self) -> Option<Time> {
        let may_drop = self.drops_free() > 0;
        let next = |(due, archive): (Time, &ArchivedIncarnation)| match archive.rescue_ends {
            None => Some(due.before(policy::EXPIRY_NOTICE)),
            Some(ends) => may_drop.then(|| ends.max(due)),
        };
        self.rescues_aging().filter_map(next).min()
    }

    /// Returns how many further drops may be owed.
    fn drops_free(&self) -> usize {
        if self.retention().rescue_seconds.is_none() {
            return 0;
        }
        let dropping = self.archives().filter(|archive| archive.is_dropping()).count();
        policy::RESCUES_DROPPED_AT_ONCE.saturating_sub(dropping)
    }

    /// Returns the rescues that a limit of age concerns, and when each reaches it.
    fn rescues_aging(&self) -> impl Iterator<Item = (Time, &ArchivedIncarnation)> {
        let limited = self.retention().rescue_seconds.is_some();
        let all = limited.then(|| self.archives()).into_iter().flatten();
        let alone = all.filter(|archive| archive.is_rescue_alone());
        alone.filter_map(|archive| Some((self.rescue_due(archive)?, archive)))
    }

    /// Folds in new limits. What was announced by the former ones is announced again.
    pub(crate) fn retention_changed(&mut self, now: Time, e: &RetentionChanged) {
        let of = |limits: &crate::event::Retention| (limits.rescue_seconds, limits.trash_seconds);
        if of(&self.retention) != of(&e.retention) {
            let all = self.archives.values_mut().flat_map(|lives| lives.values_mut());
            let announced = all.filter(|archive| archive.rescue_ends.is_some());
            announced.map(Arc::make_mut).for_each(|archive| archive.rescue_ends = None);
        }
        if self.retention.rescue_seconds != e.retention.rescue_seconds {
            self.rescue_limit_set = e.retention.rescue_seconds.map(|_| now);
        }
        self.retention = e.retention.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Plan, Record, Rescue, Retention};
    use crate::id::EnvironmentId;
    use crate::model::environment::Environment;
    use crate::model::step::At;
    use crate::{Command, Seq};

    const DAY: u64 = 86_400;

    fn day(n: u64) -> Time {
        Time::default().after(Duration::from_secs(n * DAY))
    }

    /// Folds in the events of a command that is given on a day.
    fn submit(state: &mut State, now: Time, command: Command) -> Vec<Event> {
        let events = state.decide(now, command).expect("accepted");
        for event in &events {
            let (seq, event) = (state.seq().next(), event.clone());
            state.apply(&Record { seq, at: now, boot: 1, event });
        }
        events
    }

    fn limited(state: &mut State, now: Time, days: Option<u64>) {
        let rescue_seconds = days.map(|days| days * DAY);
        let retention =
            Retention { trash_seconds: 7 * DAY, rescue_seconds, ..Retention::default() };
        let (pid, version, ground) = (1, String::new(), crate::Ground::default());
        submit(state, now, Command::Start { pid, version, retention, ground });
    }

    /// Adds rescues of incarnations that ended on a day.
    fn rescued(state: &mut State, count: usize, now: Time) {
        for n in 0..count {
            let at = At { seq: Seq(n as u64 + 1), time: now };
            let id = EnvironmentId::parse(&format!("e{n}")).expect("an id");
            let mut env = Environment::begin(at, &id, 1, &Plan::default());
            let reference = Some(format!("refs/groundskeeper/rescue/e{n}/1"));
            env.teardown.get_or_insert_default().rescue =
                Some(Rescue { reference, commit: Some("c".into()), ..Rescue::default() });
            state.keep_archive(ArchivedIncarnation::of(&env, at, None));
        }
    }

    fn at_last(state: &State) -> Option<Time> {
        state.rescues_over_at()
    }

    #[test]
    fn rescues_are_kept_without_limit() {
        let mut state = State::default();
        rescued(&mut state, 3, day(1));
        limited(&mut state, day(2), None);
        assert_eq!(at_last(&state), None);
        assert_eq!(state.rescues_over(day(30_000)), Vec::new());
    }

    /// The age counts from the day on which the limit was set, and each drop is announced.
    #[test]
    fn new_limit_drops_nothing_at_once() {
        let mut state = State::default();
        rescued(&mut state, 1, day(1));
        limited(&mut state, day(400), Some(30));
        assert_eq!(at_last(&state), Some(day(429)));
        assert_eq!(submit(&mut state, day(428), Command::Tick), Vec::new());
        let announced = submit(&mut state, day(429), Command::Tick);
        assert!(matches!(&announced[..], [Event::RescueExpiryAnnounced(e)] if e.at == day(430)));
        assert_eq!(at_last(&state), Some(day(430)));
        let again = submit(&mut state, day(430).before(Duration::from_secs(1)), Command::Tick);
        assert_eq!(again, Vec::new());
        let dropped = submit(&mut state, day(430), Command::Tick);
        assert!(
            matches!(&dropped[..], [Event::RescueDropRequested(e)] if e.actor == Actor::daemon())
        );
        assert_eq!(at_last(&state), None, "it is in progress");
    }

    /// A daemon that was away announces first, and gives the whole notice.
    #[test]
    fn long_absence_shortens_no_notice() {
        let mut state = State::default();
        limited(&mut state, day(1), Some(30));
        rescued(&mut state, 1, day(2));
        let announced = submit(&mut state, day(500), Command::Tick);
        assert!(matches!(&announced[..], [Event::RescueExpiryAnnounced(e)] if e.at == day(501)));
    }

    #[test]
    fn age_is_never_below_that_of_trash() {
        let mut state = State::default();
        limited(&mut state, day(1), Some(3));
        rescued(&mut state, 1, day(10));
        assert_eq!(at_last(&state), Some(day(16)));
    }

    /// A limit that is taken back or raised takes the announcement back.
    #[test]
    fn changed_limit_takes_announcement_back() {
        for (days, next) in
            [(None, None), (Some(60), Some(day(39 + 59))), (Some(30), Some(day(40)))]
        {
            let mut state = State::default();
            limited(&mut state, day(1), Some(30));
            rescued(&mut state, 1, day(10));
            submit(&mut state, day(39), Command::Tick);
            limited(&mut state, day(39), days);
            assert_eq!(at_last(&state), next, "{days:?}");
            let dropped = submit(&mut state, day(40), Command::Tick).len();
            assert_eq!(dropped, usize::from(days == Some(30)), "{days:?}");
        }
    }

    /// Thousands that reach their age on one day are dropped a few at a time.
    #[test]
    fn many_are_dropped_a_few_at_a_time() {
        let mut state = State::default();
        limited(&mut state, day(1), Some(30));
        rescued(&mut state, 1_200, day(10));
        let mut announced = Vec::new();
        while at_last(&state).is_some_and(|at| at <= day(39)) {
            let events = submit(&mut state, day(39), Command::Tick);
            let is_announced = |event: &&Event| matches!(event, Event::RescueExpiryAnnounced(_));
            announced.push(events.iter().filter(is_announced).count());
        }
        assert_eq!(announced, [500, 500, 200]);
        assert_eq!(submit(&mut state, day(40), Command::Tick).len(), 16);
        assert_eq!(at_last(&state), None, "until one of them has ended");
        assert_eq!(submit(&mut state, day(40), Command::Tick), Vec::new());
    }
}
