//! Lives as bars on a line of time: which environment was in which phase, from when to when, and
//! what happened on the way. The source of every timeline.
//!
//! Bars and notes are bounded; what is dropped is counted and said.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use groundskeeper_core::event::Record;
use groundskeeper_core::{EnvironmentId, Event, Phase, State, Time};
use groundskeeper_journal::describe;

use crate::args::TimelineArgs;
use crate::filter::time;
use crate::fold::fold_with;
use crate::problem::Problem;
use crate::source::Source;

/// Most bars that are held; the oldest are dropped.
const BARS_MAX: usize = 20_000;
/// Most notes on all of them.
const ALL_NOTES_MAX: usize = 200_000;
/// Most notes on one bar.
const NOTES_MAX: usize = 200;

/// One environment in one phase.
pub(crate) struct Bar {
    /// Whose.
    pub(crate) id: String,
    /// Which life.
    pub(crate) life: u32,
    /// `provisioning`, `ready`, ... or the name of a migration's phase.
    pub(crate) phase: &'static str,
    /// From when.
    pub(crate) from: Time,
    /// Until when; none while it lasts.
    pub(crate) to: Option<Time>,
    /// The record that began it.
    pub(crate) seq: u64,
    /// What happened in it: position, time, kind, words.
    pub(crate) notes: Vec<Note>,
    /// Notes that are left out.
    pub(crate) more: u64,
}

/// Something that happened.
pub(crate) struct Note {
    /// The record.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: Time,
    /// Its kind.
    pub(crate) kind: &'static str,
    /// What it says.
    pub(crate) words: String,
}

/// All bars of a stretch of time.
pub(crate) struct Spans {
    /// In the order in which they began.
    pub(crate) bars: Vec<Bar>,
    /// Starts of daemons: when, and whether the one before had stopped in an orderly way.
    pub(crate) starts: Vec<(Time, bool)>,
    /// Where the line begins.
    pub(crate) from: Time,
    /// Where it ends.
    pub(crate) to: Time,
    /// Bars that were dropped.
    pub(crate) dropped: u64,
    /// Why it is partial, when it is.
    pub(crate) partial: Option<String>,
    /// Exit code.
    pub(crate) verdict: u8,
}

/// Reads a log into bars.
pub(crate) fn collect(args: &TimelineArgs, source: &Source) -> Result<Spans, Problem> {
    let since = args.since.as_deref().map(time).transpose()?;
    let until = args.until.as_deref().map(time).transpose()?;
    let mut builder = SpanBuilder::new(args);
    let folded = fold_with(&source.log, u64::MAX, &mut |state, record| {
        if until.is_some_and(|until| record.at > until) {
            return ControlFlow::Break(());
        }
        let orderly = builder.orderly;
        state.apply(record);
        builder.record(state, record, orderly);
        ControlFlow::Continue(())
    })?;
    let to = until.unwrap_or(folded.state.at()).max(folded.state.at());
    let first = builder.first.unwrap_or(to);
    let from = since.unwrap_or(first).max(first).min(to);
    let verdict = folded.verdict();
    let bars = builder.bars.into_iter().filter(|b| b.to.is_none_or(|end| end >= from)).collect();
    let starts = builder.starts.into_iter().filter(|(at, _)| *at >= from).collect();
    let partial = folded.damage.map(|d| d.to_string());
    Ok(Spans { bars, starts, from, to, dropped: builder.dropped, partial, verdict })
}

struct SpanBuilder {
    only: Option<String>,
    bars: std::collections::VecDeque<Bar>,
    /// Number of the open bar of each subject, counted from the first ever made.
    open: BTreeMap<String, u64>,
    made: u64,
    dropped: u64,
    notes: usize,
    starts: Vec<(Time, bool)>,
    first: Option<Time>,
    orderly: bool,
}

impl SpanBuilder {
    fn new(args: &TimelineArgs) -> Self {
        Self {
            only: args.environment.clone(),
            bars: std::collections::VecDeque::new(),
            open: BTreeMap::new(),
            made: 0,
            dropped: 0,
            notes: 0,
            starts: Vec::new(),
            first: None,
            orderly: true,
        }
    }

    fn record(&mut self, state: &State, record: &Record, orderly: bool) {
        self.first.get_or_insert(record.at);
        match &record.event {
            Event::DaemonStarted(_) => {
                self.starts.push((record.at, orderly));
                self.orderly = false;
            }
            Event::DaemonStopped(_) => self.orderly = true,
            _ => {}
        }
        if record.event.archive().is_some() || record.event.output().is_some() {
            return;
        }
        if let Some(id) = record.event.environment() {
            self.environment(state, id, record);
        } else if let Some(migration) = record.event.migration().and_then(|id| state.migration(id))
        {
            let id = format!("migration {}", migration.id);
            let phase = migration.phase.as_str();
            self.set_phase(&id, 1, phase, migration.is_over(), record);
        }
    }

    fn environment(&mut self, state: &State, id: &EnvironmentId, record: &Record) {
        let Some(env) = state.environment(id) else { return };
        let over = env.phase == Phase::Tombstoned
            || (env.phase == Phase::Failed && env.worktree.is_none());
        self.set_phase(id.as_str(), env.incarnation, env.phase.as_str(), over, record);
    }

    /// Where a subject stands after a record.
    fn set_phase(&mut self, id: &str, life: u32, phase: &'static str, over: bool, record: &Record) {
        if self.only.as_ref().is_some_and(|only| only != id) {
            return;
        }
        let dropped = self.dropped;
        let open = self.open.get(id).and_then(|n| n.checked_sub(dropped));
        let open = open.and_then(|n| self.bars.get_mut(usize::try_from(n).ok()?));
        let note = Note {
            seq: record.seq.0,
            at: record.at,
            kind: record.event.kind(),
            words: describe::event(&record.event),
        };
        if let Some(bar) = open {
            if bar.life == life && bar.phase == phase {
                self.notes += bar.note(note);
                return;
            }
            bar.to = Some(record.at);
            // The record that ends a phase says how it ended.
            if bar.life == life {
                self.notes += bar.note(note);
            }
        }
        self.open.remove(id);
        if over && phase == "tombstoned" {
            return;
        }
        self.begin(id, life, phase, over, record);
    }

    fn begin(&mut self, id: &str, life: u32, phase: &'static str, over: bool, record: &Record) {
        let mut bar = Bar {
            id: id.to_owned(),
            life,
            phase,
            from: record.at,
            // What failed and left nothing is a moment.
            to: over.then_some(record.at),
            seq: record.seq.0,
            notes: Vec::new(),
            more: 0,
        };
        let _one = bar.note(Note {
            seq: record.seq.0,
            at: record.at,
            kind: record.event.kind(),
            words: describe::event(&record.event),
        });
        if !over {
            self.open.insert(id.to_owned(), self.made);
        }
        self.bars.push_back(bar);
        self.made += 1;
        self.notes += 1;
        while self.bars.len() > BARS_MAX || self.notes > ALL_NOTES_MAX {
            let Some(oldest) = self.bars.pop_front() else { break };
            self.notes -= oldest.notes.len();
            self.dropped += 1;
        }
    }
}

impl Bar {
    /// Says how many notes it has more now.
    fn note(&mut self, note: Note) -> usize {
        if self.notes.len() >= NOTES_MAX {
            self.more += 1;
            return 0;
        }
        self.notes.push(note);
        1
    }

    /// How long it took, or has taken by `now`.
    pub(crate) fn nanos(&self, now: Time) -> u64 {
        let end = self.to.unwrap_or(now);
        u64::try_from(end.since(self.from).as_nanos()).unwrap_or(u64::MAX)
    }
}
