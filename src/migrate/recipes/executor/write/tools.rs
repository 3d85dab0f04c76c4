//! Tools and definitions: each once per connection of its source.

use std::collections::BTreeMap;

use super::Writer;
use super::annotations::stamped;
use super::insert::Insert;
use crate::core::Fault;
use crate::migrate::recipes::executor::cells::{Cells, Emitted};
use crate::migrate::recipes::executor::losses::Cause;
use crate::migrate::recipes::executor::plan::{Target, Verdict};
use crate::migrate::recipes::executor::scope::Owner;
use crate::migrate::recipes::executor::snapshot::{self, plugin};
use crate::migrate::recipes::executor::tables::{self, Table};

/// The connections of every source, by scope and source.
type Fan<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Target>>>;

/// Where the name of a tool or definition stands among its columns.
const NAME: usize = 4;

impl Writer<'_> {
    /// The tools.
    pub(super) fn tools(&mut self) -> Result<(), Fault> {
        let columns = [
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
        let mut insert = Insert::new(self.staging, "tool", &columns)?;
        let sql = tables::TOOL.require(self.copy)?;
        let (fan, mut seen) = (fan(&self.plan.targets), 0);
        let now = self.work.now_ms;
        let (copy, losses) = (self.copy, self.losses);
        snapshot::each(copy, &sql, &tables::TOOL, losses, |cells| {
            self.tick("tool", &mut seen)?;
            let (name, description) = (cells.text("name")?, cells.text("description")?);
            let stored = cells.text("plugin_id")?;
            let plugin = plugin(&stored);
            let input = cells.emitted("input_schema")?;
            let output = cells.emitted("output_schema")?;
            let annotations = self.annotations(cells, plugin, &name)?;
            let (created, updated) =
                (cells.time("created_at", now)?, cells.time("updated_at", now)?);
            // Only now: a row that cannot be read stops the migration even if nobody needs it.
            let Some(targets) = self.targets(&fan, cells, Cause::ToolWithoutConnection)? else {
                return Ok(());
            };
            insert.bind(3, plugin)?;
            insert.bind(5, &*description)?;
            insert.bind(6, input.text())?;
            insert.bind(7, output.text())?;
            insert.bind(8, annotations.text())?;
            insert.bind(9, created)?;
            insert.bind(10, updated)?;
            self.fan_out(&mut insert, 11, cells, targets, &name)
        })?;
        let written = insert.written;
        self.done("tool", written);
        Ok(())
    }

    /// The definitions.
    pub(super) fn definitions(&mut self) -> Result<(), Fault> {
        let columns = [
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
        let mut insert = Insert::new(self.staging, "definition", &columns)?;
        let now = self.work.now_ms;
        let (copy, losses) = (self.copy, self.losses);
        if let Some(sql) = tables::DEFINITION.select(copy)? {
            let (fan, mut seen) = (fan(&self.plan.targets), 0);
            snapshot::each(copy, &sql, &tables::DEFINITION, losses, |cells| {
                self.tick("definition", &mut seen)?;
                let (name, plugin) = (cells.text("name")?, cells.text("plugin_id")?);
                let schema = cells.emitted("schema")?;
                let created = cells.time("created_at", now)?;
                let without = Cause::DefinitionWithoutConnection;
                let Some(targets) = self.targets(&fan, cells, without)? else { return Ok(()) };
                insert.bind(3, &*plugin)?;
                insert.bind(5, schema.required())?;
                insert.bind(6, created)?;
                self.fan_out(&mut insert, 7, cells, targets, &name)
            })?;
        }
        let written = insert.written;
        self.done("definition", written);
        Ok(())
    }

    /// The connections of a row's source; none, noted, when there are none.
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
        let left = self.plan.fates.left(&scope, &source);
        self.losses.note(if left { Cause::FollowsLeft } else { without }, || cells.name());
        Ok(None)
    }

    /// Writes the row that is bound once per connection; the last columns say whose it is.
    fn fan_out(
        &mut self,
        insert: &mut Insert<'_>,
        whose: usize,
        cells: &Cells<'_>,
        targets: &[&Target],
        name: &str,
    ) -> Result<(), Fault> {
        for target in targets {
            let Owner { tenant, kind, subject } = &target.owner;
            insert.bind(1, &target.integration)?;
            insert.bind(2, &target.name)?;
            insert.bind(NAME, name)?;
            insert.bind(whose, self.ids.next()?)?;
            insert.bind(whose + 1, tenant)?;
            insert.bind(whose + 2, *kind)?;
            insert.bind(whose + 3, subject)?;
            if !insert.try_run()? {
                self.clash(insert, cells, target, name)?;
            }
        }
        Ok(())
    }

    /// Such a row is there already.
    fn clash(
        &mut self,
        insert: &mut Insert<'_>,
        cells: &Cells<'_>,
        target: &Target,
        name: &str,
    ) -> Result<(), Fault> {
        let (table, row) = (cells.table(), cells.name());
        let value = format!("{}.{}.{name}", target.integration, target.name);
        let copy = self.copy;
        let source = cells.text("source_id")?;
        let twins = || twins(copy, table, &source, name);
        if self.clashes.meet(table.name, &value, twins, &row) == Verdict::Rename {
            let to = insert.run_renamed(NAME, name)?;
            self.clashes.renamed(table.name, &value, &to, &row);
        }
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

/// The names of all rows of a source that have one name.
fn twins(
    copy: &rusqlite::Connection,
    table: &'static Table,
    source: &str,
    name: &str,
) -> Vec<String> {
    let unheard = crate::migrate::recipes::executor::losses::Losses::default();
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
