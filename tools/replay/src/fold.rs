//! The state at a point of a log: the same fold as the daemon's, record by record.
//!
//! Only the state is held, never the records. A damaged record ends the fold: what was added up to
//! there is handed back together with what is wrong, and whoever shows it says that it is partial.

use std::ops::ControlFlow;

use groundskeeper_core::event::Record;
use groundskeeper_core::{Seq, State, Time};
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::forensic::{Chain, Range};
use groundskeeper_journal::{Damage, Error, ReadOnlyLog};

use crate::out::{Out, note};
use crate::problem::{DAMAGED, INTACT, Problem};

/// What a fold came to.
pub(crate) struct Folded {
    /// The state after the last record that could be read.
    pub(crate) state: State,
    /// Records that were folded.
    pub(crate) records: u64,
    /// Why it ended before it should have.
    pub(crate) damage: Option<Damage>,
}

/// Takes a record into the state; may end the fold.
pub(crate) type Apply<'a> = &'a mut dyn FnMut(&mut State, &Record) -> ControlFlow<()>;

/// Folds up to and with record `to`.
pub(crate) fn fold(log: &ReadOnlyLog, to: u64) -> Result<Folded, Problem> {
    fold_with(log, to, &mut |state, record| {
        state.apply(record);
        ControlFlow::Continue(())
    })
}

/// Folds up to and with record `to`, with `apply` in the place of [`State::apply`].
pub(crate) fn fold_with(log: &ReadOnlyLog, to: u64, apply: Apply<'_>) -> Result<Folded, Problem> {
    let (mut state, mut chain) = (State::default(), log.chain());
    let mut from = log.first();
    if from > 1 {
        let (start, at) = first_snapshot(log, to)?;
        (state, chain, from) = (start, Chain::after(at), at.seq + 1);
    }
    let (mut damage, mut newer, mut records) = (None, None, 0);
    let range = Range { from, to, backwards: false };
    let walked = log.walk(range, &mut |key, bytes| {
        let decoded = chain.next(key, bytes).and_then(|sealed| codec::decode(&sealed));
        match decoded {
            Ok(Decoded::Record(record)) => {
                records += 1;
                apply(&mut state, &record)
            }
            Ok(Decoded::Newer(what)) => {
                newer = Some(what);
                ControlFlow::Break(())
            }
            Err(found) => {
                damage = Some(found);
                ControlFlow::Break(())
            }
        }
    });
    match walked {
        Err(Error::Damaged { damage: found, .. }) => damage = damage.or(Some(found)),
        other => other?,
    }
    if let Some(what) = newer {
        return Err(Error::Newer { path: log.path().to_owned(), what }.into());
    }
    Ok(Folded { state, records, damage })
}

fn first_snapshot(
    log: &ReadOnlyLog,
    to: u64,
) -> Result<(State, groundskeeper_journal::Head), Problem> {
    let mut found = None;
    log.snapshots(&mut |state, crc| {
        let seq = state.seq().0;
        if found.is_none() && seq + 1 >= log.first() && seq <= to {
            found = Some((state, groundskeeper_journal::Head { seq, crc }));
        }
    })?;
    found.ok_or_else(|| {
        Problem::missing(
            format!(
                "the log begins with record {}, and no snapshot precedes the requested record",
                log.first()
            ),
            "choose a record after the first snapshot; earlier states of a trimmed log are unknown",
        )
    })
}

impl Folded {
    /// Says on stderr that what is shown is partial, when it is. Returns the exit code.
    pub(crate) fn verdict(&self) -> u8 {
        let Some(damage) = &self.damage else { return INTACT };
        note(&format!(
            "warning: partial: {damage}; the state shown is after record {}\n\
             hint: `replay verify FILE` lists the damage, `replay salvage FILE NEW` copies the rest",
            self.state.seq()
        ));
        DAMAGED
    }

    /// The same for JSON: what is wrong, or null.
    pub(crate) fn partial(&self) -> serde_json::Value {
        self.damage.as_ref().map_or(serde_json::Value::Null, |d| d.to_string().into())
    }

    /// A point that was asked for and is not there.
    pub(crate) fn must_reach(&self, seq: u64) -> Result<(), Problem> {
        if self.damage.is_some() || self.state.seq() >= Seq(seq) || seq == u64::MAX {
            return Ok(());
        }
        let last = self.state.seq();
        Err(Problem::missing(
            format!("there is no record {seq}: the log ends at {last}"),
            "omit the number, or use `last`, for the end of the log",
        ))
    }
}

/// A position as people type it: a number, `last`, or a time (the last record by then).
pub(crate) fn position(log: &ReadOnlyLog, text: &str) -> Result<u64, Problem> {
    if matches!(text, "last" | "end" | "head") {
        return Ok(u64::MAX);
    }
    if let Ok(seq) = text.parse::<u64>() {
        return Ok(seq);
    }
    let until = crate::filter::time(text)?;
    let mut last = log.first().saturating_sub(1);
    log.walk(
        Range::ALL,
        &mut |key, bytes| match groundskeeper_journal::envelope::open(key, bytes) {
            Ok(sealed) if Time(sealed.at) > until => ControlFlow::Break(()),
            _ => {
                last = key;
                ControlFlow::Continue(())
            }
        },
    )?;
    Ok(last)
}

/// The line above a state.
pub(crate) fn headline(out: &mut Out, state: &State) {
    let at = groundskeeper_journal::format::rfc3339(state.at());
    out.line(&format!("after record {} of {at}, daemon start {}", state.seq(), state.boot()));
}
