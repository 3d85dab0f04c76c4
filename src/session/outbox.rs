//! Reports log records to the server: in order, at least once, one batch at a time.
//!
//! The outbox keeps only a position: while the server is away, the log is the queue. A batch that
//! the server rejects is sent in halves, down to the single record at fault; that record is
//! skipped, and the skip is logged and counted.

use std::collections::BTreeSet;

use crate::core::{Code, Environment, EnvironmentId, Fault, Phase, Record, Seq, State};
use crate::service::App;
use crate::service::blocking::blocking;
use crate::service::types::problem::Problem;
use crate::session::protocol::{Events, Fact, RecordLine};

/// Bound on the records in one batch.
const BATCH_MAX: u64 = 256;

/// Position of the server in this host's log.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// The last record that the server has acknowledged.
    acked: u64,
    /// First and last record of the batch that was sent and not answered yet.
    in_flight: Option<(u64, u64)>,
    /// Number of records in the next batch.
    size: u64,
    /// Last record of a rejected batch, until the record at fault is found.
    suspect: Option<u64>,
    /// Into how many parts the batch in flight can be divided, if it is one in the place of trimmed
    /// records.
    parts: Option<u64>,
}

impl Outbox {
    pub(crate) fn new(acked: u64) -> Self {
        Self { acked, in_flight: None, size: BATCH_MAX, suspect: None, parts: None }
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Returns the range of the next batch; `None` if one is in flight or nothing is new.
    pub(crate) fn next(&self, head: u64) -> Option<(u64, u64)> {
        let is_due = self.in_flight.is_none() && head > self.acked;
        is_due.then(|| (self.acked + 1, head.min(self.acked + self.size)))
    }

    /// Reads the next batch from the log, if one is due.
    ///
    /// # Errors
    /// Fails if the log cannot be read.
    pub(crate) async fn batch(&mut self, app: &App) -> Result<Option<Events>, Fault> {
        let Seq(head) = app.handle.view(State::seq);
        let Some((first, last)) = self.next(head) else { return Ok(None) };
        let trimmed = app.handle.reader().trimmed().0;
        if first <= trimmed {
            // What the server has not got is told by the state that it led to.
            return Ok(Some(app.handle.view(|state| self.skip_to(trimmed, first, state))));
        }
        let reader = app.handle.reader().clone();
        let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let read = blocking(move || reader.read(Seq(first - 1), count).map_err(|e| unread(&e)));
        let records = read.await?;
        let forgotten = forgotten(app, &records)?;
        Ok(Some(
            app.handle.view(|state| self.build_batch((first, last), &records, (state, &forgotten))),
        ))
    }

    /// Builds a batch in the place of trimmed records: no records, and the present state of the
    /// environments that the trimmed ones were the last about. Later ones are told by later
    /// batches.
    fn skip_to(&mut self, trimmed: u64, first: u64, state: &State) -> Events {
        let is_due = |env: &&Environment| (first..=trimmed).contains(&env.seq.0);
        let mut due: Vec<&Environment> = state.environments().filter(is_due).collect();
        due.sort_by_key(|env| env.seq);
        let ends: Vec<u64> = due.iter().map(|env| env.seq.0).collect();
        let last = self.skip((first, trimmed), &ends);
        let facts = due.into_iter().take_while(|env| env.seq.0 <= last).map(fact).collect();
        Events { first, last, records: Vec::new(), facts }
    }

    /// Returns the last record of a batch in the place of trimmed records, of which those in `ends`
    /// (ascending) have an environment to tell of.
    fn skip(&mut self, (first, trimmed): (u64, u64), ends: &[u64]) -> u64 {
        let mut distinct = ends.to_vec();
        distinct.dedup();
        let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(distinct.len());
        let is_all = count == distinct.len();
        let end = count.checked_sub(1).and_then(|at| distinct.get(at)).filter(|_| !is_all);
        let last = end.copied().unwrap_or(trimmed);
        self.in_flight = Some((first, last));
        self.parts = Some(count as u64);
        last
    }

    /// Builds a batch: its records, and the present state of the environments they name, also of
    /// those that the state has forgotten.
    pub(crate) fn build_batch(
        &mut self,
        (first, last): (u64, u64),
        log: &[Record],
        (state, forgotten): (&State, &[Environment]),
    ) -> Events {
        let mut records = Vec::new();
        let mut touched: BTreeSet<&EnvironmentId> = BTreeSet::new();
        for record in log.iter().filter(|r| (first..=last).contains(&r.seq.0)) {
            let Some(environment) = record.event.environment() else { continue };
            touched.insert(environment);
            records.push(RecordLine {
                seq: record.seq.0,
                at: record.at.0,
                kind: record.event.kind().to_owned(),
                environment: environment.to_string(),
            });
        }
        let former = |id: &EnvironmentId| forgotten.iter().find(|env| env.id == *id);
        let known = touched.into_iter().filter_map(|id| state.environment(id).or(former(id)));
        let facts = known.map(fact).collect();
        self.in_flight = Some((first, last));
        self.parts = None;
        Events { first, last, records, facts }
    }

    /// Handles an acknowledgement; one that is not for the batch in flight is ignored.
    pub(crate) fn ack(&mut self, seq: u64) {
        let Some((_, last)) = self.in_flight.filter(|(_, last)| *last == seq) else { return };
        self.acked = last;
        self.in_flight = None;
        self.suspect = self.suspect.filter(|end| *end > last);
        self.size = match self.suspect {
            // The fault is in the rest. Sent whole it would be rejected again, so it is halved.
            Some(end) => (end - last).div_ceil(2).min(BATCH_MAX),
            None => (self.size * 2).min(BATCH_MAX),
        };
    }

    /// Handles a rejection: halves the next batch, or skips the record if the batch is a single
    /// one. Returns the skipped record.
    pub(crate) fn nack(&mut self, first: u64, last: u64) -> Option<u64> {
        self.in_flight.take_if(|in_flight| *in_flight == (first, last))?;
        let parts = self.parts.take().unwrap_or(last - first + 1);
        if parts <= 1 {
            self.acked = last;
            self.suspect = None;
            return Some(last);
        }
        self.suspect = Some(last);
        self.size = (parts - 1).div_ceil(2);
        None
    }
}

/// Returns the environments that records name and the state has forgotten.
fn forgotten(app: &App, records: &[Record]) -> Result<Vec<Environment>, Fault> {
    let named: BTreeSet<&EnvironmentId> =
        records.iter().filter_map(|record| record.event.environment()).collect();
    let unknown = app.handle.view(|state| {
        let unknown = named.into_iter().filter(|id| state.environment(id).is_none());
        unknown.cloned().collect::<Vec<_>>()
    });
    let found = unknown.iter().filter_map(|id| app.handle.environment(id).transpose());
    found.collect()
}

/// Shortens a fault: one message may carry thousands of them.
fn brief(fault: &Fault) -> Problem {
    let short = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let full = Problem::of(fault);
    Problem {
        message: short(&full.message, 300),
        hint: short(&full.hint, 200),
        causes: full.causes.iter().take(2).map(|text| short(text, 200)).collect(),
        evidence: full.evidence.iter().take(3).map(|text| short(text, 200)).collect(),
        ..full
    }
}

fn unread(error: &crate::journal::Error) -> Fault {
    Fault::new(Code::JournalFailed, error.to_string(), error.hint()).caused_by(error)
}

/// Returns the state of an environment as the server receives it.
pub(crate) fn fact(env: &Environment) -> Fact {
    let fault = match env.phase {
        Phase::Failed => env.fault.as_ref(),
        Phase::Ready | Phase::Retiring => env.refusal.as_ref(),
        _ => None,
    };
    Fact {
        id: env.id.to_string(),
        incarnation: env.incarnation,
        phase: env.phase.as_str().to_owned(),
        seq: env.seq.0,
        path: env.plan.path.to_string(),
        branch: env.plan.branch.clone(),
        error: fault.map(brief),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a server that rejects some records: returns the accepted and the skipped ones.
    fn deliver(head: u64, rejected: &[u64]) -> (Vec<u64>, Vec<u64>, u32) {
        let mut outbox = Outbox::new(0);
        let (mut got, mut skipped, mut rounds) = (Vec::new(), Vec::new(), 0);
        while let Some((first, last)) = outbox.next(head) {
            rounds += 1;
            outbox.in_flight = Some((first, last));
            if (first..=last).any(|seq| rejected.contains(&seq)) {
                skipped.extend(outbox.nack(first, last));
            } else {
                got.extend(first..=last);
                outbox.ack(last);
            }
        }
        (got, skipped, rounds)
    }

    /// Batches with rejected records are split in a bounded number of rounds.
    #[test]
    fn rejected_records_do_not_block_others() {
        for rejected in [vec![], vec![1], vec![700], vec![255, 256, 257], vec![1_000]] {
            let (got, skipped, rounds) = deliver(1_000, &rejected);
            let wanted: Vec<u64> = (1..=1_000).filter(|seq| !rejected.contains(seq)).collect();
            assert_eq!((got, skipped), (wanted, rejected.clone()));
            assert!(rounds < 40, "{rounds} rounds for {rejected:?}");
        }
    }

    /// Simulates a server that rejects the state after some records, while all records are trimmed.
    fn skip(trimmed: u64, ends: &[u64], rejected: &[u64]) -> (Vec<u64>, Vec<u64>, u32) {
        let mut outbox = Outbox::new(0);
        let (mut told, mut skipped, mut rounds) = (Vec::new(), Vec::new(), 0);
        while outbox.acked < trimmed {
            rounds += 1;
            let first = outbox.acked + 1;
            let due: Vec<u64> = ends.iter().copied().filter(|seq| *seq >= first).collect();
            let last = outbox.skip((first, trimmed), &due);
            let facts: Vec<u64> = due.into_iter().filter(|seq| *seq <= last).collect();
            assert!(facts.len() as u64 <= BATCH_MAX, "{} in one message", facts.len());
            if facts.iter().any(|seq| rejected.contains(seq)) {
                skipped.extend(outbox.nack(first, last));
            } else {
                told.extend(facts);
                outbox.ack(last);
            }
        }
        (told, skipped, rounds)
    }

    /// Whatever a server rejects of the state that trimmed records led to: the rest is told, in
    /// messages of bounded length and in a bounded number of rounds.
    #[test]
    fn rejected_state_of_trimmed_records_does_not_block_the_rest() {
        let all: Vec<u64> = (0..1_500).map(|n| 10 + n * 7).collect();
        let last = all[all.len() - 1];
        for rejected in [vec![], vec![10], vec![last], vec![703, 710, 717]] {
            for trimmed in [last, last + 5_000] {
                let (told, skipped, rounds) = skip(trimmed, &all, &rejected);
                let wanted: Vec<u64> =
                    all.iter().copied().filter(|seq| !rejected.contains(seq)).collect();
                assert_eq!(told, wanted);
                assert_eq!(skipped.len(), rejected.len(), "{skipped:?} for {rejected:?}");
                assert!(rounds < 60, "{rounds} rounds for {rejected:?}");
            }
        }
        assert_eq!(skip(9, &[], &[]), (vec![], vec![], 1));
    }

    #[test]
    fn unrelated_acks_change_nothing() {
        let mut outbox = Outbox::new(10);
        outbox.in_flight = Some((11, 20));
        outbox.ack(19);
        assert_eq!(outbox.nack(11, 19), None);
        assert_eq!((outbox.acked, outbox.in_flight), (10, Some((11, 20))));
    }
}
