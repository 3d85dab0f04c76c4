//! Writes tools and definitions: each once per connection of its source.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::annotations::stamped;
use super::insert::Insert;
use super::stream::{Clash, Filled, Row, Rows};
use crate::cells::{Cells, Emitted};
use crate::losses::Cause;
use crate::plan::Target;
use crate::scope::Owner;
use crate::snapshot::{self, plugin};
use crate::tables::{self, Table};
use crate::write::writer::Writer;
use groundskeeper_migrate::Fault;

/// Connections by the scope and id of their source.
type Fan<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Target>>>;

/// Columns of a tool, in the order in which they are bound.
const TOOL: &[&str] = &[
    "integration",
    "connection",
    "plugin_id",
    "name",
    "description",
    "input_schema",
    "output_schema",
    "annotations",
    "created_at",
    "updated_at",
    "row_id",
    "tenant",
    "owner",
    "subject",
];
/// Columns of a definition, in the order in which they are bound.
const DEFINITION: &[&str] = &[
    "integration",
    "connection",
    "plugin_id",
    "name",
    "schema",
    "created_at",
    "row_id",
    "tenant",
    "owner",
    "subject",
];
/// Position of the name among the columns of a tool or definition, counted from one.
const NAME: usize = 4;

impl Writer<'_> {
    /// Writes the tools.
    pub(super) fn tools(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        let table = self.named("tool", TOOL, &[1, 2, NAME, 12, 13, 14]);
        let sql = tables::TOOL.require(self.copy)?;
        let fan = fan(&self.plan.targets);
        let now = self.work.now_ms;
        self.fill(staging, &table, |writer, rows| {
            let (copy, losses, mut seen) = (writer.copy, writer.losses, 0);
            snapshot::each(copy, &sql, &tables::TOOL, losses, |cells| {
                writer.tick("tool", &mut seen)?;
                let (name, description) = (cells.text("name")?, cells.text("description")?);
                let stored = cells.text("plugin_id")?;
                let plugin = plugin(&stored);
                let input = cells.emitted("input_schema")?;
                let output = cells.emitted("output_schema")?;
                let annotations = writer.annotations(cells, plugin, &name)?;
                let (created, updated) =
                    (cells.time("created_at", now)?, cells.time("updated_at", now)?);
                // Only now, after all cells are read: the original stops at an unreadable row even
                // if no connection needs it.
                let Some(targets) = writer.targets(&fan, cells, Cause::ToolWithoutConnection)?
                else {
                    return Ok(());
                };
                rows.bind(3, plugin);
                rows.bind(5, &*description);
                rows.bind(6, input.text());
                rows.bind(7, output.text());
                rows.bind(8, annotations.text());
                rows.bind(9, created);
                rows.bind(10, updated);
                writer.fan_out(rows, 11, cells, targets, &name)
            })
        })
    }

    /// Writes the definitions; a database without that table has none.
    pub(super) fn definitions(&mut self, staging: &mut Connection) -> Result<(), Fault> {
        let table = self.named("definition", DEFINITION, &[1, 2, NAME, 8, 9, 10]);
        let Some(sql) = tables::DEFINITION.select(self.copy)? else {
            self.done("definition", 0);
            return Ok(());
        };
        let fan = fan(&self.plan.targets);
        let now = self.work.now_ms;
        self.fill(staging, &table, |writer, rows| {
            let (copy, losses, mut seen) = (writer.copy, writer.losses, 0);
            snapshot::each(copy, &sql, &tables::DEFINITION, losses, |cells| {
                writer.tick("definition", &mut seen)?;
                let (name, stored) = (cells.text("name")?, cells.text("plugin_id")?);
                let schema = cells.emitted("schema")?;
                let created = cells.time("created_at", now)?;
                let without = Cause::DefinitionWithoutConnection;
                let Some(targets) = writer.targets(&fan, cells, without)? else { return Ok(()) };
                rows.bind(3, plugin(&stored));
                rows.bind(5, schema.required());
                rows.bind(6, created);
                writer.fan_out(rows, 7, cells, targets, &name)
            })
        })
    }

    fn named(
        &self,
        table: &'static str,
        columns: &'static [&'static str],
        unique: &'static [usize],
    ) -> Filled {
        let rename = |insert: &mut Insert<'_>, _: &Row<'_>, free: &str| insert.bind(NAME, free);
        Filled { table, columns, name: NAME, unique, rename, renames: self.clashes.renames() }
    }

    /// Returns the connections of a row's source; notes the row as lost when there are none.
    fn targets<'f>(
        &self,
        fan: &'f Fan<'_>,
        cells: &Cells<'_>,
        without: Cause,
    ) -> Result<Option<&'f [&'f Target]>, Fault> {
        let (scope, source) = (cells.text("scope_id")?, cells.text("source_id")?);
        if let Some(targets) = fan.get(&*scope).and_then(|sources| sources.get(&*source)) {
            return Ok(Some(targets));
        }
        let left = self.plan.outcomes.left(&scope, &source);
        self.losses.note(if left { Cause::FollowsLeft } else { without }, || cells.name());
        Ok(None)
    }

    /// Writes the bound row once per connection; the last four columns are its id and owner.
    fn fan_out(
        &mut self,
        rows: &mut Rows,
        whose: usize,
        cells: &Cells<'_>,
        targets: &[&Target],
        name: &str,
    ) -> Result<(), Fault> {
        for target in targets {
            let Owner { tenant, kind, subject } = &target.owner;
            rows.bind(1, &*target.integration);
            rows.bind(2, &*target.name);
            rows.bind(NAME, name);
            rows.bind(whose, self.ids.next()?);
            rows.bind(whose + 1, &**tenant);
            rows.bind(whose + 2, *kind);
            rows.bind(whose + 3, &**subject);
            if let Some(clash) = rows.put()? {
                self.clash(&clash, cells, target, name)?;
            }
        }
        Ok(())
    }

    /// Records that a row with the same unique key was written before.
    fn clash(
        &mut self,
        clash: &Clash,
        cells: &Cells<'_>,
        target: &Target,
        name: &str,
    ) -> Result<(), Fault> {
        let (table, row) = (cells.table(), cells.name());
        let value = format!("{}.{}.{name}", target.integration, target.name);
        let copy = self.copy;
        let source = cells.text("source_id")?;
        let twins = || twins(copy, table, &source, name);
        self.clashes.record_settled(table.name, &value, twins, &row, clash.renamed.as_deref());
        Ok(())
    }

    fn annotations<'r>(
        &self,
        cells: &Cells<'r>,
        plugin: &str,
        name: &str,
    ) -> Result<Emitted<'r>, Fault> {
        if plugin == "mcp" {
            let key = format!("{}.{name}", cells.text("source_id")?);
            let upstream = self.snapshot.upstreams.get(&(cells.owned("scope_id")?, key));
            if let Some(upstream) = upstream
                && let Some(value) = stamped(&cells.json("annotations")?, upstream)
            {
                return Ok(cells.emit("annotations", &value));
            }
        }
        cells.emitted("annotations")
    }
}

fn fan(targets: &[Target]) -> Fan<'_> {
    let mut fan = Fan::new();
    for target in targets {
        let sources = fan.entry(&target.source_scope).or_default();
        sources.entry(&target.source).or_default().push(target);
    }
    fan
}

/// Describes all rows of a source that have one name. Best effort: it only serves a message.
fn twins(
    copy: &rusqlite::Connection,
    table: &'static Table,
    source: &str,
    name: &str,
) -> Vec<String> {
    let unheard = crate::losses::Losses::default();
    let Ok(Some(sql)) = table.select(copy) else { return Vec::new() };
    let sql = format!("{sql} WHERE source_id = ?1 AND name = ?2 LIMIT 20");
    let Ok(mut query) = copy.prepare(&sql) else { return Vec::new() };
    let Ok(mut rows) = query.query([source, name]) else { return Vec::new() };
    let mut names = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        names.push(Cells::new(row, table, &unheard).name());
    }
    names
}
