//! What a log says about one environment: its records, sorted into incarnations, and the state that
//! they lead to.
//!
//! Only records of that environment (and of what concerns all) are decoded and folded, so that a
//! million others cost little.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use groundskeeper_core::event::{DestroyRequested, Record};
use groundskeeper_core::{ArchivedIncarnation, EnvironmentId, Event, State, Time};
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::{Error, envelope, peek};

use crate::problem::Problem;
use crate::source::Source;

/// Most records of one environment that are told one by one; the oldest are left out.
const RECORDS_MAX: usize = 5_000;
/// What was found of an environment.
pub(crate) struct History {
    pub(crate) id: EnvironmentId,
    pub(crate) records: VecDeque<Record>,
    pub(crate) left_out: u64,
    pub(crate) state: State,
    pub(crate) damaged: u64,
    /// The incarnation before the first record of a log that begins with a state; 0 if there is
    /// none.
    begun: u32,
}

pub(crate) fn collect(source: &Source, id: EnvironmentId) -> Result<History, Problem> {
    let (records, state) = (VecDeque::new(), State::default());
    let mut history = History { id, records, left_out: 0, state, damaged: 0, begun: 0 };
    if source.log.first() > 1 {
        source.log.snapshots(&mut |state, _| {
            if history.state.seq().0 == 0 {
                history.state = state;
            }
        })?;
    }
    history.begun = history.state.environment(&history.id).map_or(0, |env| env.incarnation);
    let from = history.state.seq().0 + 1;
    let range = Range { from, ..Range::ALL };
    let walked = source.log.walk(range, &mut |key, bytes| {
        // Checked, also what is passed over: a damaged name must not pass for somebody else's.
        let Ok(glance) = envelope::open(key, bytes) else {
            history.damaged += 1;
            return ControlFlow::Continue(());
        };
        let about = peek::environment(&glance) == Some(history.id.as_str());
        // Starts and ends of daemons, how long the trash is kept, live sets: these concern all.
        if !about && !matches!(glance.kind, 1..=3 | 110 | 111) {
            return ControlFlow::Continue(());
        }
        match codec::decode(&glance) {
            Ok(Decoded::Record(record)) => history.take(record, about),
            Ok(Decoded::Newer(_)) | Err(_) => history.damaged += 1,
        }
        ControlFlow::Continue(())
    });
    match walked {
        Err(Error::Damaged { .. }) => history.damaged += 1,
        other => other?,
    }
    Ok(history)
}

impl History {
    fn take(&mut self, record: Record, about: bool) {
        self.state.apply(&record);
        let told = about
            || match &record.event {
                Event::LiveSetTaken(e) => {
                    e.retired.contains(&self.id)
                        || e.healed.contains(&self.id)
                        || e.kept.iter().any(|kept| kept.environment == self.id)
                }
                Event::LiveSetContinued(e) => {
                    e.healed.contains(&self.id)
                        || e.kept.iter().any(|kept| kept.environment == self.id)
                }
                Event::LiveSetHeld(e) => e.would_retire.contains(&self.id),
                // A daemon that comes while something is under way is part of the story.
                Event::DaemonStarted(_) => {
                    self.state.environment(&self.id).is_some_and(|e| e.owed.is_some())
                }
                _ => false,
            };
        if !told {
            return;
        }
        if self.records.len() >= RECORDS_MAX {
            self.records.pop_front();
            self.left_out += 1;
        }
        self.records.push_back(record);
    }
}

/// One incarnation, with its records.
pub(crate) struct Life<'a> {
    pub(crate) number: u32,
    pub(crate) records: Vec<&'a Record>,
    /// What was recorded about its remains.
    pub(crate) later: Vec<&'a Record>,
}

pub(crate) fn lives(history: &History) -> Vec<Life<'_>> {
    let mut lives: Vec<Life<'_>> = Vec::new();
    for record in &history.records {
        let begins = match &record.event {
            Event::ProvisionRequested(e) => Some(e.incarnation),
            Event::RestoreRequested(e) => Some(e.incarnation),
            Event::EnvironmentAdopted(e) => Some(e.incarnation),
            _ => None,
        };
        if let Some((_, number)) = record.event.archive() {
            if let Some(life) = lives.iter_mut().find(|life| life.number == number) {
                life.later.push(record);
            }
            continue;
        }
        if record.event.output().is_some() {
            lives.iter_mut().last().into_iter().for_each(|life| life.later.push(record));
            continue;
        }
        if begins.is_some() || lives.is_empty() {
            let number = begins.unwrap_or(history.begun);
            lives.push(Life { number, records: Vec::new(), later: Vec::new() });
        }
        if let Some(life) = lives.last_mut() {
            life.records.push(record);
        }
    }
    lives
}

impl<'a> Life<'a> {
    /// The request that led to its end, and the record that was its end.
    pub(crate) fn end(&self) -> (Option<(&'a Record, &'a DestroyRequested)>, Option<&'a Record>) {
        let asked = self.records.iter().rev().find_map(|r| match &r.event {
            Event::DestroyRequested(e) => Some((*r, e)),
            _ => None,
        });
        let over = |r: &&&Record| matches!(r.event, Event::Tombstoned(_) | Event::RolledBack(_));
        (asked, self.records.iter().rev().find(over).copied())
    }

    pub(crate) fn branch(&self) -> Option<String> {
        self.records.iter().find_map(|r| match &r.event {
            Event::ProvisionRequested(e) => Some(e.plan.branch.clone()),
            Event::RestoreRequested(e) => Some(e.plan.branch.clone()),
            Event::EnvironmentAdopted(e) => Some(e.plan.branch.clone()),
            _ => None,
        })
    }
}

pub(crate) fn kept_until(history: &History, archive: &ArchivedIncarnation) -> Time {
    let keep = std::time::Duration::from_secs(history.state.retention().trash_seconds);
    archive.at.after(keep)
}
