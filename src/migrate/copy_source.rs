//! The step that copies the source: the secrets first, then the database. It changes neither.

use std::path::Path;

use crate::context::{Scratch, Task};
use crate::copy::fresh_copy;
use crate::manifest::{self, manifest_for};
use crate::{secrets, sqlite};
use groundskeeper_core::event::SourceCopy;
use groundskeeper_core::{Fault, MigrationOutcome};
use groundskeeper_failpoint::kill::point;
use groundskeeper_system::paths;

/// Copies the database, including the content of its log, and backs up its secrets.
pub(super) fn copy(task: &Task<'_>) -> Result<MigrationOutcome, Fault> {
    task.hold_and_check()?;
    let names = &task.names;
    let has_secrets = names.secrets.as_deref().is_some_and(Path::exists);
    if !task.migration.plan.dry_run {
        // The manifest comes first: the files that it names can be removed without the log.
        let manifest = manifest_for(task, has_secrets);
        manifest::write(task.files(), &names.manifest, &manifest)?;
        point("migrate.marked");
        secrets::back_up(task)?;
        point("migrate.secrets_kept");
    }
    // The fingerprint is taken before the first read: a log that is moved into the database changes
    // it.
    let fingerprint = sqlite::fingerprint(&names.database);
    let checksum = fresh_copy(task)?;
    let rows = sqlite::count_all(&task.open_private(&names.copy)?, &names.copy)?;
    let bytes = names.copy.metadata().map_err(paths::failed("read", &names.copy))?.len();
    task.runner.with_held(task.id(), |held| held.copy = Scratch::Fresh);
    Ok(MigrationOutcome::SourceCopied(SourceCopy {
        bytes,
        fingerprint,
        checksum,
        rows,
        has_secrets,
    }))
}
