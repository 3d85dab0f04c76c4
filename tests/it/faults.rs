//! Thousands of network faults and kills of either side: in the end both agree, nothing is done
//! twice and nothing is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{Control, daemon, linked};
use crate::proxy::{Proxy, Random};
use crate::support::{Bench, Daemon, pass, wait_for};

const NOTHING: Value = Value::Null;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Wishes in one run; more when the variable says so.
const WISHES: u64 = 500;

fn wishes() -> u64 {
    let named = std::env::var("GROUNDSKEEPER_FAULT_WISHES").ok();
    named.and_then(|text| text.parse().ok()).unwrap_or(WISHES)
}

struct World {
    bench: Bench,
    control: Option<Control>,
    host: Option<Daemon>,
    proxy: Proxy,
    config: std::path::PathBuf,
    repo: std::path::PathBuf,
    random: Random,
    /// Commands that were run, by name of the wish.
    runs: Vec<String>,
    kills: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let bench = Bench::new();
        let repo = bench.repo("project", 2);
        let control = Control::start(&bench);
        let key = control.key(&bench, "box");
        let proxy = Proxy::start(&control.port, seed);
        let config = linked(&bench, "config", &format!("ws://{}", proxy.address), &key);
        let host = Some(daemon(&bench, &config));
        control.await_session("box");
        let (random, runs) = (Random(seed), Vec::new());
        Self { bench, control: Some(control), host, proxy, config, repo, random, runs, kills: 0 }
    }

    fn control(&self) -> &Control {
        self.control.as_ref().expect("a server")
    }

    fn wish(&mut self, n: u64) {
        let id = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let of = format!("/v1/hosts/box/environments/{id}");
        let (method, path, body) = match self.random.below(12) {
            0..=3 => {
                let body = json!({ "id": id, "repo": self.repo });
                ("POST", "/v1/hosts/box/environments".to_owned(), body)
            }
            4 => ("DELETE", format!("{of}?force=true"), NOTHING),
            5 => ("DELETE", of, NOTHING),
            6 => ("POST", format!("{of}/restore"), json!({})),
            7 => ("POST", format!("{of}/cancel"), json!({})),
            8 => {
                let body = json!({ "id": format!("t{n}"), "holder": "test" });
                ("POST", format!("{of}/threads"), body)
            }
            9 => {
                ("DELETE", format!("/v1/hosts/box/threads/t{}", self.random.below(n + 1)), NOTHING)
            }
            _ => {
                let name = format!("run{n}");
                let file = self.bench.path("runs");
                let script = format!("echo {name} >> {}", file.display());
                self.runs.push(name.clone());
                let body = json!({ "argv": ["sh", "-c", script], "timeout_seconds": 20 });
                let headers = format!("idempotency-key: {name}\r\n");
                self.control().call_as("POST", &format!("{of}/exec"), &body, &headers);
                return;
            }
        };
        // Whether it is granted or refused is not the question here.
        self.control().call(method, &path, &body);
    }

    /// Something that a person does on the host itself.
    fn by_hand(&mut self) {
        let id = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let repo = self.repo.to_str().expect("text").to_owned();
        let verb: &[&str] = match self.random.below(3) {
            0 => &["rm", id, "--force", "--no-autostart"],
            1 => &["new", id, "--repo", &repo, "--no-autostart"],
            _ => &["restore", id, "--no-autostart"],
        };
        self.bench.gk(verb);
    }

    fn trouble(&mut self) {
        match self.random.below(8) {
            0 => {
                self.kills += 1;
                drop(self.host.take());
                self.host = Some(daemon(&self.bench, &self.config));
            }
            1 => {
                self.kills += 1;
                let port = self.control().port.clone();
                drop(self.control.take());
                self.control = Some(Control::listen(&self.bench, &port));
            }
            2..=4 => self.proxy.cut(),
            _ => {}
        }
    }

    fn rows(&self) -> BTreeMap<String, (String, u64)> {
        let rows = self.control().ok("GET", "/v1/hosts/box/environments?all=true", &NOTHING);
        let all = rows.as_array().expect("a list").iter();
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let life = |v: &Value| v["incarnation"].as_u64().expect("a number");
        all.map(|row| (text(&row["id"]), (text(&row["status"]), life(row)))).collect()
    }

    fn facts(&self) -> BTreeMap<String, (String, u64)> {
        let all = self.bench.ok(&["ls", "--all"]);
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let life = |v: &Value| v["incarnation"].as_u64().expect("a number");
        let all = all.as_array().expect("a list").iter();
        all.map(|e| (text(&e["id"]), (text(&e["phase"]), life(e)))).collect()
    }

    /// What still keeps the two apart; empty when they agree.
    fn differences(&self) -> Vec<String> {
        let (rows, facts) = (self.rows(), self.facts());
        let mut found = Vec::new();
        for (id, (phase, life)) in &facts {
            let row = rows.get(id).map(|(status, life)| (status.as_str(), *life));
            let agrees = match phase.as_str() {
                "ready" => matches!(row, Some(("ready" | "retiring", n)) if n == *life),
                "tombstoned" => matches!(row, Some(("destroyed" | "error", _))),
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
        found
    }

    fn settle(&self) {
        self.proxy.faults(0);
        self.proxy.cut();
        self.control().await_session("box");
        let mut last = Vec::new();
        let until = std::time::Instant::now() + crate::support::PATIENCE;
        wait_for("agreement", || {
            last = self.differences();
            let host = self.control().ok("GET", "/v1/hosts/box", &NOTHING);
            let daemon = crate::api::call(&self.bench, "GET", "/v1/daemon", "", "").1;
            let told = host["acked"] == daemon["seq"] && host["connected"] == true;
            let late = std::time::Instant::now() + std::time::Duration::from_secs(1) > until;
            assert!(!late, "no agreement: {last:#?}; {host:#} {daemon:#}\n{}", self.story());
            last.is_empty() && told && self.open_operations() == 0
        });
    }

    /// What the server did, and what happened here, for whoever looks into a failure.
    fn story(&self) -> String {
        let db = rusqlite::Connection::open(self.bench.path("control/catalog.db")).expect("opened");
        let sql = "SELECT created_at || ' ' || id || ' ' || command || ' ' || environment || ' '
                   || coalesce(status, '-') || ' ' || coalesce(ended_at, '-') || ' '
                   || coalesce(substr(answer, 1, 150), '-') FROM operations ORDER BY created_at";
        let mut find = db.prepare(sql).expect("prepared");
        let rows = find.query_map([], |row| row.get::<_, String>(0)).expect("asked");
        let operations: Vec<String> = rows.flatten().collect();
        let events = self.bench.command(&["events", "--json"]).output().expect("asked").stdout;
        let events = String::from_utf8_lossy(&events).into_owned();
        let short = events.lines().map(|l| l.chars().take(260).collect::<String>() + "\n");
        let shown = self.bench.ok(&["ls", "--all"]);
        let said = std::fs::read_to_string(self.bench.path("daemon.err")).unwrap_or_default();
        let said: Vec<&str> = said.lines().rev().take(40).collect();
        let (operations, events) = (operations.join("\n"), short.collect::<String>());
        format!("{operations}\n{events}\n{shown:#}\n{}", said.join("\n"))
    }

    fn open_operations(&self) -> i64 {
        let db = rusqlite::Connection::open(self.bench.path("control/catalog.db")).expect("opened");
        let sql = "SELECT count(*) FROM operations WHERE status IS NULL";
        db.query_row(sql, [], |row| row.get(0)).expect("counted")
    }

    /// Nothing was run twice, and what is said to have been run was.
    fn check_runs(&self) {
        let ran = std::fs::read_to_string(self.bench.path("runs")).unwrap_or_default();
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

fn run(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    for n in 0..wishes() {
        world.proxy.faults(2 + world.random.below(12));
        world.wish(n);
        if world.random.below(6) == 0 {
            world.trouble();
        }
        if world.random.below(10) == 0 {
            world.by_hand();
        }
        // Wishes come faster than sessions do; here and there a session is to be in the middle of one.
        pass(Duration::from_millis(world.random.below(25)));
        if n % 50 == 49 {
            world.settle();
        }
    }
    world.settle();
    world.check_runs();
    end_all(&world);
    world.bench.check(&[Path::new(&world.repo)]);
    (world.proxy.count(), world.kills)
}

/// Takes everything away, so that the check from the outside sees a quiet host.
fn end_all(world: &World) {
    for id in world.facts().into_iter().filter(|(_, (phase, _))| phase == "ready").map(|(id, _)| id)
    {
        world.control().call(
            "DELETE",
            &format!("/v1/hosts/box/environments/{id}?force=true&wait=30"),
            &NOTHING,
        );
    }
    world.settle();
}

#[test]
fn both_sides_agree_after_faults_and_kills() {
    let seed = std::env::var("GROUNDSKEEPER_FAULT_SEED").ok().and_then(|s| s.parse().ok());
    let seeds: Vec<u64> = seed.map_or_else(|| vec![1, 2], |seed| vec![seed]);
    for seed in seeds {
        let (faults, kills) = run(seed);
        println!("seed {seed}: {} wishes, {faults} faults, {kills} kills", wishes());
        assert!(faults > wishes() / 5, "only {faults} faults");
    }
}
