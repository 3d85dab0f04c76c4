//! Writes plugin storage and blobs: row by row, with operations in a new form.

use std::borrow::Cow;

use rusqlite::Connection;

use super::stream::{Filled, Rows};
use crate::cells::{Cells, Emitted, emit};
use crate::config::object;
use crate::js::{self, Text, Value};
use crate::losses::{Cause, Losses};
use crate::plan::ClashOutcomes;
use crate::scope::Owner;
use crate::snapshot::{self, plugin};
use crate::tables::{self, Table};
use crate::write::writer::Writer;
use groundskeeper_migrate::Fault;

/// Columns of plugin storage, in the order in which they are bound.
const STORAGE: &[&str] = &[
    "plugin_id",
    "collection",
    "key",
    "data",
    "created_at",
    "updated_at",
    "row_id",
    "tenant",
    "owner",
    "subject",
];
/// Positions of keys and ids among the columns of both tables, counted from one.
const KEY: usize = 3;
const BLOB_KEY: usize = 2;
const BLOB_ID: usize = 5;

/// An operation of a tool in its new form.
struct Operation {
    source: Text,
    tool: Text,
    binding: Value,
    /// Members of the old form that are dropped.
    lost: Vec<String>,
}

impl Writer<'_> {
    /// Writes everything that plugins stored, except the configurations of sources.
    pub(super) fn storage(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        let table = Filled {
            table: "plugin_storage",
            columns: STORAGE,
            name: KEY,
            unique: &[1, 2, KEY, 8, 9, 10],
            rename: |insert, _, free| insert.bind(KEY, free),
            renames: self.clashes.renames(),
        };
        // `IS NOT` also keeps rows whose collection is NULL, which `<>` would drop.
        let sql =
            format!("{} WHERE collection IS NOT 'source'", tables::STORAGE.require(self.copy)?);
        self.fill(staging, &table, |writer, rows| {
            let (copy, losses, mut seen) = (writer.copy, writer.losses, 0);
            snapshot::each(copy, &sql, &tables::STORAGE, losses, |cells| {
                writer.tick("plugin_storage", &mut seen)?;
                writer.stored(rows, cells)
            })
        })
    }

    fn stored(&mut self, rows: &mut Rows, cells: &Cells<'_>) -> Result<(), Fault> {
        let (scope, collection) = (cells.text("scope_id")?, cells.text("collection")?);
        let (stored, key) = (cells.text("plugin_id")?, cells.text("key")?);
        let plugin = plugin(&stored);
        let mut owner = Owner::of(&scope, self.work.tenant);
        let rewritten = matches!((&*collection, plugin), ("operation", "openapi" | "graphql"));
        let operation = if rewritten { operation(&cells.json("data")?) } else { None };
        let source = match &operation {
            Some(operation) => Some(operation.source.lossy().into_owned()),
            // The one other collection whose keys are known to start with a source's id.
            None if collection == "binding" => key.split_once('.').map(|(s, _)| s.to_owned()),
            None => None,
        };
        // All cells are read before the row may be left out: as in the original, an unreadable cell
        // stops the migration in any case.
        let times = ["created_at", "updated_at"].map(|column| cells.time(column, self.work.now_ms));
        let [created, updated] = times;
        let (created, updated) = (created?, updated?);
        let data = if operation.is_some() { Emitted::Null } else { cells.emitted("data")? };
        if source.as_deref().is_some_and(|source| self.plan.outcomes.left(&scope, source)) {
            self.losses.note(Cause::FollowsLeft, || cells.name());
            return Ok(());
        }
        let (key, data) = match operation {
            Some(operation) => {
                // An operation belongs to its integration, and that to the whole organisation.
                owner = Owner::org(&owner.tenant);
                self.operation(cells, &scope, operation)
            }
            None => (moved(&self.plan.outcomes, &scope, source.as_deref(), key), data),
        };
        rows.bind(1, plugin);
        rows.bind(2, &*collection);
        rows.bind(KEY, &*key);
        rows.bind(4, data.required());
        rows.bind(5, created);
        rows.bind(6, updated);
        rows.bind(7, self.ids.next()?);
        rows.bind(8, &*owner.tenant);
        rows.bind(9, owner.kind);
        rows.bind(10, &*owner.subject);
        let Some(clash) = rows.put()? else { return Ok(()) };
        let (copy, row) = (self.copy, cells.name());
        let value = format!("{plugin}.{collection}.{key}");
        let old = cells.text("key")?;
        let earlier = || twins(copy, &tables::STORAGE, "collection", &collection, &old);
        self.clashes.record_settled(
            "plugin_storage",
            &value,
            earlier,
            &row,
            clash.renamed.as_deref(),
        );
        Ok(())
    }

    fn operation(
        &self,
        cells: &Cells<'_>,
        scope: &str,
        operation: Operation,
    ) -> (Cow<'static, str>, Emitted<'static>) {
        let Operation { source, tool, binding, lost } = operation;
        if !lost.is_empty() {
            let name = || format!("{} of {}", lost.join(", "), cells.name());
            self.losses.note(Cause::OperationMembers, name);
        }
        // A source whose id has a lone half has no row, so it has no other slug either.
        let slug = match self.plan.outcomes.slug(scope, &source.lossy()) {
            slug if source == *slug => source,
            _ if source.has_half() => source,
            slug => slug.into(),
        };
        let key = Text::join(&[slug.clone(), tool.clone()], b'.');
        if key.has_half() {
            self.losses.note(Cause::HalfCut, || format!("key of {}", cells.name()));
        }
        let data = object(vec![
            ("integration", Value::String(slug)),
            ("toolName", Value::String(tool)),
            ("binding", binding),
        ]);
        (Cow::Owned(key.written().into_owned()), emit(&data))
    }

    /// Writes the blobs that belong to a scope and a plugin; notes the others as lost.
    pub(super) fn blobs(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        let table = Filled {
            table: "blob",
            columns: &["namespace", "key", "value", "row_id", "id"],
            name: BLOB_KEY,
            unique: &[BLOB_ID],
            rename: |insert, row, free| {
                insert.bind(BLOB_KEY, free)?;
                insert.bind(BLOB_ID, blob_id(row.text(1), free))
            },
            renames: self.clashes.renames(),
        };
        let Some(sql) = tables::BLOB.select(self.copy)? else {
            self.done("blob", 0);
            return Ok(());
        };
        self.fill(staging, &table, |writer, rows| {
            let (copy, losses, mut seen) = (writer.copy, writer.losses, 0);
            snapshot::each(copy, &sql, &tables::BLOB, losses, |cells| {
                writer.tick("blob", &mut seen)?;
                writer.blob(rows, cells)
            })
        })
    }

    fn blob(&mut self, rows: &mut Rows, cells: &Cells<'_>) -> Result<(), Fault> {
        let (old, key) = (cells.text("namespace")?, cells.text("key")?);
        let text = cells.text("value")?;
        let parts = old.split_once('/').filter(|(s, p)| !s.is_empty() && !p.is_empty());
        let Some((scope, plugin)) = parts else {
            self.losses.note(Cause::BlobNamespace, || cells.name());
            return Ok(());
        };
        if plugin == "graphql-greenfield" {
            self.losses.note(Cause::BlobPlugin, || cells.name());
        }
        let Owner { tenant, kind, subject } = Owner::of(scope, self.work.tenant);
        let namespace = match kind {
            "user" => format!("u:{tenant}:{subject}/{plugin}"),
            _ => format!("o:{tenant}/{plugin}"),
        };
        let id = blob_id(&namespace, &key);
        rows.bind(1, &*namespace);
        rows.bind(BLOB_KEY, &*key);
        rows.bind(3, &*text);
        rows.bind(4, self.ids.next()?);
        rows.bind(BLOB_ID, &*id);
        let Some(clash) = rows.put()? else { return Ok(()) };
        let (copy, row) = (self.copy, cells.name());
        let earlier = || twins(copy, &tables::BLOB, "key", &key, &key);
        self.clashes.record_settled("blob", &id, earlier, &row, clash.renamed.as_deref());
        Ok(())
    }
}

/// Returns the id of a blob: namespace and key as a JSON array.
pub(crate) fn blob_id(namespace: &str, key: &str) -> String {
    js::compact(&Value::array(vec![namespace.into(), key.into()]))
}

/// Parses a row as an operation; none when it does not name a source and a tool and have a binding.
fn operation(data: &Value) -> Option<Operation> {
    let binding = data.get("binding")?.clone();
    let text = |name: &str| data.text(name).cloned();
    let (names, source, tool) = match (text("integration"), text("toolName")) {
        (Some(source), Some(tool)) => (["integration", "toolName"], source, tool),
        _ => (["sourceId", "toolId"], text("sourceId")?, text("toolId")?),
    };
    let prefix = Text::join(&[source.clone(), "".into()], b'.');
    let tool = match tool.strip_prefix(&prefix) {
        Some(rest) if names[0] == "sourceId" => rest,
        _ => tool,
    };
    let known = |name: &str| name == "binding" || names.contains(&name);
    let members = data.as_object().map_or(&[][..], |object| object.members());
    let lost = members.iter().map(|(name, _)| name.lossy().into_owned());
    Some(Operation { source, tool, binding, lost: lost.filter(|name| !known(name)).collect() })
}

/// Returns a key with the current slug of its source.
fn moved<'k>(
    outcomes: &ClashOutcomes,
    scope: &str,
    source: Option<&str>,
    key: Cow<'k, str>,
) -> Cow<'k, str> {
    let Some(source) = source else { return key };
    let slug = outcomes.slug(scope, source);
    if slug == source { key } else { Cow::Owned(format!("{slug}{}", &key[source.len()..])) }
}

/// Describes the rows that share a column's value and a key. Best effort: it only serves a message.
fn twins(
    copy: &Connection,
    table: &'static Table,
    column: &str,
    value: &str,
    key: &str,
) -> Vec<String> {
    let unheard = Losses::default();
    let Ok(Some(sql)) = table.select(copy) else { return Vec::new() };
    let sql = format!("{sql} WHERE {} = ?1 AND `key` = ?2 LIMIT 20", tables::quoted(column));
    let Ok(mut query) = copy.prepare(&sql) else { return Vec::new() };
    let Ok(mut rows) = query.query([value, key]) else { return Vec::new() };
    let mut names = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        names.push(Cells::new(row, table, &unheard).name());
    }
    names
}
