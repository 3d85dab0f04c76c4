//! Wire types of the removal of what migrations keep.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::{Fault, Time};
use crate::format::rfc3339;
use crate::migrate::prune::{PruneReport, PruneRequest, Pruned};
use crate::migrate::request::MigrationRequest;
use groundskeeper_system::paths;

/// A request to remove what migrations keep and is not needed any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewPrune {
    /// Only what belongs to this database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What is younger is kept, in seconds.
    pub older_than_seconds: u64,
    /// Remove what can be removed; otherwise it is only listed.
    #[serde(default)]
    pub apply: bool,
}

impl NewPrune {
    /// Returns the request with the real path of the database, which itself may not exist.
    ///
    /// # Errors
    /// If the directory of the database does not exist.
    pub(crate) fn request(&self) -> Result<PruneRequest, Fault> {
        let real = |database: &String| {
            let database = PathBuf::from(database);
            MigrationRequest { database, ..MigrationRequest::default() }.database()
        };
        let database = self.database.as_ref().map(real).transpose()?;
        let older_than = Duration::from_secs(self.older_than_seconds);
        Ok(PruneRequest { database, older_than, apply: self.apply })
    }
}

/// What migrations keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct PruneView {
    /// What was found, by database and time.
    pub items: Vec<PrunedView>,
    /// How many can be removed.
    pub removable: u64,
    /// How many were removed.
    pub removed: u64,
    /// Bytes of those that can be removed, or were.
    pub bytes: u64,
    /// Whether they were to be removed.
    pub applied: bool,
}

/// One thing that is kept, with all its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct PrunedView {
    /// `backup`: an old database. `undone`: what an undo put aside. `secrets`: kept for an undo.
    pub kind: String,
    /// Its first file, or the directory of the secrets.
    pub path: String,
    /// The database that it belongs to.
    pub database: String,
    /// The migration that made it.
    pub migration: String,
    /// Bytes in all its files.
    pub bytes: u64,
    /// Since when it is kept, RFC 3339.
    pub since: String,
    /// How long that is.
    pub age_seconds: u64,
    /// Why it stays; none when it can be removed.
    pub kept: Option<String>,
    /// Whether it was removed.
    pub removed: bool,
}

impl PruneView {
    pub(crate) fn of(wanted: &NewPrune, report: &PruneReport) -> Self {
        let items: Vec<PrunedView> = report.items.iter().map(PrunedView::of).collect();
        let removable = || items.iter().filter(|item| item.kept.is_none());
        Self {
            removable: removable().count() as u64,
            removed: items.iter().filter(|item| item.removed).count() as u64,
            bytes: removable().fold(0, |sum, item| item.bytes.saturating_add(sum)),
            applied: wanted.apply,
            items,
        }
    }
}

impl PrunedView {
    fn of(item: &Pruned) -> Self {
        Self {
            kind: item.kind.as_str().to_owned(),
            path: paths::to_host(&item.path).to_string(),
            database: item.database.to_string(),
            migration: item.migration.to_string(),
            bytes: item.bytes,
            since: rfc3339(Time(item.since_ms.saturating_mul(1_000_000))),
            age_seconds: item.age.as_secs(),
            kept: item.kept.clone(),
            removed: item.removed,
        }
    }
}
