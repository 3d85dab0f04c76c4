//! What a host says as changes of the catalogue, and what the catalogue has to say to a host.
//! Transactions only: who sends and receives is the business of `visit`.

use std::collections::BTreeSet;

use rusqlite::Transaction;

use crate::core::{Code, EnvironmentId, Fault};
use crate::server::operations::{self, Operation};
use crate::server::threads::{self, claim};
use crate::server::{catalog, store};
use crate::session::protocol::{Events, FromServer, LiveSet, Open};

/// What stands in the catalogue about a host.
#[derive(Debug)]
pub(super) struct Seen {
    epoch: u64,
    live: Vec<String>,
    under_way: Vec<Operation>,
}

/// What a session begins with: the live set, and how far the host's log was taken in.
pub(super) fn welcome(
    tx: &Transaction<'_>,
    id: &str,
    open: &Open,
) -> Result<(LiveSet, u64), Fault> {
    let host = catalog::host_seen(tx, id, &open.log, open.head)?;
    for fact in open.loaded.iter().filter(|f| EnvironmentId::parse(&f.id).is_ok()) {
        store::take_in(tx, id, fact)?;
    }
    let there = open.leases.iter().map(|(lease, _)| lease.as_str()).collect();
    for thread in threads::unclaimed(tx, id, &there)? {
        match operations::add(tx, &claim(&thread), id) {
            // Too much is under way already; the next session sees to it.
            Err(fault) if fault.code == Code::LimitReached => break,
            added => added?,
        }
    }
    let (live, epoch) = (store::live(tx, id)?, catalog::host(tx, id)?.epoch);
    Ok((LiveSet { epoch, known: open.head, live, confirmed: false }, host.acked))
}

/// Takes in what happened on a host: all of it or nothing.
pub(super) fn take_events(tx: &Transaction<'_>, id: &str, events: &Events) -> Result<(), Fault> {
    for fact in &events.facts {
        let bad = |e| Fault::new(Code::InvalidRequest, format!("{:?}: {e}", fact.id), "");
        EnvironmentId::parse(&fact.id).map_err(bad)?;
        store::take_in(tx, id, fact)?;
    }
    catalog::host_acked(tx, id, events.last)
}

/// Looks at what a host is to be told.
pub(super) fn look(tx: &Transaction<'_>, id: &str) -> Result<Seen, Fault> {
    let (epoch, live) = (catalog::host(tx, id)?.epoch, store::live(tx, id)?);
    Ok(Seen { epoch, live, under_way: operations::under_way(tx, id)? })
}

/// What a host was told in one session.
#[derive(Debug)]
pub(super) struct SyncCursor {
    /// Operations that were sent.
    sent: BTreeSet<String>,
    /// The live set that was sent last.
    epoch: Option<u64>,
    /// The last record of the host that was heard of.
    known: u64,
}

impl SyncCursor {
    /// Nothing yet; the host's log is this long.
    pub(super) fn new(head: u64) -> Self {
        Self { sent: BTreeSet::new(), epoch: None, known: head }
    }

    /// The first live set was sent.
    pub(super) fn opened(&mut self, live: &LiveSet) {
        self.epoch = Some(live.epoch);
    }

    /// The host's log was told of up to here.
    pub(super) fn heard(&mut self, last: u64) {
        self.known = self.known.max(last);
    }

    /// The live set is to be said again, though it may be the same.
    pub(super) fn live_again(&mut self) {
        self.epoch = None;
    }

    /// All of it is to be said again.
    pub(super) fn all_again(&mut self) {
        self.sent.clear();
        self.epoch = None;
    }

    /// What was not said yet: first what is to be done, then what lives. `confirmed` is the live
    /// set that a person has looked at; 0 for none.
    pub(super) fn news(&mut self, seen: Seen, confirmed: u64) -> Vec<FromServer> {
        let fresh = seen.under_way.iter().filter(|o| self.sent.insert(o.id.clone()));
        let mut news: Vec<FromServer> = fresh.map(|o| FromServer::Command(o.order())).collect();
        let Seen { epoch, live, .. } = seen;
        // What has changed since somebody looked is not what was confirmed.
        let confirmed = confirmed == epoch && epoch != 0;
        if self.epoch != Some(epoch) || confirmed {
            self.epoch = Some(epoch);
            news.push(FromServer::Live(LiveSet { epoch, known: self.known, live, confirmed }));
        }
        news
    }
}
