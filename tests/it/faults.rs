//! Thousands of network faults and kills of either side. At the end server and host agree, no
//! request ran twice, nothing is lost, and the host has what the requests asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_server::{Control, daemon, linked};
use crate::fault_proxy::{Proxy, Random};
use crate::reference_model::{End, Expected, Fact, Goal, Request};
use crate::support::{Daemon, Harness, sleep, wait_for};

const NOTHING: Value = Value::Null;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Size of one run.
#[derive(Debug, Clone, Copy)]
struct Length {
    requests: u64,
    /// Requests between two comparisons of the settled sides.
    rest_every: u64,
    /// Number of environments that the requests are about.
    names: u64,
    /// Requests between two kills or cuts, on average.
    trouble_every: u64,
}

const LONG: Length = Length { requests: 500, rest_every: 50, names: 5, trouble_every: 6 };
const SHORT: Length = Length { requests: 20, rest_every: 10, names: 2, trouble_every: 4 };
/// Number of short runs if `GROUNDSKEEPER_FAULT_RUNS` is not set.
const RUNS: u64 = 10;

fn env_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

struct World {
    harness: Harness,
    control: Option<Control>,
    host: Option<Daemon>,
    proxy: Proxy,
    config: std::path::PathBuf,
    repo: std::path::PathBuf,
    random: Random,
    length: Length,
    expected: Expected,
    /// Commands that were requested, by request name.
    runs: Vec<String>,
    kills: u64,
}

impl World {
    fn new(seed: u64, length: Length) -> Self {
        let harness = Harness::new();
        let repo = harness.repo("project", 2);
        let control = Control::start(&harness);
        let key = control.key(&harness, "box");
        let proxy = Proxy::start(&control.port, seed);
        let config = linked(&harness, "config", &format!("ws://{}", proxy.address), &key);
        let host = Some(daemon(&harness, &config));
        control.await_session("box");
        let (random, control, runs) = (Random(seed), Some(control), Vec::new());
        let expected = Expected::default();
        Self {
            harness,
            control,
            host,
            proxy,
            config,
            repo,
            random,
            length,
            expected,
            runs,
            kills: 0,
        }
    }

    fn control(&self) -> &Control {
        self.control.as_ref().expect("a server")
    }

    fn draw_name(&mut self) -> &'static str {
        NAMES[self.random.below(self.length.names) as usize]
    }

    fn send_request(&mut self, n: u64) {
        let id = self.draw_name();
        let of = format!("/v1/hosts/box/environments/{id}");
        let mut goal = None;
        let (method, path, body) = match self.random.below(12) {
            0..=3 => {
                goal = Some(Goal::Make);
                let body = json!({ "id": id, "repo": self.repo });
                ("POST", "/v1/hosts/box/environments".to_owned(), body)
            }
            force @ (4 | 5) => {
                goal = Some(Goal::Remove);
                ("DELETE", format!("{of}?force={}", force == 4), NOTHING)
            }
            6 => {
                goal = Some(Goal::Make);
                ("POST", format!("{of}/restore"), json!({}))
            }
            7 => ("POST", format!("{of}/cancel"), json!({})),
            8 => {
                let body = json!({ "id": format!("t{n}"), "holder": "test" });
                ("POST", format!("{of}/threads"), body)
            }
            9 => {
                ("DELETE", format!("/v1/hosts/box/threads/t{}", self.random.below(n + 1)), NOTHING)
            }
            _ => return self.request_command(n, &of),
        };
        // The server may accept or refuse the request; the model takes accepted ones only.
        let headers = format!("idempotency-key: w{n}\r\n");
        let (status, answer) = self.control().call_as(method, &path, &body, &headers);
        if let Some(goal) = goal.filter(|_| matches!(status, 200 | 202)) {
            // A destroy that is already in progress is answered with the earlier operation's id.
            let name = answer["id"].as_str().expect("a name").to_owned();
            self.expected
                .add_request(id, Request { name, goal, by_hand: false, end: End::Unknown });
        }
    }

    fn request_command(&mut self, n: u64, of: &str) {
        let name = format!("run{n}");
        let file = self.harness.path("runs");
        let script = format!("echo {name} >> {}", file.display());
        let body = json!({ "argv": ["sh", "-c", script], "timeout_seconds": 20 });
        let headers = format!("idempotency-key: {name}\r\n");
        self.runs.push(name);
        self.control().call_as("POST", &format!("{of}/exec"), &body, &headers);
    }

    /// Runs one request as the user on the host.
    fn act_as_user(&mut self, n: u64) {
        let id = self.draw_name();
        let repo = self.repo.to_str().expect("text").to_owned();
        let (goal, verb): (Goal, &[&str]) = match self.random.below(3) {
            0 => (Goal::Remove, &["rm", id, "--force", "--no-autostart"]),
            1 => (Goal::Make, &["new", id, "--repo", &repo, "--no-autostart"]),
            _ => (Goal::Make, &["restore", id, "--no-autostart"]),
        };
        let (code, answer) = self.harness.gk(verb);
        let life = answer["incarnation"].as_u64().unwrap_or_default();
        let end = match (goal, code) {
            (Goal::Make, 0) if answer["phase"] == "ready" => End::Made(life),
            (Goal::Remove, 0) if answer["phase"] == "tombstoned" => End::Gone(life),
            _ => End::Unknown,
        };
        let name = format!("{} {n}: {answer}", verb[0]);
        self.expected.add_request(id, Request { name, goal, by_hand: true, end });
    }

    fn inject_fault(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                self.kills += 1;
                drop(self.host.take());
                self.host = Some(daemon(&self.harness, &self.config));
            }
            2 => {
                self.kills += 1;
                let port = self.control().port.clone();
                drop(self.control.take());
                self.control = Some(Control::listen(&self.harness, &port));
            }
            3..=5 => self.proxy.cut(),
            _ => {}
        }
    }

    fn rows(&self) -> BTreeMap<String, Fact> {
        let rows = self.control().ok("GET", "/v1/hosts/box/environments?all=true", &NOTHING);
        let all = rows.as_array().expect("a list").iter();
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let life = |v: &Value| v["incarnation"].as_u64().expect("a number");
        all.map(|row| (text(&row["id"]), (text(&row["status"]), life(row)))).collect()
    }

    fn environments(&self) -> Vec<Value> {
        let all = crate::api::call(&self.harness, "GET", "/v1/environments?all=true", "", "").1;
        all.as_array().expect("a list").clone()
    }

    fn facts(&self) -> BTreeMap<String, Fact> {
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let life = |v: &Value| v["incarnation"].as_u64().expect("a number");
        let all = self.environments().into_iter();
        all.map(|e| (text(&e["id"]), (text(&e["phase"]), life(&e)))).collect()
    }

    /// Returns the leases of ready environments: on the host, and in the server's tables.
    fn leases(&self) -> (BTreeSet<(String, String)>, BTreeSet<(String, String)>) {
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let ready = self.environments().into_iter().filter(|e| e["phase"] == "ready");
        let mut here = BTreeSet::new();
        for env in ready {
            let leases = env["leases"].as_array().expect("a list").iter();
            here.extend(leases.map(|lease| (text(&env["id"]), text(&lease["id"]))));
        }
        let sql = "SELECT environment, lease FROM threads WHERE active = 1";
        let db = self.catalogue();
        let mut find = db.prepare(sql).expect("prepared");
        let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("asked");
        (here, rows.flatten().collect())
    }

    /// Returns the differences between host and server; empty if they agree.
    fn differences(&self) -> Vec<String> {
        let (rows, facts) = (self.rows(), self.facts());
        let mut found = Vec::new();
        for (id, (phase, life)) in &facts {
            let row = rows.get(id).map(|(status, life)| (status.as_str(), *life));
            let agrees = match phase.as_str() {
                "ready" => matches!(row, Some(("ready" | "retiring", n)) if n == *life),
                // The server may never have heard of an environment that came and went meanwhile.
                "tombstoned" => matches!(row, None | Some(("destroyed" | "error", _))),
                "failed" => matches!(row, Some(("error" | "destroyed", _))),
                _ => false,
            };
            if !agrees {
                found.push(format!("{id}: {phase} {life} here, {row:?} there"));
            }
        }
        for (id, (status, _)) in &rows {
            if !facts.contains_key(id) && !matches!(status.as_str(), "error" | "destroyed") {
                found.push(format!("{id}: unknown here, {status} there"));
            }
        }
        let (here, there) = self.leases();
        if here != there {
            found.push(format!("leases {here:?} here, {there:?} there"));
        }
        found
    }

    fn settle(&mut self) {
        self.proxy.faults(0);
        self.proxy.cut();
        self.control().await_session("box");
        let mut last = Vec::new();
        let until = std::time::Instant::now() + crate::support::WAIT_LIMIT;
        wait_for("agreement", || {
            last = self.differences();
            let host = self.control().ok("GET", "/v1/hosts/box", &NOTHING);
            let daemon = crate::api::call(&self.harness, "GET", "/v1/daemon", "", "").1;
            let told = host["acked"] == daemon["seq"] && host["connected"] == true;
            let late = std::time::Instant::now() + std::time::Duration::from_secs(1) > until;
            assert!(!late, "no agreement: {last:#?}; {host:#} {daemon:#}\n{}", self.history());
            last.is_empty() && told && self.open_operations() == 0
        });
        self.compare();
    }

    /// Compares the host with what the model allows.
    fn compare(&mut self) {
        let (ends, facts) = (self.operation_results(), self.facts());
        let end = |name: &str| ends.get(name).copied().unwrap_or(End::Unknown);
        let wrong = self.expected.check_settled(&end, &facts);
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), self.history());
        self.check_runs();
    }

    /// Returns the results of the server's operations on environments.
    fn operation_results(&self) -> BTreeMap<String, End> {
        let sql = "SELECT id, command, status, answer FROM operations WHERE status IS NOT NULL";
        let db = self.catalogue();
        let mut find = db.prepare(sql).expect("prepared");
        let rows = find.query_map([], |row| {
            let (name, command): (String, String) = (row.get(0)?, row.get(1)?);
            let (status, answer): (u16, String) = (row.get(2)?, row.get(3)?);
            let answer: Value = serde_json::from_str(&answer).expect("json");
            let life = answer["incarnation"].as_u64().unwrap_or_default();
            let end = match (command.as_str(), status) {
                ("environment.destroy", 404 | 410) => End::Gone(0),
                ("environment.destroy", 409) => End::Refused,
                ("environment.destroy", _) if answer["phase"] == "tombstoned" => End::Gone(life),
                (_, 200 | 201) if answer["phase"] == "ready" => End::Made(life),
                _ => End::Unknown,
            };
            Ok((name, end))
        });
        rows.expect("asked").flatten().collect()
    }

    fn catalogue(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.harness.path("control/catalog.db")).expect("opened")
    }

    /// Returns the server's operations and the host's events, to diagnose a failure.
    fn history(&self) -> String {
        let db = self.catalogue();
        let sql = "SELECT created_at || ' ' || id || ' ' || command || ' ' || environment || ' '
                   || coalesce(status, '-') || ' ' || coalesce(ended_at, '-') || ' '
                   || coalesce(substr(answer, 1, 150), '-') FROM operations ORDER BY created_at";
        let mut find = db.prepare(sql).expect("prepared");
        let rows = find.query_map([], |row| row.get::<_, String>(0)).expect("asked");
        let operations: Vec<String> = rows.flatten().collect();
        let events = self.harness.command(&["events", "--json"]).output().expect("asked").stdout;
        let events = String::from_utf8_lossy(&events).into_owned();
        let short = events.lines().map(|l| l.chars().take(260).collect::<String>() + "\n");
        let shown = self.harness.ok(&["ls", "--all"]);
        let printed = std::fs::read_to_string(self.harness.path("daemon.err")).unwrap_or_default();
        let printed: Vec<&str> = printed.lines().rev().take(40).collect();
        let (operations, events) = (operations.join("\n"), short.collect::<String>());
        format!("{operations}\n{events}\n{shown:#}\n{}", printed.join("\n"))
    }

    fn open_operations(&self) -> i64 {
        let db = self.catalogue();
        let sql = "SELECT count(*) FROM operations WHERE status IS NULL";
        db.query_row(sql, [], |row| row.get(0)).expect("counted")
    }

    /// Checks that no command ran twice, and that each command reported as run did run.
    fn check_runs(&self) {
        let ran = std::fs::read_to_string(self.harness.path("runs")).unwrap_or_default();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for line in ran.lines() {
            *counts.entry(line).or_default() += 1;
        }
        for (name, count) in &counts {
            assert_eq!(*count, 1, "{name} was run {count} times");
        }
        for name in &self.runs {
            let (status, found) =
                self.control().call("GET", &format!("/v1/operations/{name}"), &NOTHING);
            if status == 200 && found["answer"]["code"] == 0 {
                assert_eq!(counts.get(name.as_str()), Some(&1), "{name} was not run");
            }
        }
    }
}

/// Runs one world from start to end, with faults and kills. Returns the numbers of both.
fn run(seed: u64, length: Length) -> (u64, u64) {
    let mut world = World::new(seed, length);
    for n in 0..length.requests {
        world.proxy.faults(2 + world.random.below(12));
        world.send_request(n);
        if world.random.below(length.trouble_every) == 0 {
            world.inject_fault();
        }
        if world.random.below(10) == 0 {
            world.act_as_user(n);
        }
        // Requests come faster than sessions open. The random pause lets some requests arrive in
        // the middle of a session.
        sleep(Duration::from_millis(world.random.below(25)));
        if (n + 1) % length.rest_every == 0 {
            world.settle();
        }
    }
    world.settle();
    world.harness.drain();
    world.harness.check(&[Path::new(&world.repo)]);
    (world.proxy.count(), world.kills)
}

#[test]
fn sides_agree_after_faults_and_kills() {
    let seed = env_number("GROUNDSKEEPER_FAULT_SEED");
    let requests = env_number("GROUNDSKEEPER_FAULT_WISHES").unwrap_or(LONG.requests);
    let seeds: Vec<u64> = seed.map_or_else(|| vec![1, 2], |seed| vec![seed]);
    for seed in seeds {
        let (faults, kills) = run(seed, Length { requests, ..LONG });
        println!("seed {seed}: {requests} wishes, {faults} faults, {kills} kills");
        assert!(faults > requests / 5, "only {faults} faults");
    }
}

/// Many small worlds find other defects than a large one, as each starts empty.
#[test]
fn short_fault_runs_match_requests() {
    let first = env_number("GROUNDSKEEPER_FAULT_SEED").unwrap_or(1_000);
    let runs = env_number("GROUNDSKEEPER_FAULT_RUNS").unwrap_or(RUNS);
    let (mut faults, mut kills, mut failed) = (0, 0, Vec::new());
    for seed in first..first + runs {
        // A failing run prints its reason; the others still run.
        match std::panic::catch_unwind(|| run(seed, SHORT)) {
            Ok(did) => {
                faults += did.0;
                kills += did.1;
            }
            Err(_) => failed.push(seed),
        }
    }
    println!("{runs} runs from {first}: {faults} faults, {kills} kills, failed: {failed:?}");
    assert!(failed.is_empty(), "seeds {failed:?}");
}
