//! Databases that are carried to their next generation while the daemon dies: recorded ones of an
//! application, with secrets and with what that application left when it was killed itself, and
//! one of our own with a recipe of SQL files. Each must end whole, in one generation.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::check::Findings;
use crate::child;
use crate::client::Stage;
use crate::ground::{Ground, make_dir, write};
use crate::rows;
use crate::trouble::{Trouble, failed};

const TENANT: &str = "workspace-1a2b3c4d";
const ROWS: u64 = 4_000;

const RECIPE: [(&str, &str); 6] = [
    (
        "recognise",
        "SELECT CASE WHEN (SELECT count(*) FROM sqlite_master WHERE name = 'item') = 0 THEN \
         'foreign' WHEN (SELECT count(*) FROM sqlite_master WHERE name = 'stamp') = 1 THEN \
         'current' ELSE 'old' END",
    ),
    ("normalise", "UPDATE item SET name = name || '!'"),
    (
        "build",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, more TEXT NOT NULL);\
         INSERT INTO item SELECT id, upper(name), 'more' FROM old.item ORDER BY id",
    ),
    ("stamp", "CREATE TABLE IF NOT EXISTS stamp (done INTEGER)"),
    ("verify", "SELECT 'no name in row ' || id FROM item WHERE name = ''"),
    ("ready", "CREATE INDEX IF NOT EXISTS item_name ON item (name)"),
];

/// A recorded database and where its secrets are.
struct Recorded {
    database: PathBuf,
    auth: PathBuf,
    /// Its rows in the new generation; none when it cannot be carried over.
    wanted: Option<Value>,
}

/// All databases of one life.
pub(crate) struct Databases {
    recipe: PathBuf,
    own: PathBuf,
    recorded: Vec<Recorded>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/executor")
}

impl Databases {
    pub(crate) fn lay_out(ground: &Ground, number: u64) -> Result<Self, Trouble> {
        let place = ground.path(format!("databases/{number}"));
        let recipe = place.join("recipe");
        for (name, script) in RECIPE {
            write(&recipe.join(format!("{name}.sql")), script)?;
        }
        let own = place.join("own/data.db");
        make_dir(&place.join("own"))?;
        fill(&own)?;
        let mut recorded = Vec::new();
        // Without a checkout beside it there are no recorded ones; what is our own is there.
        if fixtures().is_dir() {
            recorded.push(case(&place, "90-fail-two-folders", false)?);
            for state in ["built", "staging-built"] {
                recorded.push(crashed(&place, state)?);
            }
            let ring = fixtures().join("cases/25-keychain-fake/v1/keyring.json");
            let to = ground.path("keyring.json");
            std::fs::copy(&ring, &to).map_err(failed("copy", &ring))?;
            recorded.push(case(&place, "25-keychain-fake", true)?);
            recorded.push(case(&place, "01-openapi-file-basic", true)?);
        }
        Ok(Self { recipe, own, recorded })
    }

    /// Carries all of them over, one of them back again; any call may find the daemon dead.
    pub(crate) fn migrate(&self, stage: &Stage<'_>) -> Result<(), Trouble> {
        let (recipe, own) = (text(&self.recipe), text(&self.own));
        for recorded in &self.recorded {
            if stage.is_over() {
                return Ok(());
            }
            stage.verb(&arguments(&text(&recorded.database), &text(&recorded.auth)))?;
        }
        if let Some(last) = self.recorded.last() {
            stage.verb(&["migrate", "undo", &text(&last.database)])?;
        }
        if !stage.is_over() {
            stage.verb(&["migrate", "--recipe", &recipe, &own])?;
            stage.verb(&["migrate", "undo", &own])?;
        }
        Ok(())
    }

    /// Breaks the promise, for the control of the check.
    pub(crate) fn lose_a_row(&self) -> Result<(), Trouble> {
        let lost = Connection::open(&self.own)
            .and_then(|database| database.execute("DELETE FROM item WHERE id = 7", []));
        lost.map(drop).map_err(failed("change", &self.own))
    }

    /// With a daemon that nobody disturbs each ends as if nothing had happened.
    pub(crate) fn check(
        &self,
        ground: &Ground,
        findings: &mut Findings<'_>,
    ) -> Result<(), Trouble> {
        let over = crate::time::until(crate::check::REST_LIMIT, || {
            let all = ground.gk(&["migrate", "status"]).map(|done| done.json());
            all.is_ok_and(|all| {
                all.as_array().is_some_and(|all| all.iter().all(|m| m["over"] == true))
            })
        });
        findings.unless(over, || "a migration does not come to its end".to_owned());
        own_is_whole(&self.own, None, findings);
        let (recipe, own) = (text(&self.recipe), text(&self.own));
        let done = ground.gk(&["migrate", "--recipe", &recipe, &own])?;
        findings.unless(done.ok(), || format!("{own}: {} {}", done.out.trim(), done.err.trim()));
        own_is_whole(&self.own, Some(true), findings);
        nothing_left(&self.own, findings);
        self.recorded.iter().try_for_each(|recorded| recorded.check(ground, findings))
    }
}

impl Recorded {
    fn check(&self, ground: &Ground, findings: &mut Findings<'_>) -> Result<(), Trouble> {
        let (database, auth) = (text(&self.database), text(&self.auth));
        let done = ground.gk(&arguments(&database, &auth))?;
        let printed = done.json();
        match &self.wanted {
            Some(wanted) => {
                findings.unless(done.ok(), || format!("{database}: {printed}"));
                for what in rows::differences(&self.database, wanted) {
                    findings.add(format!("{database}: {what}"));
                }
            }
            None => findings.unless(printed["error"]["code"] == "migration_conflict", || {
                format!("{database} cannot be carried over, and the answer was {printed}")
            }),
        }
        nothing_left(&self.database, findings);
        Ok(())
    }
}

fn arguments<'a>(database: &'a str, auth: &'a str) -> [&'a str; 8] {
    ["migrate", "--recipe", "executor", "--tenant", TENANT, "--auth", auth, database]
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn fill(path: &Path) -> Result<(), Trouble> {
    let sql = format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO item SELECT value, 'n' || value FROM
            (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c
             WHERE value < {ROWS}) SELECT value FROM c);"
    );
    let filled = Connection::open(path).and_then(|database| database.execute_batch(&sql));
    filled.map_err(failed("fill", path))
}

/// Every row is there, in the old shape or the new one, and not in both.
fn own_is_whole(path: &Path, wanted: Option<bool>, findings: &mut Findings<'_>) {
    let ask = || -> rusqlite::Result<(u64, u64, u64, String)> {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let whole = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let names = "SELECT count(*), coalesce(sum(name = 'n' || id), 0), \
                     coalesce(sum(name = 'N' || id || '!'), 0) FROM item";
        let (rows, old, new) =
            database.query_row(names, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok((rows, old, new, whole))
    };
    match ask() {
        Ok((ROWS, ROWS, 0, whole)) if whole == "ok" && wanted != Some(true) => {}
        Ok((ROWS, 0, ROWS, whole)) if whole == "ok" => {}
        other => findings.add(format!("{} is {other:?}, of {ROWS} rows", path.display())),
    }
}

/// Beside a database is its backup, and nothing else that a migration makes.
fn nothing_left(database: &Path, findings: &mut Findings<'_>) {
    let Some(folder) = database.parent() else { return };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let base = name.trim_end_matches("-wal").trim_end_matches("-shm");
        let known = ["data.db", "auth.json", "keyring.json"].contains(&base)
            || base.contains("owner-lock")
            || base.contains("v1-v2-1")
            || base.starts_with("data.db.")
                && base.split('.').any(|part| part.starts_with("undone-"))
            || is_backup(base);
        findings
            .unless(known, || format!("{} is left beside its database", entry.path().display()));
    }
}

/// `data.db.<label>-<milliseconds>-<name>`.
fn is_backup(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("data.db.") else { return false };
    rest.split('-').any(|part| part.len() == 13 && part.bytes().all(|b| b.is_ascii_digit()))
}

fn case(place: &Path, name: &str, carried: bool) -> Result<Recorded, Trouble> {
    let from = fixtures().join("cases").join(name);
    let (data, secrets) = (place.join(name).join("data"), place.join(name).join("xdg"));
    make_dir(&data)?;
    make_dir(&secrets)?;
    let entries = std::fs::read_dir(from.join("v1")).map_err(failed("read", &from))?;
    for entry in entries.flatten() {
        let file = entry.file_name();
        let to = if file == "auth.json" { &secrets } else { &data };
        std::fs::copy(entry.path(), to.join(&file)).map_err(failed("copy", &entry.path()))?;
    }
    let wanted = carried.then(|| rows::recorded(&from.join("v2.json"))).transpose()?;
    Ok(Recorded { database: data.join("data.db"), auth: secrets.join("auth.json"), wanted })
}

/// What the application itself left when it was killed.
fn crashed(place: &Path, state: &str) -> Result<Recorded, Trouble> {
    let root = place.join(state);
    make_dir(&root)?;
    let archive = fixtures().join(format!("crash/{state}.state.tar.gz"));
    let mut tar = Command::new("tar");
    let done = child::run(tar.arg("-xzf").arg(&archive).arg("-C").arg(&root))?;
    if !done.ok() {
        return Err(Trouble::new(format!("tar {}: {}", archive.display(), done.err.trim())));
    }
    let mark = root.join("data/data.db.v1-v2-migration.json");
    let printed = std::fs::read_to_string(&mark).map_err(failed("read", &mark))?;
    write(&mark, &printed.replace("@ROOT@", &text(&root)))?;
    let wanted = Some(rows::recorded(&fixtures().join("crash/uninterrupted.v2.json"))?);
    let auth = root.join("xdg/executor/auth.json");
    Ok(Recorded { database: root.join("data/data.db"), auth, wanted })
}
