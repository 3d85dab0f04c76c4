//! Translates a host's messages into changes of the catalogue, and the catalogue into messages.
//! Transactions only: `host_session` sends and receives.

use std::collections::BTreeSet;

use rusqlite::Transaction;

use crate::core::id::IdError;
use crate::core::{Code, EnvironmentId, Fault};
use crate::server::catalog::Host;
use crate::server::operations::{self, Operation};
use crate::server::threads::{self, claim};
use crate::server::{catalog, completeness, facts, store};
use crate::session::protocol::{Events, FromServer, LiveSet, Open};

/// What the catalogue holds for a host: its live set and its open operations.
#[derive(Debug)]
pub(super) struct Pending {
    host: Host,
    live: Vec<String>,
    operations: Vec<Operation>,
}

/// Opens a session: applies the host's facts, requests leases that it lacks, and returns the live
/// set and the last record that was taken in.
pub(super) fn open_session(
    tx: &Transaction<'_>,
    id: &str,
    open: &Open,
) -> Result<(LiveSet, u64), Fault> {
    let host = catalog::host_seen(tx, id, &open.log, open.head)?;
    completeness::told_again(tx, id)?;
    for fact in &open.loaded {
        match EnvironmentId::parse(&fact.id) {
            Ok(_) => drop(facts::apply_fact(tx, id, fact)?),
            Err(why) => completeness::passed_over(tx, id, &unreadable(&fact.id, &why))?,
        }
    }
    let there = open.leases.iter().map(|(lease, _)| lease.as_str()).collect();
    for thread in threads::unclaimed(tx, id, &there)? {
        match operations::add(tx, &claim(&thread), id) {
            // Too many operations are open; the next session tries again.
            Err(fault) if fault.code == Code::LimitReached => break,
            added => added?,
        }
    }
    let (live, now) = (store::live(tx, id)?, catalog::host(tx, id)?);
    let known = judged_up_to(&now, open.head);
    Ok((LiveSet { epoch: now.epoch, known, live, confirmed: false }, host.acked))
}

/// Applies a batch of events: all of it or nothing.
pub(super) fn apply_events(tx: &Transaction<'_>, id: &str, events: &Events) -> Result<(), Fault> {
    for fact in &events.facts {
        let bad = |e| Fault::new(Code::InvalidRequest, unreadable(&fact.id, &e), "");
        EnvironmentId::parse(&fact.id).map_err(bad)?;
        facts::apply_fact(tx, id, fact)?;
    }
    catalog::host_acked(tx, id, events.last)
}

fn unreadable(id: &str, why: &IdError) -> String {
    format!("the environment {id:?}: {why}")
}

/// Records that a batch was rejected: the host will pass over what is wrong with it.
pub(super) fn rejected(tx: &Transaction<'_>, id: &str, why: &str) -> Result<(), Fault> {
    completeness::passed_over(tx, id, why)
}

/// Returns the last record that a live set judges by. By none, while not everything that the host
/// told is recorded: every environment there is newer than that.
fn judged_up_to(host: &Host, received: u64) -> u64 {
    if host.incomplete.is_some() { 0 } else { received }
}

/// Reads what the host has to receive.
pub(super) fn read_pending(tx: &Transaction<'_>, id: &str) -> Result<Pending, Fault> {
    let (host, live) = (catalog::host(tx, id)?, store::live(tx, id)?);
    let operations = operations::open_operations(tx, id)?;
    Ok(Pending { host, live, operations })
}

/// What one session has sent to its host.
#[derive(Debug)]
pub(super) struct SyncCursor {
    /// Ids of the operations that were sent.
    sent: BTreeSet<String>,
    /// Epoch of the live set that was sent last.
    epoch: Option<u64>,
    /// The last record of the host that was received.
    known: u64,
}

impl SyncCursor {
    /// Starts with nothing sent; `head` is the end of the host's log.
    pub(super) fn new(head: u64) -> Self {
        Self { sent: BTreeSet::new(), epoch: None, known: head }
    }

    /// Records that the first live set was sent.
    pub(super) fn opened(&mut self, live: &LiveSet) {
        self.epoch = Some(live.epoch);
    }

    /// Records that the host's log was received up to this record.
    pub(super) fn received(&mut self, last: u64) {
        self.known = self.known.max(last);
    }

    /// Makes the live set be sent again, even if it has not changed.
    pub(super) fn resend_live_set(&mut self) {
        self.epoch = None;
    }

    /// Makes the open operations and the live set be sent again.
    pub(super) fn resend_all(&mut self) {
        self.sent.clear();
        self.epoch = None;
    }

    /// Returns what was not sent yet: first the operations, then the live set. `confirmed` is the
    /// epoch of the live set that the user has confirmed; 0 for none.
    pub(super) fn unsent(&mut self, pending: Pending, confirmed: u64) -> Vec<FromServer> {
        let fresh = pending.operations.iter().filter(|o| self.sent.insert(o.id.clone()));
        let mut messages: Vec<FromServer> =
            fresh.map(|o| FromServer::Command(o.to_command())).collect();
        let Pending { host, live, .. } = pending;
        let (epoch, known) = (host.epoch, judged_up_to(&host, self.known));
        // A set that changed after the user saw it is not the one that was confirmed.
        let confirmed = confirmed == epoch && epoch != 0;
        if self.epoch != Some(epoch) || confirmed {
            self.epoch = Some(epoch);
            messages.push(FromServer::Live(LiveSet { epoch, known, live, confirmed }));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::session::protocol::{Fact, Protocols};

    fn fact(id: &str) -> Fact {
        Fact {
            id: id.to_owned(),
            incarnation: 1,
            phase: "ready".to_owned(),
            seq: 5,
            path: "/p".to_owned(),
            branch: "b".to_owned(),
            error: None,
        }
    }

    fn open(ids: impl IntoIterator<Item = String>) -> Open {
        Open {
            host: None,
            instance: "i".to_owned(),
            boot: 1,
            version: String::new(),
            protocol: Protocols::OURS,
            log: "log".to_owned(),
            head: 9,
            loaded: ids.into_iter().map(|id| fact(&id)).collect(),
            leases: Vec::new(),
        }
    }

    fn with_host(work: impl FnOnce(&Transaction<'_>)) {
        let mut catalogue: Connection = catalog::in_memory();
        let tx = catalogue.transaction().expect("begun");
        catalog::add_host(&tx, "box", false).expect("a host");
        work(&tx);
    }

    /// The last record by which what is not listed may be retired.
    fn judged(tx: &Transaction<'_>, open: &Open) -> u64 {
        let (live, _) = open_session(tx, "box", open).expect("opened");
        let again = SyncCursor::new(open.head).unsent(read_pending(tx, "box").expect("read"), 0);
        let [FromServer::Live(later)] = &again[..] else { panic!("{again:?}") };
        assert_eq!((later.known, later.epoch), (live.known, live.epoch));
        live.known
    }

    #[test]
    fn host_that_is_not_recorded_in_full_loses_nothing() {
        with_host(|tx| {
            let many = |count: i64| open((0..count).map(|n| format!("e{n}")));
            assert_eq!(judged(tx, &many(store::ENVIRONMENTS_MAX + 1)), 0, "one has no room");
            assert_eq!(judged(tx, &many(store::ENVIRONMENTS_MAX)), 9, "all are told again");
        });
        with_host(|tx| {
            let names = |ids: &[&str]| open(ids.iter().map(|id| (*id).to_owned()));
            assert_eq!(judged(tx, &names(&["a", "not an id", "b"])), 0);
            assert_eq!(store::live(tx, "box").expect("read"), ["a", "b"], "the others count");
            assert_eq!(judged(tx, &names(&["a", "b"])), 9);
        });
    }

    /// The host goes on after a record that the server rejects, and so does what the server knows.
    #[test]
    fn rejected_record_ends_judgement_until_all_is_told() {
        with_host(|tx| {
            let told = open(["a".to_owned()]);
            assert_eq!(judged(tx, &told), 9);
            let facts = vec![fact("a"), fact("b c")];
            let events = Events { first: 10, last: 11, records: Vec::new(), facts };
            let fault = apply_events(tx, "box", &events).expect_err("rejected");
            rejected(tx, "box", &fault.message).expect("recorded");
            let later = Events { first: 12, last: 12, records: Vec::new(), facts: Vec::new() };
            apply_events(tx, "box", &later).expect("taken in");
            let mut cursor = SyncCursor::new(9);
            cursor.received(12);
            let sent = cursor.unsent(read_pending(tx, "box").expect("read"), 0);
            assert!(matches!(&sent[..], [FromServer::Live(set)] if set.known == 0), "{sent:?}");
            let host = catalog::host(tx, "box").expect("known");
            assert!(host.incomplete.is_some_and(|why| why.contains("b c")));
            assert_eq!(judged(tx, &told), 9);
            catalog::remove_host(tx, "box").expect("removed");
            catalog::add_host(tx, "box", false).expect("a host");
            assert_eq!(catalog::host(tx, "box").expect("known").incomplete, None);
        });
    }
}
