//! Prunes in the calling process.

use super::apply::prune;
use super::log::{Log, read};
use super::request::{PruneReport, PruneRequest};
use crate::context::MigrationRunner;
use crate::place::{Place, lock};
use groundskeeper_core::Fault;

/// Prunes what the log at a place knows, and keeps other processes from it until it is done.
///
/// # Errors
/// `already_running` while another process appends to the log; the errors of [`prune`].
pub fn alone(
    place: &Place,
    runner: &MigrationRunner,
    request: &PruneRequest,
) -> Result<PruneReport, Fault> {
    let (_lock, migrations) = if place.log.exists() {
        let lock = lock(&place.lock)?;
        (Some(lock), read(&place.log)?)
    } else {
        (None, Vec::new())
    };
    prune(runner, &|| Log::new(place.home.clone(), migrations.clone()), request)
}
