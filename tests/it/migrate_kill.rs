//! SIGKILL at every named point of a migration and at random instants. The next daemon finds the
//! old database or the new one, whole, with the secrets of the same generation. The next migration
//! ends in the same state as one without a kill.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use groundskeeper::failpoint::kill::POINTS;
use serde_json::Value;

use crate::kill::is_of_migrations;
use crate::migrate::{Place, TENANT, migrate, set_up_case};
use crate::recorded_rows::{differences, fixtures, recorded};
use crate::support::{Daemon, Harness, sleep, wait_for};

/// Runs a verb; the daemon may be dead, and then it works in its own process. Returns whether it
/// succeeded.
fn run_ok(harness: &Harness, ring: &Path, args: &[String]) -> bool {
    let args: Vec<&str> =
        ["--json", "--no-autostart"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let mut command = harness.command(&args);
    command.env("GROUNDSKEEPER_KEYCHAIN_FILE", ring);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("runs").success()
}

/// Databases that together cause every step of a migration.
struct Scene {
    keychain: Place,
    clash: Place,
    undone: Place,
    left: Vec<Place>,
}

impl Scene {
    fn new(harness: &Harness) -> Self {
        let left = ["built", "staging-built"].map(|point| set_up_crash(harness, point));
        Self {
            keychain: set_up_case(harness, "25-keychain-fake", "keychain"),
            undone: set_up_case(harness, "01-openapi-file-basic", "undone"),
            clash: set_up_case(harness, "90-fail-two-folders", "clash"),
            left: left.into(),
        }
    }

    fn daemon(&self, harness: &Harness, point: Option<&str>) -> Daemon {
        let ring = self.keychain.data.join("keyring.json");
        let ring = ring.to_str().expect("text");
        let mut env = vec![("GROUNDSKEEPER_KEYCHAIN_FILE", ring)];
        env.extend(point.map(|point| ("GROUNDSKEEPER_KILL_AT", point)));
        Daemon::start_with(harness, &env)
    }

    fn run_job(&self, harness: &Harness) {
        let ring = self.keychain.data.join("keyring.json");
        let run = |args: &[String]| run_ok(harness, &ring, args);
        run(&migrate(&self.clash, TENANT));
        for place in &self.left {
            run(&migrate(place, TENANT));
        }
        run(&migrate(&self.keychain, TENANT));
        if run(&migrate(&self.undone, TENANT)) {
            self.write();
        }
        let database = self.undone.database().to_str().expect("text").to_owned();
        run(&["migrate".into(), "undo".into(), "--keep-new".into(), database]);
        // What the undo put aside, and the older one of two backups of the application.
        for name in ["1500000000000-0123abcd", "1600000000000-0123abce"] {
            let old = self.undone.data.join(format!("data.db.v1-v2-{name}"));
            std::fs::write(old, "old").expect("written");
        }
        run(&["migrate", "prune", "--older-than", "0s", "--apply"].map(String::from));
    }

    /// Writes to the new database and its secrets, as the application does. An undo keeps that.
    fn write(&self) {
        let db = rusqlite::Connection::open(self.undone.database()).expect("a database");
        db.execute_batch("UPDATE integration SET name = 'mine'").expect("written");
        std::fs::write(&self.undone.auth, "{}").expect("written");
    }

    /// Checks that database and secrets have the same generation, old or new, before any request.
    fn check_one_generation(&self, context: &str) {
        let old = fixtures().join("cases/01-openapi-file-basic/v1/auth.json");
        let is_old = std::fs::read(&self.undone.auth).expect("secrets")
            == std::fs::read(old).expect("recorded");
        let db = rusqlite::Connection::open(self.undone.database()).expect("a database");
        let query = "SELECT count(*) FROM sqlite_master WHERE name = 'integration'";
        let new: i64 = db.query_row(query, [], |row| row.get(0)).expect("read");
        assert_eq!(new == 0, is_old, "{context}: database and secrets differ");
    }

    /// Checks that a daemon that is not killed ends all migrations as if there had been no kill.
    fn check(&self, harness: &Harness, context: &str) {
        wait_for("the end of all migrations", || {
            let all = harness.ok(&["migrate", "status"]);
            all.as_array().expect("a list").iter().all(|m| m["over"] == true)
        });
        self.check_one_generation(context);
        self.clash.check_clean(context);
        let (code, out) = gk(harness, &migrate(&self.clash, TENANT));
        assert_eq!((code, &out["error"]["code"]), (1, &Value::from("migration_conflict")));
        self.clash.check_clean(context);
        let crash = recorded(&fixtures().join("crash/uninterrupted.v2.json"));
        for place in &self.left {
            check_new(harness, place, &crash, context);
        }
        let case = fixtures().join("cases/01-openapi-file-basic");
        check_new(harness, &self.undone, &recorded(&case.join("v2.json")), context);
        let case = fixtures().join("cases/25-keychain-fake");
        check_new(harness, &self.keychain, &recorded(&case.join("v2.json")), context);
        let ring = recorded(&self.keychain.data.join("keyring.json"));
        assert_eq!(ring, recorded(&case.join("v2/keyring.json")), "{context}");
        let auth = std::fs::read(&self.keychain.auth).expect("secrets");
        assert_eq!(auth, std::fs::read(case.join("v2/auth.json")).expect("recorded"), "{context}");
    }
}

fn gk(harness: &Harness, args: &[String]) -> (i32, Value) {
    harness.gk(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn check_new(harness: &Harness, place: &Place, wanted: &Value, context: &str) {
    let (code, out) = gk(harness, &migrate(place, TENANT));
    assert_eq!(code, 0, "{context}: {out:#}");
    let wrong = differences(&place.database(), wanted);
    assert!(wrong.is_empty(), "{context}: {wrong:#?}");
    place.check_clean(context);
}

fn set_up_crash(harness: &Harness, point: &str) -> Place {
    let root = harness.path(point);
    std::fs::create_dir_all(&root).expect("a folder");
    let mut tar = std::process::Command::new("tar");
    let archive = fixtures().join(format!("crash/{point}.state.tar.gz"));
    assert!(tar.arg("-xzf").arg(archive).arg("-C").arg(&root).status().expect("tar").success());
    let mark = root.join("data/data.db.v1-v2-migration.json");
    let text = std::fs::read_to_string(&mark).expect("a mark");
    let text = text.replace("@ROOT@", root.to_str().expect("text"));
    std::fs::write(&mark, text).expect("written");
    Place { data: root.join("data"), auth: root.join("xdg/executor/auth.json") }
}

fn kill_at(point: &str, times: u32) -> bool {
    let harness = Harness::new();
    let scene = Scene::new(&harness);
    let armed = format!("{point}:{times}");
    let mut daemon = scene.daemon(&harness, Some(&armed));
    scene.run_job(&harness);
    let ring = scene.keychain.data.join("keyring.json");
    let died = !run_ok(&harness, &ring, &["ls".to_owned()]);
    if died {
        wait_for("the end of a killed daemon", || daemon.is_dead());
    }
    daemon.kill();
    let _daemon = scene.daemon(&harness, None);
    scene.check(&harness, &armed);
    died
}

#[test]
fn every_migration_kill_point_is_survived() {
    let points: Vec<&str> = POINTS.iter().copied().filter(|p| is_of_migrations(p)).collect();
    let mut missed: BTreeSet<&str> = points.iter().copied().collect();
    for point in &points {
        for times in 1..=2 {
            if kill_at(point, times) {
                missed.remove(point);
            }
        }
    }
    assert!(missed.is_empty(), "the job never gets to {missed:?}");
    eprintln!("{} kill points of migrations", points.len());
}

#[test]
fn random_migration_kills_are_survived() {
    let archive = fixtures().join("large-v1.tar.xz");
    let source = tempfile::tempdir().expect("a folder");
    let mut tar = std::process::Command::new("tar");
    let unpacked = tar.arg("-xJf").arg(archive).arg("-C").arg(source.path()).status();
    assert!(unpacked.expect("tar").success(), "xz is needed for this test");
    let v1 = find(source.path(), "data.db").expect("a database");
    let mut random = u64::from(std::process::id()) | 1;
    let mut killed = 0;
    for round in 0..8 {
        let harness = Harness::new();
        let data = harness.path("large");
        std::fs::create_dir_all(&data).expect("a folder");
        std::fs::copy(&v1, data.join("data.db")).expect("copied");
        let place = Place { auth: harness.path("large-secrets/auth.json"), data };
        let mut daemon = Daemon::start(&harness);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let after = Duration::from_millis(20 + random % 2_000);
        let args = migrate(&place, "bigws-0badcafe");
        let done = std::thread::scope(|scope| {
            let client = scope.spawn(|| run_ok(&harness, Path::new(""), &args));
            sleep(after);
            daemon.kill();
            client.join().expect("joined")
        });
        killed += u32::from(!done);
        let _daemon = Daemon::start(&harness);
        let (code, out) = gk(&harness, &args);
        assert_eq!(code, 0, "round {round} after {after:?}: {out:#}");
        let db = rusqlite::Connection::open(place.database()).expect("opened");
        let count = |table: &str| -> i64 {
            let query = format!("SELECT count(*) FROM {table}");
            db.query_row(&query, [], |row| row.get(0)).expect("counted")
        };
        assert_eq!((count("tool"), count("definition")), (20_000, 5_000), "round {round}");
        place.check_clean(&format!("round {round} after {after:?}"));
    }
    eprintln!("{killed} of 8 kills fell into the migration");
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
    let here = entries.iter().find(|p| p.file_name().is_some_and(|n| n == name)).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir()).find_map(|p| find(p, name)))
}
