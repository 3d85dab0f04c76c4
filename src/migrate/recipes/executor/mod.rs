//! Executor: its local database from v1 (scopes, sources, bindings) to v2 (tenants, integrations,
//! connections).

use crate::core::Fault;
use crate::migrate::recipe::{Built, Recipe, Recognised, Secrets, Work};
use rusqlite::Connection;
/// stand-in
pub struct Executor;
impl Recipe for Executor {
    fn name(&self) -> &str {
        "executor"
    }
    fn label(&self) -> &str {
        "v1-v2"
    }
    fn recognise(&self, _: &Connection) -> Result<Recognised, Fault> {
        Ok(Recognised::Foreign("stand-in".into()))
    }
    fn normalise(&self, _: &Connection, _: &Work<'_>) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
    fn build(&self, _: &Connection, _: &Connection, _: &Work<'_>) -> Result<Built, Fault> {
        Ok(Built::default())
    }
    fn secrets(&self, _: &Connection, _: &Work<'_>) -> Result<Secrets, Fault> {
        Ok(Secrets::default())
    }
    fn stamp(&self, _: &Connection, _: &Work<'_>) -> Result<(), Fault> {
        Ok(())
    }
    fn verify(&self, _: &Connection) -> Result<(), Fault> {
        Ok(())
    }
    fn ready(&self, _: &Connection, _: &Work<'_>) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
}
