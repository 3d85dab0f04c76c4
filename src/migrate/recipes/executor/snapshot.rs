//! Reads the part of the old database that the plan needs into memory: sources, secrets, bindings,
//! connections, policies and data from configurations. The big tables are never held in memory.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection as Database;

use super::cells::Cells;
use super::config::{self, Auth, Slot};
use super::js::{Text, Value};
use super::losses::{Cause, Losses};
use super::tables::{self, Table};
use super::{fail, oauth};
use groundskeeper_migrate::Fault;

/// A row of the table `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) plugin: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// A row of the table `secret`, which never has the secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) provider: String,
}

/// A row of the table `credential_binding`: the credential for one slot of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) scope: String,
    pub(crate) source_scope: Option<String>,
    pub(crate) source: String,
    pub(crate) slot: String,
    pub(crate) kind: String,
    pub(crate) secret: Option<String>,
    pub(crate) secret_scope: Option<String>,
    pub(crate) connection: Option<String>,
    pub(crate) text: Option<String>,
}

/// A connection of the old generation with its state parsed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) label: Option<String>,
    pub(crate) access: Option<String>,
    pub(crate) refresh: Option<String>,
    pub(crate) expires: Option<f64>,
    pub(crate) state: oauth::State,
}

/// A row of the table `tool_policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) scope: String,
    pub(crate) id: String,
    pub(crate) pattern: String,
    pub(crate) action: String,
    pub(crate) position: String,
}

/// The part of a source's configuration that the plan needs.
#[derive(Debug, Clone)]
pub(crate) struct SourceConfig {
    /// Row id of the stored data, which is read again when the integration is written.
    pub(crate) row: i64,
    pub(crate) slots: BTreeMap<String, Slot>,
    pub(crate) auth: Auth,
    pub(crate) endpoint: Option<String>,
}

/// Name and annotations that an MCP server itself gives a tool.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) name: Text,
    pub(crate) annotations: Option<Value>,
}

/// The part of the old database that is held in memory.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) sources: Vec<Source>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) policies: Vec<Policy>,
    /// Configurations by [`key`] of scope and source.
    pub(crate) configs: BTreeMap<String, SourceConfig>,
    /// Ids of sources that tools name, whether such sources exist or not.
    pub(crate) tool_sources: BTreeSet<String>,
    /// Tools of MCP servers by scope and storage key, which is `<source>.<tool>`.
    pub(crate) upstreams: BTreeMap<(String, String), Upstream>,
}

/// Joins a scope and an id as the original does. With spaces in them the result is ambiguous.
pub(crate) fn key(scope: &str, id: &str) -> String {
    format!("{scope} {id}")
}

/// Returns the current name of a plugin.
pub(crate) fn plugin(name: &str) -> &str {
    if name == "graphql-greenfield" { "graphql" } else { name }
}

/// Reads the snapshot.
///
/// # Errors
/// `migration_failed` when a table is missing or a row cannot be read.
pub(crate) fn read(db: &Database, losses: &Losses) -> Result<Snapshot, Fault> {
    // The big tables are not read here, but a database without them should fail early.
    tables::STORAGE.require(db)?;
    tables::TOOL.require(db)?;
    let mut snapshot = Snapshot {
        sources: rows(db, &tables::SOURCE, losses, source)?,
        secrets: rows(db, &tables::SECRET, losses, secret)?,
        bindings: rows(db, &tables::BINDING, losses, binding)?,
        connections: rows(db, &tables::CONNECTION, losses, |cells| connection(cells, losses))?,
        policies: rows(db, &tables::POLICY, losses, policy)?,
        tool_sources: tool_sources(db)?,
        ..Snapshot::default()
    };
    configs(db, &mut snapshot, losses)?;
    upstreams(db, &mut snapshot)?;
    Ok(snapshot)
}

fn rows<T>(
    db: &Database,
    table: &'static Table,
    losses: &Losses,
    read: impl Fn(&Cells<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let sql = table.require(db)?;
    let mut all = Vec::new();
    each(db, &sql, table, losses, |cells| {
        all.push(read(cells)?);
        Ok(())
    })?;
    Ok(all)
}

/// Calls `with` for each row of a query.
pub(crate) fn each(
    db: &Database,
    sql: &str,
    table: &'static Table,
    losses: &Losses,
    mut with: impl FnMut(&Cells<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let failed = |error| fail::sqlite(&format!("read the table `{}`", table.name), &error);
    let mut query = db.prepare(sql).map_err(failed)?;
    let mut rows = query.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        with(&Cells::new(row, table, losses))?;
    }
    Ok(())
}

fn source(cells: &Cells<'_>) -> Result<Source, Fault> {
    let id = cells.owned("id")?;
    let kind = cells.owned("kind")?;
    let stored = cells.text("plugin_id")?;
    let plugin = if stored.is_empty() { &kind } else { plugin(&stored) };
    Ok(Source {
        scope: cells.owned("scope_id")?,
        name: cells.owned_nullable("name")?.unwrap_or_else(|| id.clone()),
        plugin: plugin.to_owned(),
        id,
        kind,
    })
}

fn secret(cells: &Cells<'_>) -> Result<Secret, Fault> {
    Ok(Secret {
        scope: cells.owned("scope_id")?,
        id: cells.owned("id")?,
        name: cells.owned("name")?,
        provider: cells.owned("provider")?,
    })
}

fn binding(cells: &Cells<'_>) -> Result<Binding, Fault> {
    Ok(Binding {
        scope: cells.owned("scope_id")?,
        source_scope: cells.owned_nullable("source_scope_id")?,
        source: cells.owned("source_id")?,
        slot: cells.owned("slot_key")?,
        kind: cells.owned("kind")?,
        secret: cells.owned_nullable("secret_id")?,
        secret_scope: cells.owned_nullable("secret_scope_id")?,
        connection: cells.owned_nullable("connection_id")?,
        text: cells.owned_nullable("text_value")?,
    })
}

fn connection(cells: &Cells<'_>, losses: &Losses) -> Result<Connection, Fault> {
    let state = cells.json("provider_state")?;
    let state = oauth::State::read(&state).map_err(|why| cells.fault("provider_state", why))?;
    if !state.lost.is_empty() {
        losses
            .note(Cause::StateMembers, || format!("{} ({})", cells.name(), state.lost.join(", ")));
    }
    for (column, cause) in
        [("identity_override", Cause::IdentityOverride), ("scope", Cause::ConnectionScope)]
    {
        let value = cells.nullable(column)?.filter(|value| !value.is_empty());
        if value.is_some_and(|value| state.scope.as_deref() != Some(&*value)) {
            losses.note(cause, || cells.name());
        }
    }
    Ok(Connection {
        scope: cells.owned("scope_id")?,
        id: cells.owned("id")?,
        provider: cells.owned("provider")?,
        label: cells.owned_nullable("identity_label")?,
        access: cells.owned_nullable("access_token_secret_id")?,
        refresh: cells.owned_nullable("refresh_token_secret_id")?,
        expires: cells.number("expires_at")?,
        state,
    })
}

fn policy(cells: &Cells<'_>) -> Result<Policy, Fault> {
    Ok(Policy {
        scope: cells.owned("scope_id")?,
        id: cells.owned("id")?,
        pattern: cells.owned("pattern")?,
        action: cells.owned("action")?,
        position: cells.owned("position")?,
    })
}

fn tool_sources(db: &Database) -> Result<BTreeSet<String>, Fault> {
    let failed = fail::during("read the table `tool`");
    let mut query = db.prepare("SELECT DISTINCT source_id FROM tool").map_err(&failed)?;
    // Only ids are read here; losses in the rows are noted when the tools are written.
    let losses = Losses::default();
    let mut found = BTreeSet::new();
    let mut rows = query.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        found.insert(Cells::new(row, &TOOL_SOURCE, &losses).owned("source_id")?);
    }
    Ok(found)
}

const TOOL_SOURCE: Table =
    Table { name: "tool", columns: &["source_id"], optional: &[], naming: &["source_id"] };

/// The columns of `plugin_storage` that a source's configuration is read from.
pub(crate) const CONFIG: Table = Table {
    name: "plugin_storage",
    columns: &["scope_id", "key", "data", "plugin_id", "collection", "rowid"],
    optional: &[],
    naming: &["scope_id", "plugin_id", "collection", "key"],
};

const CONFIG_ROWS: &str =
    "SELECT scope_id, `key`, data, plugin_id, collection, rowid FROM plugin_storage";

/// Returns the query that reads one row of [`CONFIG`] again.
pub(crate) fn config_at(row: i64) -> String {
    format!("{CONFIG_ROWS} WHERE rowid = {row}")
}

fn configs(db: &Database, snapshot: &mut Snapshot, losses: &Losses) -> Result<(), Fault> {
    let kinds: BTreeMap<(&str, &str), &Source> =
        snapshot.sources.iter().map(|s| ((s.scope.as_str(), s.id.as_str()), s)).collect();
    let sql = format!("{CONFIG_ROWS} WHERE collection = 'source'");
    let mut configs = BTreeMap::new();
    each(db, &sql, &CONFIG, losses, |cells| {
        let (scope, id) = (cells.owned("scope_id")?, cells.owned("key")?);
        let Some(source) = kinds.get(&(scope.as_str(), id.as_str())) else {
            losses.note(Cause::ConfigWithoutSource, || cells.name());
            return Ok(());
        };
        let data = cells.json("data")?;
        let config =
            config::migrate(&source.kind, &data).map_err(|why| cells.fault("data", why))?;
        let row = cells.number("rowid")?.unwrap_or_default() as i64;
        let (slots, auth, endpoint) = (config.slots, config.auth, config.endpoint);
        let earlier = configs.insert(key(&scope, &id), SourceConfig { row, slots, auth, endpoint });
        if earlier.is_some() {
            losses.note(Cause::ConfigReplaced, || cells.name());
        }
        Ok(())
    })?;
    snapshot.configs = configs;
    Ok(())
}

fn upstreams(db: &Database, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let sql = format!("{CONFIG_ROWS} WHERE collection = 'binding' AND plugin_id = 'mcp'");
    // These rows are read again when they are written; their losses are noted then.
    let unheard = Losses::default();
    each(db, &sql, &CONFIG, &unheard, |cells| {
        let data = cells.json("data")?;
        let Some(binding) = data.get("binding") else { return Ok(()) };
        let Some(name) = binding.text("toolName").filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let annotations = binding.get("annotations").filter(|a| a.as_object().is_some());
        let upstream = Upstream { name: name.clone(), annotations: annotations.cloned() };
        snapshot.upstreams.insert((cells.owned("scope_id")?, cells.owned("key")?), upstream);
        Ok(())
    })
}
