//! Translates a host's messages into changes of the catalogue, and the catalogue into messages.
//! Transactions only: `host_session` sends and receives.

use std::collections::BTreeSet;

use rusqlite::Transaction;

use crate::core::{Code, EnvironmentId, Fault};
use crate::server::operations::{self, Operation};
use crate::server::threads::{self, claim};
use crate::server::{catalog, facts, store};
use crate::session::protocol::{Events, FromServer, LiveSet, Open};

/// What the catalogue holds for a host: its live set and its open operations.
#[derive(Debug)]
pub(super) struct Pending {
    epoch: u64,
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
    for fact in open.loaded.iter().filter(|f| EnvironmentId::parse(&f.id).is_ok()) {
        facts::apply_fact(tx, id, fact)?;
    }
    let there = open.leases.iter().map(|(lease, _)| lease.as_str()).collect();
    for thread in threads::unclaimed(tx, id, &there)? {
        match operations::add(tx, &claim(&thread), id) {
            // Too many operations are open; the next session tries again.
            Err(fault) if fault.code == Code::LimitReached => break,
            added => added?,
        }
    }
    let (live, epoch) = (store::live(tx, id)?, catalog::host(tx, id)?.epoch);
    Ok((LiveSet { epoch, known: open.head, live, confirmed: false }, host.acked))
}

/// Applies a batch of events: all of it or nothing.
pub(super) fn apply_events(tx: &Transaction<'_>, id: &str, events: &Events) -> Result<(), Fault> {
    for fact in &events.facts {
        let bad = |e| Fault::new(Code::InvalidRequest, format!("{:?}: {e}", fact.id), "");
        EnvironmentId::parse(&fact.id).map_err(bad)?;
        facts::apply_fact(tx, id, fact)?;
    }
    catalog::host_acked(tx, id, events.last)
}

/// Reads what the host has to receive.
pub(super) fn read_pending(tx: &Transaction<'_>, id: &str) -> Result<Pending, Fault> {
    let (epoch, live) = (catalog::host(tx, id)?.epoch, store::live(tx, id)?);
    Ok(Pending { epoch, live, operations: operations::open_operations(tx, id)? })
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
        let Pending { epoch, live, .. } = pending;
        // A set that changed after the user saw it is not the one that was confirmed.
        let confirmed = confirmed == epoch && epoch != 0;
        if self.epoch != Some(epoch) || confirmed {
            self.epoch = Some(epoch);
            messages.push(FromServer::Live(LiveSet { epoch, known: self.known, live, confirmed }));
        }
        messages
    }
}
