//! A minimal engine that drives the recipe over a database, and compares the result with records.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::super::js::{self, Value};
use super::super::recipe::Executor;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::keychain::{FileKeychain, NoKeychain};
use groundskeeper_migrate::recipe::Recipe as _;
use groundskeeper_migrate::recipe::{Built, Keychain, Network, OnConflict, Secrets, Work};

/// Time of every migration in these tests, in milliseconds.
pub(super) const NOW_MS: i64 = 1_790_000_000_123;

/// A network that never answers, and records the requests.
#[derive(Default)]
pub(super) struct Offline(pub(super) RefCell<Vec<String>>);

impl Network for Offline {
    fn get(&self, url: &str, _limit: Duration) -> Option<Vec<u8>> {
        self.0.borrow_mut().push(url.to_owned());
        None
    }
}

/// The result of a migration.
pub(super) struct Done {
    /// Directory of both databases; it is deleted with this value.
    _dir: tempfile::TempDir,
    pub(super) copy: Connection,
    pub(super) staging: Connection,
    pub(super) replayed: Vec<String>,
    pub(super) built: Built,
    pub(super) secrets: Secrets,
    pub(super) asked: Vec<String>,
    /// Duration of each step.
    pub(super) took: Vec<Lap>,
}

impl Done {
    /// Returns all warnings, in order.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.replayed.iter().chain(&self.built.warnings).cloned().collect()
    }

    /// Returns the rows of a table of the new database.
    pub(super) fn dump(&self, table: &str) -> Vec<Value> {
        dump(&self.staging, table)
    }

    /// Returns one column of a table as text, in the order of the rows.
    pub(super) fn column(&self, table: &str, column: &str) -> Vec<String> {
        let rows = self.dump(table);
        let cell = |row: &Value| row.get(column).map_or_else(String::new, js::compact);
        rows.iter().map(|row| cell(row).trim_matches('"').to_owned()).collect()
    }
}

/// Inputs of a migration besides the database.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) tenant: &'a str,
    pub(super) auth: Option<PathBuf>,
    pub(super) keyring: Option<PathBuf>,
    pub(super) conflicts: OnConflict,
    pub(super) network: Option<&'a dyn Network>,
}

/// Returns the directory of the recorded databases.
pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../tests/fixtures/executor")
}

/// Returns a recorded file as JSON; none when there is no such file.
pub(super) fn json(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(crate::js::parse(&text).expect("a recorded file is JSON").value)
}

/// Migrates a copy of a database, with the same calls in the same order as the engine.
pub(super) fn migrate(v1: &Connection, given: &Given<'_>) -> Result<Done, Fault> {
    migrate_with(v1, given, &|_, _| {})
}

/// Migrates like [`migrate`], and reports progress.
pub(super) fn migrate_with(
    v1: &Connection,
    given: &Given<'_>,
    progress: &dyn Fn(&str, u64),
) -> Result<Done, Fault> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut copy = Connection::open(dir.path().join("source.db")).expect("a copy");
    rusqlite::backup::Backup::new(v1, &mut copy)
        .and_then(|backup| backup.run_to_completion(1_000, Duration::ZERO, None))
        .expect("a copy");
    let mut staging = Connection::open(dir.path().join("building.db")).expect("a staging database");
    staging.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;").expect("set up");
    // These files do not outlive the test. A damaged copy refuses even this, which does not matter.
    for db in [&copy, &staging] {
        drop(db.execute_batch("PRAGMA synchronous = OFF"));
    }
    let keychain: Box<dyn Keychain> = match &given.keyring {
        Some(path) => Box::new(FileKeychain::new(path)),
        None => Box::new(NoKeychain),
    };
    let offline = Offline::default();
    let work = Work {
        tenant: given.tenant,
        conflicts: given.conflicts,
        secrets: given.auth.as_deref(),
        now_ms: NOW_MS,
        network: given.network.unwrap_or(&offline),
        keychain: &*keychain,
        progress,
        cancelled: &|| false,
    };
    let mut clock = Clock::default();
    let replayed = Executor.normalise(&copy, &work)?;
    clock.lap("normalise");
    let built = Executor.build(&copy, &mut staging, &work)?;
    clock.lap("build");
    let secrets = Executor.secrets(&copy, &work)?;
    clock.lap("secrets");
    for (service, account, value) in &secrets.keychain {
        keychain.set(service, account, value)?;
    }
    Executor.stamp(&staging, &work)?;
    clock.lap("stamp");
    Executor.verify(&staging)?;
    clock.lap("verify");
    let asked = offline.0.take();
    Ok(Done { _dir: dir, copy, staging, replayed, built, secrets, asked, took: clock.laps })
}

/// A step, its wall time, and its processor time.
pub(super) type Lap = (&'static str, Duration, Duration);

/// Measures the time of steps.
struct Clock {
    since: (std::time::Instant, Duration),
    laps: Vec<Lap>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { since: (std::time::Instant::now(), processor()), laps: Vec::new() }
    }
}

impl Clock {
    fn lap(&mut self, what: &'static str) {
        let (begun, used) = self.since;
        self.laps.push((what, begun.elapsed(), processor().saturating_sub(used)));
        self.since = (std::time::Instant::now(), processor());
    }
}

/// Returns the processor time of this process, where the system reports it.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = fields.get(11..13).unwrap_or_default().iter().filter_map(|n| n.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Returns the whole result as text: rows, secrets, warnings.
pub(super) fn result(done: &Done) -> String {
    let tables = [
        "integration",
        "oauth_client",
        "connection",
        "tool",
        "definition",
        "plugin_storage",
        "blob",
        "tool_policy",
    ];
    let rows = tables.iter().flat_map(|table| dump(&done.staging, table));
    let mut text: String = rows.map(|row| js::compact(&row)).collect();
    text.push_str(&done.warnings().join("\n"));
    text.push_str(&String::from_utf8_lossy(done.secrets.file.as_deref().unwrap_or_default()));
    for (_, account, _) in &done.secrets.keychain {
        text.push_str(account);
    }
    text
}

/// Runs the small steps of a start, and returns the names of those that were done.
pub(super) fn boot(db: &Connection) -> Result<Vec<String>, Fault> {
    let offline = Offline::default();
    let work = Work {
        tenant: "",
        conflicts: OnConflict::Refuse,
        secrets: None,
        now_ms: NOW_MS,
        network: &offline,
        keychain: &NoKeychain,
        progress: &|_, _| {},
        cancelled: &|| false,
    };
    Executor.ready(db, &work)
}

/// A recorded run of the original: its database before, its result after.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) result: Value,
}

impl Case {
    /// Returns all cases, sorted by name.
    pub(super) fn all() -> Vec<Self> {
        let folder = std::fs::read_dir(fixtures().join("cases")).expect("recorded cases");
        let mut dirs: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
        dirs.sort();
        dirs.into_iter().map(Self::at).collect()
    }

    /// Returns the case whose name starts so.
    pub(super) fn named(name: &str) -> Self {
        let found = Self::all().into_iter().find(|case| case.name.starts_with(name));
        found.expect("a recorded case")
    }

    fn at(dir: PathBuf) -> Self {
        let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
        let result = json(&dir.join("result.json")).expect("a result");
        Self { name, dir, result }
    }

    /// Returns a recorded file of the case as JSON.
    pub(super) fn json(&self, name: &str) -> Option<Value> {
        json(&self.dir.join(name))
    }

    /// Returns the bytes of a recorded file of the case.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.join(name)).ok()
    }

    /// Returns the case's database in memory, so that the recorded file never changes.
    pub(super) fn database(&self) -> Connection {
        in_memory(&self.dir.join("v1/data.db"))
    }

    /// Migrates the case; secrets file and keychain are copies.
    pub(super) fn migrate(
        &self,
        conflicts: OnConflict,
    ) -> (tempfile::TempDir, Result<Done, Fault>) {
        let dir = tempfile::tempdir().expect("a directory");
        let taken = |name: &str| {
            let to = dir.path().join(name);
            std::fs::copy(self.dir.join("v1").join(name), &to).is_ok().then_some(to)
        };
        let tenant = self.result.text("tenant").expect("a tenant").lossy().into_owned();
        let given = Given {
            tenant: &tenant,
            auth: taken("auth.json"),
            keyring: taken("keyring.json"),
            conflicts,
            network: None,
        };
        let done = migrate(&self.database(), &given);
        (dir, done)
    }
}

/// Reads a database file into memory. It is opened as immutable, so that no log appears beside it.
pub(super) fn in_memory(path: &Path) -> Connection {
    let mut memory = Connection::open_in_memory().expect("memory");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", path.display());
    let file = Connection::open_with_flags(uri, flags).expect("a recorded database");
    rusqlite::backup::Backup::new(&file, &mut memory)
        .and_then(|backup| backup.run_to_completion(1_000, Duration::ZERO, None))
        .expect("a copy in memory");
    memory
}

/// Returns the rows of a table in the form of the records.
pub(super) fn dump(db: &Connection, table: &str) -> Vec<Value> {
    let mut query =
        db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY rowid")).expect("a table");
    let names: Vec<String> = query.column_names().map(str::to_owned).collect();
    let mut rows = query.query([]).expect("rows");
    let mut all = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let cell = |(at, name): (usize, &String)| {
            (name.as_str().into(), value(row.get_ref(at).expect("a cell")))
        };
        all.push(Value::object(names.iter().enumerate().map(cell).collect()));
    }
    all
}

fn value(cell: ValueRef<'_>) -> Value {
    let tagged =
        |name: &str, text: String| Value::object(vec![(name.into(), text.as_str().into())]);
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Number(js::from_whole(n)),
        ValueRef::Real(n) => tagged("$real", python(n)),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).expect("UTF-8").into(),
        ValueRef::Blob(bytes) => tagged("$blob", format!("{bytes:02x?}")),
    }
}

/// Formats a number as the records have it, which Python wrote.
fn python(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e16 { format!("{n:.1}") } else { js::print_number(n) }
}

/// Returns the differences between recorded rows and those of a database.
pub(super) fn differences(expected: &Value, db: &Connection) -> Vec<String> {
    let mut all = Vec::new();
    for (table, recorded) in expected.as_object().expect("tables").members() {
        let table = table.lossy();
        let rows = dump(db, &table);
        let recorded = recorded.get("rows").and_then(Value::as_array).expect("rows");
        if rows.len() != recorded.len() {
            all.push(format!("{table}: {} rows, not {}", rows.len(), recorded.len()));
        }
        for (at, (is, was)) in rows.iter().zip(recorded).enumerate() {
            let (is, was) = (is.as_object().expect("a row"), was.as_object().expect("a row"));
            let names =
                |o: &[(js::Text, Value)]| o.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
            if names(is.members()) != names(was.members()) {
                all.push(format!("{table}[{at}]: other columns"));
                continue;
            }
            for ((name, is), (_, was)) in is.members().iter().zip(was.members()) {
                if !same(is, was) {
                    let (name, is, was) = (name.lossy(), js::compact(is), js::compact(was));
                    all.push(format!("{table}[{at}].{name}: {is}, not {was}"));
                }
            }
        }
    }
    all
}

fn same(is: &Value, was: &Value) -> bool {
    match was.as_text().and_then(js::Text::as_str) {
        Some("<NOW>") => matches!(is, Value::Number(_)),
        Some("<NOW+3600000>") => {
            is.as_text().is_some_and(|t| t.as_bytes().iter().all(u8::is_ascii_digit))
        }
        Some("<ROWID>") => is.as_text().is_some_and(|t| !t.is_empty()),
        _ => {
            std::mem::discriminant(is) == std::mem::discriminant(was)
                && js::compact(is) == js::compact(was)
        }
    }
}
