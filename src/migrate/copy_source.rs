//! The step that copies the source: its secrets first, then the database.

use std::path::Path;

use crate::core::event::SourceCopy;
use crate::core::{Fault, Outcome};
use crate::failpoint::kill::point;
use crate::migrate::context::{Scratch, Task};
use crate::migrate::copy::fresh_copy;
use crate::migrate::manifest::{self, Stage, mark_of};
use crate::migrate::{secrets, sqlite};
use crate::world::fs::paths;

/// Copies the database, with what is in its log; its secrets as well.
pub(super) fn copy(task: &Task<'_>) -> Result<Outcome, Fault> {
    task.hold_on()?;
    let names = &task.names;
    let has_secrets = names.secrets.as_deref().is_some_and(Path::exists);
    if !task.migration.plan.dry_run {
        manifest::write(task.files(), &names.mark, &mark_of(task, has_secrets, Stage::Building))?;
        point("migrate.marked");
        secrets::back_up(task)?;
        point("migrate.secrets_kept");
    }
    // Before anything of it is read: a log that is moved into the database would change it.
    let fingerprint = sqlite::fingerprint(&names.database);
    let checksum = fresh_copy(task)?;
    let rows = sqlite::count_all(&sqlite::open_private(&names.copy)?, &names.copy)?;
    let bytes = names.copy.metadata().map_err(paths::failed("read", &names.copy))?.len();
    task.desk.with_held(task.id(), |held| held.copy = Scratch::Fresh);
    Ok(Outcome::SourceCopied(SourceCopy { bytes, fingerprint, checksum, rows, has_secrets }))
}
