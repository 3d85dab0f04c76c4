//! What carrying a database to its next generation costs: time and memory for a large one, the gate
//! of every start, and the engine's share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use groundskeeper::core::event::Actor;
use groundskeeper::core::{Command as Ask, Ended, MigrationStep as Step, Settlement};
use groundskeeper::migrate::MigrationRunner;
use groundskeeper::migrate::http::NoNetwork;
use groundskeeper::migrate::keychain::NoKeychain;
use groundskeeper::migrate::request::{MigrationRequest, is_interrupted};
use groundskeeper::migrate::standalone::{self, Standalone, new_id};
use groundskeeper::recipes;
use serde_json::json;

use crate::daemon::{Daemon, program};
use crate::table::{Table, median, show};

/// What the application itself takes for the same database on a like machine.
const THEIRS: Duration = Duration::from_millis(7_800);
const THEIR_MEGABYTES: f64 = 936.0;
const TENANT: &str = "bigws-0badcafe";
const ROUNDS: usize = 5;

/// Unpacks the large database.
fn large(dir: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/executor");
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(root.join("large-v1.tar.xz")).arg("-C").arg(dir);
    assert!(tar.status().expect("tar runs").success(), "unpacked");
    dir.join("v1")
}

struct Place {
    database: PathBuf,
    auth: PathBuf,
}

/// A fresh copy of it, on the disk before anything is measured.
fn place(dir: &Path, from: &Path, n: usize) -> Place {
    let dir = dir.join(format!("migration-{n}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let (database, auth) = (dir.join("data.db"), dir.join("auth.json"));
    for (name, to) in [("data.db", &database), ("auth.json", &auth)] {
        std::fs::copy(from.join(name), to).expect("copied");
        std::fs::File::open(to).and_then(|file| file.sync_all()).expect("synced");
    }
    Place { database, auth }
}

fn wanted(place: &Place) -> MigrationRequest {
    MigrationRequest {
        database: place.database.clone(),
        recipe: "executor".into(),
        auth: Some(place.auth.clone()),
        tenant: Some(TENANT.into()),
        ..MigrationRequest::default()
    }
}

pub(crate) fn all(dir: &Path, table: &mut Table) {
    let from = large(dir);
    whole(dir, &from, table);
    let last = shares(dir, &from, table);
    current_generation(&last, table);
    start_without_daemon(dir, &last, table);
}

/// Through the daemon, as a user has it.
fn whole(dir: &Path, from: &Path, table: &mut Table) {
    let (mut times, mut peak) = (Vec::new(), 0.0_f64);
    for n in 0..ROUNDS {
        let place = place(dir, from, n);
        let data = dir.join(format!("migration-home-{n}"));
        let offline = [("GROUNDSKEEPER_OFFLINE", std::ffi::OsStr::new("1"))];
        let mut daemon = Daemon::start_with(&data, &offline);
        let body = json!({
            "database": place.database, "recipe": "executor",
            "auth": place.auth, "tenant": TENANT,
        });
        let began = Instant::now();
        let (status, done) =
            daemon.connect().call("POST", "/v1/migrations?wait=600", &body.to_string());
        times.push(began.elapsed());
        assert_eq!((status, &done["migrated"]), (200, &json!(true)), "{done}");
        peak = peak.max(high_water(daemon.child.id()));
        daemon.kill();
    }
    let ours = median(&mut times);
    let ratio = ours.as_secs_f64() / THEIRS.as_secs_f64();
    table.row("migrate 45,000 rows / the original", &show(ours), &show(THEIRS), ratio, 0.08, false);
    let (ours, theirs) = (format!("{peak:.0} MB"), format!("{THEIR_MEGABYTES:.0} MB"));
    table.row("the same, memory", &ours, &theirs, peak / THEIR_MEGABYTES, 0.13, false);
}

/// Most memory that a process ever had, in megabytes.
fn high_water(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    number.unwrap_or(f64::NAN) / 1_024.0
}

/// Everything but building rows, against a plain copy of the same bytes.
fn shares(dir: &Path, from: &Path, table: &mut Table) -> Place {
    let (mut engine, mut rows, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    let mut steps: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    for n in 0..ROUNDS {
        let place = place(dir, from, 100 + n);
        let (ours, building) = migrate(dir, &place, &mut steps);
        engine.push(ours);
        rows.push(building);
        plain.push(copy(dir, &from.join("data.db"), &place.database));
        last = Some(place);
    }
    let (ours, theirs) = (median(&mut engine), median(&mut plain));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    table.note("building the rows alone", &show(median(&mut rows)));
    for (step, times) in &mut steps {
        table.note(&format!("  {step}"), &show(median(times)));
    }
    table.row("the engine / copy and sync", &show(ours), &show(theirs), ratio, 1.5, false);
    last.expect("a round")
}

fn migrate(
    dir: &Path,
    place: &Place,
    steps: &mut BTreeMap<&'static str, Vec<Duration>>,
) -> (Duration, Duration) {
    let runner = MigrationRunner::new(
        &dir.join("desk"),
        recipes::all(),
        Box::new(NoNetwork),
        Box::new(NoKeychain),
    );
    let kept = standalone::Place::within(&dir.join("kept"));
    let mut standalone = Standalone::open(&kept).expect("a log");
    let id = new_id().expect("a name");
    let plan = wanted(place).plan(&recipes::all()).expect("a plan");
    let actor = Actor::default();
    standalone.submit(Ask::Migrate { migration: id.clone(), plan, actor }).expect("granted");
    let (mut engine, mut rows) = (Duration::ZERO, Duration::ZERO);
    while let Some(owed) = standalone.state().migration(&id).and_then(|m| m.owed.clone()) {
        let migration = standalone.state().migration(&id).cloned().expect("known");
        let began = Instant::now();
        let result = runner.perform(&migration, owed.step, &|| false);
        let builds = matches!(owed.step, Step::BuildStaging | Step::NormaliseSource);
        let took = began.elapsed();
        *(if builds { &mut rows } else { &mut engine }) += took;
        steps.entry(owed.step.as_str()).or_default().push(took);
        let ended = Ended { entered: owed.entered, result };
        let settled = Settlement::Migration(id.clone(), ended);
        standalone.submit(Ask::Settle(settled)).expect("settled");
    }
    let done = standalone.state().migration(&id).cloned().expect("known");
    assert!(done.has_migrated(), "it is migrated");
    (engine, rows)
}

/// The two files that a migration writes, copied and synced.
fn copy(dir: &Path, old: &Path, new: &Path) -> Duration {
    let began = Instant::now();
    for from in [old, new] {
        let to = dir.join("plain.db");
        std::fs::copy(from, &to).expect("copied");
        std::fs::File::open(&to).and_then(|file| file.sync_all()).expect("synced");
        std::fs::remove_file(&to).expect("removed");
    }
    began.elapsed()
}

/// A database that is of the new generation already.
fn current_generation(place: &Place, table: &mut Table) {
    let mut times = Vec::new();
    for _ in 0..101 {
        let began = Instant::now();
        let plan = wanted(place).plan(&recipes::all()).expect("a plan");
        let recipe = recipes::all().find(&plan).expect("a recipe");
        assert!(!is_interrupted(&plan, &recipes::all()), "nothing is left");
        assert!(
            !groundskeeper::migrate::recipe::is_old(&place.database, &*recipe).expect("read"),
            "it is new"
        );
        times.push(began.elapsed());
    }
    let ours = median(&mut times);
    let millis = ours.as_secs_f64() * 1_000.0;
    table.row("the gate of a migrated database, ms", &show(ours), "-", millis, 5.0, false);
}

/// The whole program on such a database, from its start to its end, without a daemon.
fn start_without_daemon(dir: &Path, place: &Place, table: &mut Table) {
    let mut times = Vec::new();
    for _ in 0..31 {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(dir.join("migration-alone")).args(["--json", "migrate"]);
        command.args(["--no-daemon", "--recipe", "executor", "--tenant", TENANT, "--auth"]);
        command.arg(&place.auth).arg(&place.database);
        let began = Instant::now();
        let done = command.output().expect("the program runs");
        times.push(began.elapsed());
        let text = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && text.contains("\"migrated\":false"), "{text}");
    }
    let ours = median(&mut times);
    let millis = ours.as_secs_f64() * 1_000.0;
    table.row("the program without a daemon, ms", &show(ours), "-", millis, 15.0, false);
}
