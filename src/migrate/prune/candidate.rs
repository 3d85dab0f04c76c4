//! Files that are kept: their size and age, and whether they are proven to be ours.

use std::ffi::OsString;
use std::time::Duration;

use super::database::Database;
use super::names::SetName;
use super::request::{Kind, PruneRequest, Pruned};
use groundskeeper_core::{Fault, Time};
use groundskeeper_system::real_dir::RealDir;
use groundskeeper_system::{clock, paths};

/// One thing that is kept, and the files to remove, the first one first.
pub(super) struct Found {
    pub(super) item: Pruned,
    pub(super) dir: RealDir,
    pub(super) names: Vec<OsString>,
}

/// Files that are kept, before it is decided whether they stay.
pub(super) struct Candidate<'a> {
    pub(super) kind: Kind,
    pub(super) dir: RealDir,
    pub(super) names: Vec<OsString>,
    pub(super) set: &'a SetName,
    /// Since when it is what it is; `None` when only the files tell.
    pub(super) since: Option<Time>,
    /// Why it stays in any case.
    pub(super) kept: Option<String>,
}

/// Returns a candidate with its size and age, and the reason why it stays; `None` when its files
/// are gone.
pub(super) fn found(
    database: &Database<'_>,
    candidate: Candidate<'_>,
    request: &PruneRequest,
) -> Result<Option<Found>, Fault> {
    let Candidate { kind, dir, names, set, since, mut kept } = candidate;
    let (mut bytes, mut changed_ms, mut there) = (0_u64, 0, Vec::new());
    for name in names {
        let path = dir.path().join(&name);
        let Some(entry) = dir.entry(&name).map_err(paths::failed("inspect", &path))? else {
            continue;
        };
        bytes = bytes.saturating_add(entry.bytes);
        changed_ms = changed_ms.max(entry.changed_ms);
        kept = kept.or_else(|| database.foreign(&name, &entry));
        there.push(name);
    }
    let Some(first) = there.first() else { return Ok(None) };
    let path = if kind == Kind::Secrets { dir.path().to_owned() } else { dir.path().join(first) };
    // What was written to later is younger than its name says.
    let since_ms = since.map_or(set.at_ms, |time| time.0 / 1_000_000).max(changed_ms);
    let now = clock::now().0 / 1_000_000;
    let age = Duration::from_millis(now.saturating_sub(since_ms));
    // What stops everything is said first; the age last, since time alone changes it.
    let kept = database.busy.clone().or(kept).or_else(|| {
        (age < request.older_than).then(|| "it is younger than --older-than".to_owned())
    });
    let (host, migration) = (database.host.clone(), set.migration.clone());
    let item = Pruned {
        kind,
        path,
        database: host,
        migration,
        bytes,
        since_ms,
        age,
        kept,
        removed: false,
    };
    Ok(Some(Found { item, dir, names: there }))
}
