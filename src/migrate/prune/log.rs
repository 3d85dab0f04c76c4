//! The logs that migrations are recorded in: one of a data directory, and those beside databases.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::request::PruneRequest;
use crate::access;
use crate::place::{Place, lock};
use groundskeeper_core::{Code, Fault, HostPath, Migration};
use groundskeeper_journal::inspect::{Depth, inspect};
use groundskeeper_system::paths;

/// Migrations of one log, and the directory for what an undo of them needs.
#[derive(Debug, Default)]
pub struct Log {
    /// That directory.
    pub home: PathBuf,
    /// All migrations that the log remembers.
    pub migrations: Vec<Migration>,
    /// Databases with a log beside them that another process has, so that nothing is known of it.
    pub(super) busy: Vec<HostPath>,
    /// Keeps other processes from the log.
    pub(super) _lock: Option<File>,
}

impl Log {
    /// Returns a log from its migrations. The caller keeps other processes from it.
    #[must_use]
    pub fn new(home: PathBuf, migrations: Vec<Migration>) -> Self {
        Self { home, migrations, ..Self::default() }
    }
}

/// Returns the logs beside the databases that another log names, and beside the requested one.
pub(super) fn beside(own: &Log, request: &PruneRequest) -> Result<Vec<Log>, Fault> {
    let named = own.migrations.iter().map(|m| &m.plan.database).chain(&request.database);
    let is_wanted = |host: &&HostPath| request.database.as_ref().is_none_or(|only| only == *host);
    let mut named: Vec<&HostPath> = named.filter(is_wanted).collect();
    named.sort();
    named.dedup();
    let mut logs = Vec::new();
    for host in named {
        let place = Place::beside(paths::borrowed(host));
        if place.home == own.home || !place.log.exists() {
            continue;
        }
        access::check_own_log(&place.log)?;
        logs.push(match lock(&place.lock) {
            Ok(lock) => {
                let log = Log::new(place.home, read(&place.log)?);
                Log { _lock: Some(lock), ..log }
            }
            Err(fault) if fault.code == Code::AlreadyRunning => {
                Log { busy: vec![host.clone()], ..Log::default() }
            }
            Err(fault) => return Err(fault),
        });
    }
    Ok(logs)
}

/// Returns the migrations in a log, which is only read.
pub(super) fn read(log: &Path) -> Result<Vec<Migration>, Fault> {
    let found = inspect(log, Depth::FromSnapshot, &mut |_, _| {}).map_err(|e| e.to_fault())?;
    Ok(found.state.migrations().cloned().collect())
}
