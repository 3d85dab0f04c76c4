//! Wire types of migrations.

use serde::{Deserialize, Serialize};

use crate::core::event::MigrationPlan;
use crate::core::{Migration, MigrationPhase};
use crate::format::rfc3339;
use crate::migrate::Progress;
use crate::migrate::file_names::undone;
use crate::migrate::files::with_suffix;
use crate::service::types::problem::Problem;
use groundskeeper_system::paths;
use std::collections::BTreeMap;

/// A request for a migration. Paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewMigration {
    /// The database.
    pub database: String,
    /// Name of a recipe, or path of a folder of SQL files.
    pub recipe: String,
    /// The file with its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// Who owns rows where the old database does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What happens to rows that cannot both be kept: `refuse`, `keep-first` or `rename`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<String>,
    /// Build and verify everything, and drop it.
    #[serde(default)]
    pub dry_run: bool,
}

/// A table before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TableView {
    /// Its name.
    pub table: String,
    /// Rows in the old database; none when it had no such table.
    pub before: Option<u64>,
    /// Rows in the new one; none when it has no such table.
    pub after: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ProgressView {
    /// In a word.
    pub what: String,
    /// How much of it.
    pub done: u64,
    /// Of how much, as the old database has it; 0 when that is not known.
    pub of: u64,
    /// Of what: `bytes` of a copy, `rows` of a table.
    #[serde(default)]
    pub unit: String,
}

impl ProgressView {
    pub(crate) fn of(progress: Progress) -> Self {
        let Progress { what, done, of, unit } = progress;
        Self { what, done, of, unit: unit.to_owned() }
    }
}

/// A migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct MigrationView {
    /// Its name; empty when there was nothing to do.
    pub id: String,
    /// `current` (nothing to do), `started`, ..., `finished`, `failed`, `rehearsed`, `undone`.
    pub phase: String,
    /// Whether it installed a new database.
    pub migrated: bool,
    /// The database.
    pub database: String,
    /// The recipe.
    pub recipe: String,
    /// Whether it changes nothing.
    pub dry_run: bool,
    /// Where the old database is, once the new one is installed.
    pub backup: Option<String>,
    /// What an undo put aside and is still there: the new database, and its secrets if they were
    /// changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The recipe's numbers.
    #[cfg_attr(test, schema(value_type = Object))]
    pub report: serde_json::Value,
    /// Rows by table.
    pub tables: Vec<TableView>,
    /// How far an interrupted migration had come that was settled first; empty for none.
    pub taken_over: String,
    /// What could not be removed.
    pub leftovers: Vec<String>,
    /// Why it failed, or why the last attempt did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Problem>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<ProgressView>,
    /// When it was asked for.
    pub created_at: String,
    /// Whether it is over.
    pub over: bool,
    /// The last record about it.
    pub seq: u64,
}

impl MigrationView {
    pub(crate) fn of(m: &Migration, progress: Option<Progress>) -> Self {
        let staging = m.staging.as_ref();
        let report = staging.and_then(|s| serde_json::from_str(&s.report).ok());
        Self {
            id: m.id.to_string(),
            phase: m.phase.as_str().to_owned(),
            migrated: m.has_migrated(),
            database: m.plan.database.to_string(),
            recipe: name_of(&m.plan),
            dry_run: m.plan.dry_run,
            backup: m.backup.as_ref().map(ToString::to_string),
            kept: kept(m),
            warnings: m.warnings(),
            report: report.unwrap_or_else(|| serde_json::json!({})),
            tables: tables(m),
            taken_over: m.found.taken_over.clone().unwrap_or_default(),
            leftovers: m.leftovers.clone(),
            error: m.fault.as_ref().map(Problem::of),
            progress: progress.map(ProgressView::of),
            created_at: rfc3339(m.created_at),
            over: m.is_over(),
            seq: m.seq.0,
        }
    }

    pub(crate) fn current(plan: &MigrationPlan) -> Self {
        Self {
            phase: "current".to_owned(),
            database: plan.database.to_string(),
            recipe: name_of(plan),
            dry_run: plan.dry_run,
            report: serde_json::json!({}),
            over: true,
            ..Self::default()
        }
    }
}

/// Returns the files that an undo put aside, as far as they are still there.
fn kept(m: &Migration) -> Vec<String> {
    if m.phase != MigrationPhase::Undone {
        return Vec::new();
    }
    let originals = [Some(&m.plan.database), m.plan.secrets.as_ref()].into_iter().flatten();
    let aside = originals.map(|path| with_suffix(paths::borrowed(path), &undone(m)));
    aside.filter(|path| path.exists()).map(|path| paths::to_host(&path).to_string()).collect()
}

fn name_of(plan: &MigrationPlan) -> String {
    let folder = plan.folder.as_ref().map(ToString::to_string);
    plan.recipe.clone().or(folder).unwrap_or_default()
}

fn tables(m: &Migration) -> Vec<TableView> {
    let mut all: BTreeMap<&str, TableView> = BTreeMap::new();
    for (table, rows) in m.copy.iter().flat_map(|copy| &copy.rows) {
        all.entry(table).or_default().before = Some(*rows);
    }
    for (table, rows) in m.staging.iter().flat_map(|staging| &staging.rows) {
        all.entry(table).or_default().after = Some(*rows);
    }
    let named = all.into_iter();
    named.map(|(table, view)| TableView { table: table.to_owned(), ..view }).collect()
}
