//! The pure core and the server's catalogue, over a network that loses, repeats, reorders and cuts
//! messages, while either side is killed at any moment: thousands of seeded histories.
//!
//! All decisions are real: the core over a fake disk, the outbox, the registry of commands, message
//! numbers, the transactions of a session, rows, operations, threads. The wire, the clock and the
//! few lines that only pass data on are simulated (those of the host are in `host`). The invariants
//! are checked after every step; at the end both sides must agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rusqlite::{Connection, Transaction};
use serde_json::json;

use crate::core::{Fault, Phase};
use crate::server::environments::{DestroyMode, request_destroy, request_provision};
use crate::server::sim::host::Host;
use crate::server::sync::{self, SyncCursor};
use crate::server::threads::{self, Thread, claim};
use crate::server::transitions::{Change, Status, next};
use crate::server::{catalog, operations, store};
use crate::session::protocol::{Ack, Answer, Events, FromHost, FromServer, HostCommand, Open};
use crate::session::transport::Received;

const HISTORIES: u64 = 2_000;
const STEPS: u64 = 75;
pub(in crate::server) const HOST: &str = "box";
pub(in crate::server) const NAMES: [&str; 2] = ["a", "b"];

/// Pseudo-random generator: a seed always gives the same history.
pub(in crate::server) struct Random(u64);

impl Random {
    pub(in crate::server) fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One direction of a connection.
struct Line<M> {
    sent: u64,
    under_way: VecDeque<(u64, M)>,
    received: Received,
    /// Messages are lost from now on, and neither side notices.
    is_dead: bool,
}

impl<M> Default for Line<M> {
    fn default() -> Self {
        let (under_way, received) = (VecDeque::new(), Received::default());
        Self { sent: 0, under_way, received, is_dead: false }
    }
}

impl<M: Clone> Line<M> {
    fn send(&mut self, message: M) {
        self.sent += 1;
        self.under_way.push_back((self.sent, message));
    }

    /// Returns the next message that arrives, if one does. An error ends the connection.
    fn next(&mut self, random: &mut Random, faults: bool) -> Result<Option<M>, ()> {
        let Some(message) = self.under_way.pop_front() else { return Ok(None) };
        if self.is_dead {
            return Ok(None);
        }
        match if faults { random.below(16) } else { 99 } {
            0 => return Ok(None),
            1 => self.under_way.push_front(message.clone()),
            2 => {
                if let Some(other) = self.under_way.pop_front() {
                    self.under_way.push_front(message);
                    self.under_way.push_front(other);
                    return Ok(None);
                }
            }
            3 => self.is_dead = true,
            4 => return Err(()),
            _ => {}
        }
        let (n, message) = message;
        self.received.admit(n).map(|new| new.then_some(message)).map_err(|_| ())
    }
}

/// A connection, and the server's state of its session.
#[derive(Default)]
struct Session {
    to_server: Line<FromHost>,
    to_host: Line<FromServer>,
    /// `None` until the first message has arrived.
    cursor: Option<SyncCursor>,
}

struct Model {
    random: Random,
    host: Host,
    catalogue: Connection,
    session: Option<Session>,
    requests: u64,
    /// Number of steps with a fault, a kill or a broken connection.
    faults: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
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
    fn with<T>(
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

    fn step(&mut self) {
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

    /// Makes a random request at the server, which may be granted or refused.
    fn make_request(&mut self) {
        self.requests += 1;
        let n = self.requests;
        let id = NAMES[self.random.below(2) as usize].to_owned();
        let host_command = |command: &str, body| HostCommand {
            request: format!("w{n}"),
            name: command.to_owned(),
            environment: id.clone(),
            body,
        };
        let thread = format!("t{}", self.random.below(n) + 1);
        let force = self.random.below(2) == 0;
        let kind = self.random.below(14);
        let _granted = self.with(|tx| match kind {
            0..=3 => request_provision(tx, HOST, &host_command("environment.provision", json!({}))),
            4 | 5 => {
                let how = if force { DestroyMode::Forced } else { DestroyMode::Safely };
                request_destroy(tx, HOST, &id, &format!("w{n}"), how).map(drop)
            }
            6 => {
                store::get(tx, HOST, &id)?;
                request_provision(tx, HOST, &host_command("environment.restore", json!({})))
            }
            7 => {
                store::get(tx, HOST, &id)?;
                operations::add(tx, &host_command("environment.cancel", json!({})), HOST)
            }
            8 => start_thread(tx, &id, n),
            9 => end_thread(tx, &thread, n),
            10 => {
                store::change(tx, HOST, &id, Change::Retire, None, None)?;
                store::retire_at(tx, HOST, &id, 0)
            }
            _ => {
                store::get(tx, HOST, &id)?;
                operations::add(tx, &host_command("exec", json!({})), HOST)
            }
        });
        self.notify_session();
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
    fn notify_session(&mut self) {
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
                    missing.iter().try_for_each(|env| store::missing(tx, HOST, env).map(drop))
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
        let noted =
            self.with(|tx| crate::server::answers::answered(tx, HOST, answer)).expect("noted");
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
    fn settle(&mut self) {
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

    /// Lists the differences between the two sides.
    fn differences(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let sides = self
            .with(|tx| Ok((store::list(tx, HOST, true)?, operations::open_operations(tx, HOST)?)));
        let (list, under_way) = sides.expect("looked");
        let rows: BTreeMap<&str, (Status, u32)> =
            list.iter().map(|row| (row.id.as_str(), (row.status, row.incarnation))).collect();
        for operation in under_way {
            found.push(format!("{} {} is under way", operation.command, operation.id));
        }
        if !self.host.is_quiet() {
            found.push("the host has something to do or to say".to_owned());
        }
        for env in self.host.state().environments() {
            let row = rows.get(env.id.as_str()).copied();
            let agrees = match env.phase {
                Phase::Ready => {
                    matches!(row, Some((Status::Ready | Status::Retiring, n)) if n == env.incarnation)
                }
                Phase::Tombstoned => {
                    matches!(row, None | Some((Status::Destroyed | Status::Error, _)))
                }
                Phase::Failed => matches!(row, Some((Status::Destroyed | Status::Error, _))),
                _ => false,
            };
            if !agrees {
                let (id, life, phase) = (&env.id, env.incarnation, env.phase);
                found.push(format!("{id}: {phase:?} {life} here, {row:?} there"));
            }
        }
        for (id, (status, _)) in &rows {
            let known = self.host.state().environments().any(|env| env.id.as_str() == *id);
            if !known && !matches!(status, Status::Error | Status::Destroyed) {
                found.push(format!("{id}: unknown here, {status:?} there"));
            }
        }
        let (here, there) = (self.host.leases(), self.leases());
        if here != there {
            found.push(format!("leases {here:?} here, {there:?} there"));
        }
        found
    }

    /// Returns the leases of active threads.
    fn leases(&mut self) -> BTreeSet<String> {
        let of = |tx: &Transaction<'_>| {
            let mut found = BTreeSet::new();
            for id in NAMES {
                found.extend(threads::active(tx, HOST, id)?.into_iter().map(|t| t.lease));
            }
            Ok(found)
        };
        self.with(of).expect("asked")
    }
}

fn start_thread(tx: &Transaction<'_>, environment: &str, n: u64) -> Result<(), Fault> {
    let thread = Thread {
        host: HOST.to_owned(),
        id: format!("t{n}"),
        environment: environment.to_owned(),
        kind: "thread".to_owned(),
        holder: None,
        lease: format!("l{n}"),
        active: true,
        error: None,
    };
    let started = crate::server::usage::start(tx, &thread)?;
    operations::add(tx, &claim(&started), HOST)
}

fn end_thread(tx: &Transaction<'_>, id: &str, n: u64) -> Result<(), Fault> {
    let Some(thread) = threads::end(tx, HOST, id)? else { return Ok(()) };
    let (request, command) = (format!("w{n}"), "lease.release".to_owned());
    let (environment, body) = (thread.environment, json!({ "lease": thread.lease }));
    operations::add(tx, &HostCommand { request, name: command, environment, body }, HOST)
}

/// Counts of what happened: a model in which nothing happens would prove nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    faults: u64,
    kills: u64,
    lives: u64,
    commands: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.faults += other.faults;
        self.kills += other.kills;
        self.lives += other.lives;
        self.commands += other.commands;
    }
}

/// Runs the histories of these seeds.
fn histories(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| history(seed, false));
        all += ran.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    all
}

fn history(seed: u64, is_forgetful: bool) -> Tally {
    let mut model = Model::new(seed);
    model.host.is_forgetful = is_forgetful;
    for _ in 0..STEPS {
        model.step();
    }
    model.settle();
    model.host.disk_agrees();
    let lives = model.host.state().environments().map(|env| u64::from(env.incarnation)).sum();
    let kills = u64::from(model.host.state().boot()) - 1;
    Tally { faults: model.faults, kills, lives, commands: model.host.commands() }
}

/// Negative control: if the core does not know request ids, a command runs twice, which must be
/// detected.
#[test]
fn forgotten_request_ids_are_detected() {
    let caught = |seed| std::panic::catch_unwind(|| history(seed, true)).is_err();
    assert!((1..400).any(caught), "the fault was not detected");
}

#[test]
fn both_sides_agree_after_every_history() {
    let named = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let first = named("GROUNDSKEEPER_MODEL_SEED").unwrap_or(1);
    let many = named("GROUNDSKEEPER_MODEL_RUNS").unwrap_or(HISTORIES);
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..2)
            .map(|share| scope.spawn(move || histories((first + share..first + many).step_by(2))))
            .collect();
        for share in shares {
            all += share.join().expect("both sides agree");
        }
    });
    println!("{many} histories from {first}: {all:?}");
    let Tally { faults, kills, lives, commands } = all;
    let enough = faults > many && kills > many / 2 && lives > many && commands > many / 4;
    assert!(many < 100 || enough, "{many} histories and only {all:?}");
}
