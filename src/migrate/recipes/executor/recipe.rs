//! The [`Recipe`] of the Executor's database: its steps in the order in which the engine calls
//! them. It only connects the other modules.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::discovery::{Discovery, Limits};
use super::ids::RowIds;
use super::losses::{Cause, Losses};
use super::plan::{Clashes, Context};
use super::{defaults, gate, ledger, legacy, secrets, snapshot, unread};
use crate::write::Writer;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::{Built, Recipe, Recognised, Secrets, Stamps, Work};

/// Migrates the Executor's local database from its first generation to its second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Executor;

impl Recipe for Executor {
    fn name(&self) -> &'static str {
        "executor"
    }

    fn label(&self) -> &'static str {
        "v1-v2"
    }

    fn recognise(&self, database: &Connection) -> Result<Recognised, Fault> {
        gate::recognise(database)
    }

    fn normalise(&self, copy: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        crate::legacy::bring_up(copy, work)
    }

    fn build(
        &self,
        copy: &Connection,
        staging: &mut Connection,
        work: &Work<'_>,
    ) -> Result<Built, Fault> {
        let losses = Losses::default();
        legacy::losses(copy, &losses)?;
        unread::note(copy, &losses)?;
        (work.progress)("reading", 0);
        let snapshot = snapshot::read(copy, &losses)?;
        (work.progress)("planning", 0);
        let plan = crate::plan::make(&snapshot, &context(work, &losses))?;
        // No row refers to an answer, so the rows are written while servers are asked.
        let discovery = Discovery::start(work.network, &snapshot, &plan.clients, Limits::default());
        // Before the rows are written: providers that keep a secret determine the ids in the rows.
        let collected = secrets::collect(&plan, work, &losses)?;
        for client in &plan.clients {
            let secret = client.input.secret.as_deref();
            // An item id depends on scope and secret alone, so another connection's provider can
            // replace it here too.
            if secret.is_some_and(|item| collected.is_overridden(item)) {
                losses.note(Cause::OverrideLeak, || format!("OAuth client {:?}", client.slug));
            }
        }
        let writer = Writer {
            copy,
            work,
            snapshot: &snapshot,
            plan: &plan,
            collected: &collected,
            discovery: Some(discovery),
            losses: &losses,
            clashes: Clashes::new(work.conflicts, &losses),
            ids: RowIds::new(),
            rows: Vec::new(),
        };
        let rows = writer.write(staging)?;
        let integrations = rows.iter().find(|(table, _)| table == "integration");
        let report = plan.report(integrations.map_or(0, |(_, rows)| *rows));
        let mut warnings = plan.warnings;
        warnings.extend(collected.warnings.iter().cloned());
        warnings.extend(losses.warnings());
        Ok(Built { rows, warnings, report, secrets: Some(collected.into_secrets()) })
    }

    fn secrets(&self, copy: &Connection, work: &Work<'_>) -> Result<Secrets, Fault> {
        // Losses were reported when the database was built. Answers of servers do not affect
        // secrets, so the network is not used again.
        let losses = Losses::default();
        let snapshot = snapshot::read(copy, &losses)?;
        let plan = crate::plan::make(&snapshot, &context(work, &losses))?;
        Ok(secrets::collect(&plan, work, &losses)?.into_secrets())
    }

    fn stamp(&self, staging: &Connection, work: &Work<'_>) -> Result<(), Fault> {
        ledger::stamp(staging, ledger::MIGRATED, work.now_ms)
    }

    fn verify(&self, staging: &Connection) -> Result<(), Fault> {
        gate::verify(staging)
    }

    fn ready(&self, database: &Connection, work: &Work<'_>) -> Result<Vec<String>, Fault> {
        crate::ledger::run(database, work)
    }

    fn stamps(&self) -> Option<Stamps> {
        Some(ledger::stamps())
    }

    fn default_secrets(&self) -> Option<PathBuf> {
        defaults::secrets()
    }

    fn default_tenant(&self, cwd: &Path) -> Option<String> {
        Some(defaults::tenant(cwd))
    }

    fn owner_lock(&self) -> Option<&str> {
        Some("data.db.owner-lock")
    }

    fn journal(&self) -> Option<&str> {
        Some("data.db.v1-v2-migration.json")
    }
}

fn context<'a>(work: &Work<'a>, losses: &'a Losses) -> Context<'a> {
    Context { tenant: work.tenant, now_ms: work.now_ms, conflicts: work.conflicts, losses }
}
