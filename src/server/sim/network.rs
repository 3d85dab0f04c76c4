//! The pure core and the server's catalogue, over a network that loses, repeats, reorders and cuts
//! messages, while either side is killed at any moment.
//!
//! All decisions are real: the core over a fake disk, the outbox, the registry of commands, message
//! numbers, the transactions of a session, rows, operations, threads. The wire (`line`), the clock
//! and the few lines that only pass data on are simulated (those of the host are in `host`). The
//! invariants are checked after every step; at the end both sides must agree (`agreement`).

use rusqlite::{Connection, Transaction};

use crate::core::Fault;
use crate::server::environments::{DestroyMode, request_destroy};
use crate::server::sim::host::Host;
use crate::server::sim::line::{Line, Random};
use crate::server::sync::{self, SyncCursor};
use crate::server::transitions::{Change, Status, next};
use crate::server::{answers, catalog, facts, store};
use crate::session::protocol::{Ack, Answer, Events, FromHost, FromServer, Open};

pub(in crate::server) const HOST: &str = "box";
pub(in crate::server) const NAMES: [&str; 2] = ["a", "b"];

/// A connection, and the server's state of its session.
#[derive(Default)]
struct Session {
    to_server: Line<FromHost>,
    to_host: Line<FromServer>,
    /// `None` until the first message has arrived.
    cursor: Option<SyncCursor>,
}

/// Both sides, and the connection between them.
pub(super) struct Model {
    pub(super) random: Random,
    pub(super) host: Host,
    catalogue: Connection,
    session: Option<Session>,
    pub(super) requests: u64,
    /// Number of steps with a fault, a kill or a broken connection.
    pub(super) faults: u64,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        let mut catalogue = catalog::in_memory();
        // Every change of a status is recorded, whichever code makes it.
        let watch = "CREATE TEMP TABLE moves (before TEXT, after TEXT);
            CREATE TEMP TRIGGER moved AFTER UPDATE OF status ON environments
            WHEN old.status <> new.status
            BEGIN INSERT INTO moves VALUES (old.status, new.status); END;
            CREATE TEMP TRIGGER made AFTER INSERT ON environments
            WHEN new.status <> 'destroyed'
            BEGIN INSERT INTO moves VALUES ('none', new.status); END;";
        catalogue.execute_batch(watch).expect("a watch");
        let tx = catalogue.transaction().expect("begun");
        catalog::add_host(&tx, HOST, false).expect("a host");
        tx.commit().expect("committed");
        let (random, host) = (Random(seed), Host::new());
        Self { random, host, catalogue, session: None, requests: 0, faults: 0 }
    }

    /// Runs one transaction; a refusal changes nothing.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let tx = self.catalogue.transaction().expect("begun");
        let done = work(&tx)?;
        tx.commit().expect("committed");
        self.check_row_transitions();
        Ok(done)
    }

    fn check_row_transitions(&self) {
        let mut find = self.catalogue.prepare_cached("SELECT * FROM moves").expect("prepared");
        let moves = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("asked");
        for (before, after) in moves.flatten().collect::<Vec<(String, String)>>() {
            let (from, to) = (Status::parse(&before), Status::parse(&after));
            let from = from.unwrap_or_else(|| panic!("a row was created as {after}"));
            let legal = Change::ALL.into_iter().any(|change| next(from, change) == to);
            assert!(legal, "a row went from {before} to {after}");
        }
        self.catalogue.execute("DELETE FROM moves", []).expect("forgotten");
    }

    pub(super) fn step(&mut self) {
        match self.random.below(24) {
            0..=3 => self.make_request(),
            4 => self.act_as_user(),
            5..=7 => self.host.work(),
            8 => self.inject_fault(),
            9 => self.run_periodic_work(),
            10..=12 => self.connect(),
            _ => self.deliver_messages(true),
        }
        self.check_step();
    }

    fn act_as_user(&mut self) {
        let id = NAMES[self.random.below(2) as usize];
        match self.random.below(3) {
            0 => self.host.remove_by_hand(id),
            1 => self.host.make_by_hand(id),
            _ => self.host.restore_by_hand(id),
        }
    }

    /// Injects a fault: a kill of the host, a cut, a timeout or a repetition.
    fn inject_fault(&mut self) {
        self.faults += 1;
        match self.random.below(7) {
            0..=2 => {
                let how_far = self.random.below(5) as u8;
                self.host.crash(how_far);
                self.session = None;
            }
            // A kill of the server is only a cut: it has sent nothing that it had not committed.
            3 | 4 => self.hang_up(),
            5 => {
                let dead = |session: &Session| session.to_host.is_dead || session.to_server.is_dead;
                if self.session.as_ref().is_some_and(dead) {
                    self.hang_up();
                }
            }
            _ => {
                if let Some(cursor) = self.session.as_mut().and_then(|s| s.cursor.as_mut()) {
                    cursor.resend_all();
                }
                self.notify_session();
            }
        }
    }

    fn hang_up(&mut self) {
        self.session = None;
        self.host.hang_up();
    }

    /// Does the server's periodic work.
    fn run_periodic_work(&mut self) {
        let n = self.requests;
        let due = self.with(store::due).expect("asked");
        for (m, (host, id)) in due.into_iter().enumerate() {
            let request = format!("r{n}-{m}-{}", self.random.below(1 << 30));
            // A refused one is still due, so the next round tries again.
            let _granted =
                self.with(|tx| request_destroy(tx, &host, &id, &request, DestroyMode::Unused));
        }
        self.notify_session();
    }

    fn connect(&mut self) {
        if self.session.is_none() {
            let mut session = Session::default();
            session.to_server.send(FromHost::Open(Box::new(self.host.open())));
            self.session = Some(session);
        }
    }

    /// Makes the session read the catalogue and send what is new.
    pub(super) fn notify_session(&mut self) {
        let pending = self.with(|tx| sync::read_pending(tx, HOST)).expect("looked");
        let Some(session) = self.session.as_mut() else { return };
        let unsent =
            session.cursor.as_mut().map(|cursor| cursor.unsent(pending, 0)).unwrap_or_default();
        for message in unsent {
            session.to_host.send(message);
        }
    }

    /// Takes the host's messages; then one message of either side arrives or is lost.
    fn deliver_messages(&mut self, faults: bool) {
        for message in self.host.outgoing() {
            if let Some(session) = self.session.as_mut() {
                session.to_server.send(message);
            }
        }
        let Some(session) = self.session.as_mut() else { return };
        let for_server = session.to_host.under_way.is_empty() || self.random.below(2) == 0;
        if for_server {
            match session.to_server.next(&mut self.random, faults) {
                Ok(Some(message)) => self.receive_from_host(message),
                Ok(None) => {}
                Err(()) => self.hang_up(),
            }
        } else {
            match session.to_host.next(&mut self.random, faults) {
                Ok(Some(message)) => self.host.on_message(message),
                Ok(None) => {}
                Err(()) => self.hang_up(),
            }
        }
    }

    fn receive_from_host(&mut self, message: FromHost) {
        match message {
            FromHost::Open(open) => self.receive_open(&open),
            FromHost::Answer(answer) => self.receive_answer(&answer),
            FromHost::Events(events) => self.receive_events(&events),
            FromHost::Reconciled(report) => {
                let missing = report.missing;
                let noted = self.with(|tx| {
                    missing.iter().try_for_each(|env| facts::missing(tx, HOST, env).map(drop))
                });
                noted.expect("noted");
                self.notify_session();
            }
            _ => {}
        }
    }

    fn receive_open(&mut self, open: &Open) {
        let (live, acked) = self.with(|tx| sync::open_session(tx, HOST, open)).expect("welcome");
        let mut cursor = SyncCursor::new(open.head);
        cursor.opened(&live);
        let Some(session) = self.session.as_mut() else { return };
        session.cursor = Some(cursor);
        session.to_host.send(Host::opened(live, acked));
        self.notify_session();
    }

    /// As a host session does: 429 and 503 leave the operation open.
    fn receive_answer(&mut self, answer: &Answer) {
        if matches!(answer.status, 429 | 503) {
            return;
        }
        let noted = self.with(|tx| answers::answered(tx, HOST, answer)).expect("noted");
        if let Some(operation) = noted {
            if operation.command == "environment.destroy" && answer.body["phase"] == "tombstoned" {
                let life = answer.body["incarnation"].as_u64().unwrap_or_default();
                assert!(!self.host.lives(&operation.environment, life), "{answer:?}");
            }
            if let Some(cursor) = self.session.as_mut().and_then(|s| s.cursor.as_mut()) {
                cursor.resend_live_set();
            }
            self.notify_session();
        }
    }

    fn receive_events(&mut self, events: &Events) {
        self.with(|tx| sync::apply_events(tx, HOST, events)).expect("accepted");
        let Some(session) = self.session.as_mut() else { return };
        if let Some(cursor) = session.cursor.as_mut() {
            cursor.received(events.last);
        }
        session.to_host.send(FromServer::Ack(Ack { seq: events.last }));
        self.notify_session();
    }

    /// Checks what must hold after every step.
    fn check_step(&mut self) {
        self.host.did_nothing_twice();
    }

    /// Runs without further faults until both sides agree.
    pub(super) fn settle(&mut self) {
        self.hang_up();
        for round in 0..400 {
            self.connect();
            for _ in 0..12 {
                self.deliver_messages(false);
            }
            self.host.work();
            self.run_periodic_work();
            self.check_step();
            if round % 20 == 19 {
                let cursor = self.session.as_mut().and_then(|s| s.cursor.as_mut());
                cursor.map(SyncCursor::resend_all).unwrap_or_default();
                self.notify_session();
            }
            if round > 5 && self.differences().is_empty() {
                return;
            }
        }
        let found = self.differences();
        panic!("no agreement: {found:#?}\n{:#?}", self.host.history());
    }
}
