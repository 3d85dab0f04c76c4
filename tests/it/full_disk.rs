//! Migrations on a disk that becomes full at any moment: within SQLite's writes and the program's
//! own.
//!
//! The disk is a small tmpfs that one process tree sees. The new database is many times as large as
//! the old one, so no check of the free space can know in advance that it does not suffice.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use groundskeeper::failpoint::kill::POINTS;
use rusqlite::Connection;
use serde_json::Value;

use crate::kill::is_of_migrations;
use crate::migrate::{Place, TENANT, migrate, set_up_case};
use crate::recorded_rows::{differences, fixtures, recorded};
use crate::support::Harness;

/// Longest time of three runs, the second of which finds no space.
const ANSWERED: Duration = Duration::from_secs(40);
/// A recorded case whose secrets change with the database.
const WITH_SECRETS: &str = "04-secret-providers";

/// Rows of the old database; the migration turns each into 40.
const ROWS: u32 = 2_500;
const KIB: u64 = 1_024;

/// Script that mounts the disk, copies the files to it, migrates, and copies the result out.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o "size=${SIZE}k" none "$DISK"
cp "$FROM"/* "$DISK"
set +e
if [ "$READ_ONLY" = yes ]; then mount -o remount,ro "$DISK"; fi
"$PROGRAM" --data-dir "$HOME_DIR" --json migrate --recipe "$RECIPE" "$DISK/notes.db" > "$OUT/answer"
echo $? > "$OUT/code"
"$PROGRAM" --data-dir "$HOME_DIR" --json stop > /dev/null
cp -a "$DISK/." "$OUT/disk"
"#;

struct Scene {
    harness: Harness,
    recipe: PathBuf,
    from: PathBuf,
}

/// Result of one migration.
struct Came {
    code: i32,
    answer: Value,
    disk: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let harness = Harness::new();
        let (recipe, from) = (harness.path("recipe"), harness.path("from"));
        let file = |name: &str, text: &str| harness.write(&recipe.join(name), text);
        file(
            "recognise.sql",
            "SELECT CASE user_version WHEN 0 THEN 'old' ELSE 'current' END FROM pragma_user_version",
        );
        file(
            "build.sql",
            "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
             INSERT INTO note SELECT NULL, a || i FROM old.notes, n;
             CREATE INDEX by_text ON note (text);",
        );
        file("stamp.sql", "PRAGMA user_version = 1");
        std::fs::create_dir_all(&from).expect("a folder");
        let db = Connection::open(from.join("notes.db")).expect("made");
        let fill = format!(
            "CREATE TABLE notes (a);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO notes SELECT hex(randomblob(100)) FROM n;"
        );
        db.execute_batch(&fill).expect("filled");
        drop(db);
        Self { harness, recipe, from }
    }

    fn old_database(&self) -> Vec<u8> {
        std::fs::read(self.from.join("notes.db")).expect("read")
    }

    fn migrate(&self, kib: u64, read_only: bool) -> Came {
        let name = |what: &str| self.harness.path(format!("{what}-{kib}-{read_only}"));
        let (disk, home, out) = (name("disk"), name("home"), name("out"));
        for dir in [&disk, &out] {
            std::fs::create_dir_all(dir).expect("a folder");
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", SCRIPT]);
        command.env("PROGRAM", env!("CARGO_BIN_EXE_groundskeeper")).env("SIZE", kib.to_string());
        command.env("READ_ONLY", if read_only { "yes" } else { "no" });
        let places = [("DISK", &disk), ("FROM", &self.from), ("HOME_DIR", &home), ("OUT", &out)];
        command.envs(places).env("RECIPE", &self.recipe);
        let ran = command.output().expect("unshare runs");
        let printed = String::from_utf8_lossy(&ran.stderr).into_owned();
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default();
        let code = read("code").trim().parse().unwrap_or_else(|_| panic!("{kib} KiB: {printed}"));
        let answer =
            serde_json::from_str(&read("answer")).unwrap_or_else(|e| panic!("{e}: {printed}"));
        Came { code, answer, disk: out.join("disk") }
    }

    /// Migrates and checks that exactly one whole database remains. Returns whether it succeeded.
    fn attempt(&self, kib: u64) -> bool {
        let came = self.migrate(kib, false);
        let context = format!("{kib} KiB: {:#}", came.answer);
        let database = came.disk.join("notes.db");
        if came.code == 0 {
            assert_eq!(count(&database, "note"), u64::from(ROWS) * 40, "{context}");
            return true;
        }
        assert_eq!(
            (came.code, &came.answer["error"]["code"]),
            (2, &Value::from("disk_full")),
            "{context}"
        );
        assert!(
            came.answer["error"]["hint"].as_str().is_some_and(|h| h.contains("space")),
            "{context}"
        );
        assert!(std::fs::read(&database).expect("read") == self.old_database(), "{context}");
        assert_eq!(names(&came.disk), ["notes.db"], "{context}");
        false
    }
}

fn count(database: &Path, table: &str) -> u64 {
    let db = Connection::open(database).expect("opened");
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    // SQLite may leave its `-shm` and `-wal` files; they are not part of the result.
    names.retain(|name| !name.ends_with("-shm") && !name.ends_with("-wal"));
    names.sort();
    names
}

/// Searches the smallest sufficient disk; each smaller size fails at another write.
#[test]
fn migration_on_full_disk_changes_nothing() {
    let scene = Scene::new();
    let old = scene.old_database().len() as u64 / KIB;
    // Searches the smallest disk that suffices: each smaller size fails at another write.
    let (mut low, mut high) = (old * 2, old * 300);
    assert!(scene.attempt(high), "{high} KiB are enough");
    let mut failed = 0;
    while high - low > 64 {
        let middle = u64::midpoint(low, high);
        if scene.attempt(middle) {
            high = middle;
        } else {
            (low, failed) = (middle, failed + 1);
        }
    }
    for less in [64, 72, 80, 96, 128, 200, 400, 800, 1_600, 3_200, 6_400, 12_800] {
        failed += u32::from(!scene.attempt(high - less));
    }
    eprintln!("{failed} attempts on a disk with less than {high} KiB");
    assert!(failed > 14, "the disk was never full");
}

#[test]
fn read_only_directory_is_reported() {
    let scene = Scene::new();
    let came = scene.migrate(64 * KIB, true);
    assert_eq!(came.code, 2, "{:#}", came.answer);
    assert_eq!(came.answer["error"]["code"], "io_error", "{:#}", came.answer);
    assert!(came.answer["error"].to_string().contains("read-only"), "{:#}", came.answer);
    let mode = came.disk.join("notes.db").metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o200, 0o200, "it is the directory that is read-only, not the file");
    assert!(std::fs::read(came.disk.join("notes.db")).expect("read") == scene.old_database());
}

/// Script that migrates on a disk of its own up to a kill, fills the disk, goes on, makes room
/// again and goes on once more. It copies the files out after each of the two.
const FILLED: &str = r#"
set -e
mount -t tmpfs -o size=48m none "$DISK"
cp -a "$FROM"/. "$DISK"
set +e
GROUNDSKEEPER_KILL_AT="$KILL_AT" "$@" > /dev/null 2>&1
echo $? > "$OUT/killed"
cat /dev/zero > "$DISK/filler" 2> /dev/null
"$@" > "$OUT/full.answer" 2> "$OUT/full.said"
echo $? > "$OUT/full.code"
rm "$DISK/filler"
cp -a "$DISK/." "$OUT/full"
"$@" > "$OUT/freed.answer" 2> "$OUT/freed.said"
echo $? > "$OUT/freed.code"
cp -a "$DISK/." "$OUT/freed"
"#;

/// Kills a migration at a point, fills its disk and goes on; returns where the files are then.
fn fill_after_kill(harness: &Harness, place: &Place, point: &str) -> PathBuf {
    let out = harness.path(format!("out-{point}"));
    let disk = harness.path(format!("disk-{point}"));
    for dir in [&out, &disk, &out.join("full"), &out.join("freed")] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    let on_disk = Place { data: disk.join("data"), auth: disk.join("xdg/auth.json") };
    let args = migrate(&on_disk, TENANT);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["--json", "--no-daemon"]);
    let migration = harness.command(&args);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", FILLED, "sh"]);
    command.arg(migration.get_program()).args(migration.get_args());
    for (name, value) in migration.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let from = place.data.parent().expect("a folder");
    command.env("KILL_AT", point).env("DISK", &disk).env("FROM", from).env("OUT", &out);
    let ran = command.output().expect("unshare runs");
    assert!(ran.status.success(), "{point}: {}", String::from_utf8_lossy(&ran.stderr));
    out
}

/// Checks that database and secrets are both of the old generation or both of the new one.
fn check_pair(at: &Path, place: &Place, context: &str) -> bool {
    let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|e| panic!("{context}: {e}"));
    let (database, secrets) = (at.join("data/data.db"), read(at.join("xdg/auth.json")));
    let is_old = read(database.clone()) == read(place.database());
    if is_old {
        assert!(secrets == read(place.auth.clone()), "{context}: new secrets, old database");
    } else {
        let case = fixtures().join("cases").join(WITH_SECRETS);
        let wrong = differences(&database, &recorded(&case.join("v2.json")));
        assert!(wrong.is_empty(), "{context}: {wrong:#?}");
        assert!(secrets != read(place.auth.clone()), "{context}: old secrets, new database");
    }
    !is_old
}

/// A roll-back needs no space: what its own copies hold goes first, and names are exchanged.
#[test]
fn full_disk_leaves_secrets_and_database_of_one_generation() {
    let points: Vec<&str> =
        POINTS.iter().copied().filter(|point| is_of_migrations(point)).collect();
    let (mut killed, mut refused) = (0, 0);
    for point in &points {
        let harness = Harness::new();
        let place = set_up_case(&harness, WITH_SECRETS, "one");
        let began = Instant::now();
        let out = fill_after_kill(&harness, &place, point);
        assert!(began.elapsed() < ANSWERED, "{point}: it took {:?}", began.elapsed());
        let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default();
        let said = format!("{point}: {}{}", text("full.answer"), text("full.said"));
        let migrated = check_pair(&out.join("full"), &place, &said);
        killed += u32::from(text("killed") != "0\n");
        // A migrated database cannot even be read as long as there is no space for the file in
        // shared memory that belongs to its log.
        let unread = migrated && said.contains("\"message\":\"cannot read ");
        assert_eq!(text("full.code") == "0\n", migrated && !unread, "{said}");
        assert!(text("full.code") == "0\n" || said.contains("\"disk_full\""), "{said}");
        refused += u32::from(!migrated);
        let said = format!("{point}: {}{}", text("freed.answer"), text("freed.said"));
        assert!(check_pair(&out.join("freed"), &place, &said), "{said}");
        let after = Place { data: out.join("freed/data"), auth: out.join("freed/xdg/auth.json") };
        after.check_clean(&said);
        harness.check_log();
    }
    eprintln!("{killed} kills, {refused} migrations refused on a full disk");
    assert!(killed > 10 && refused > 3, "{killed} kills, {refused} refused");
}
