//! Warnings of a migration, as many as a record of the log can hold. A longer list is in a file of
//! the migration's directory, which the last warning names: nothing is dropped unseen.

use crate::context::Task;
use crate::files::with_suffix;
use groundskeeper_core::Fault;
use groundskeeper_system::paths;

/// Most bytes of warnings in one record, with 8 for the length of each. A record holds 1 MiB.
const BYTES_MAX: usize = 512 << 10;
/// Names of the files with the whole list, by the step that warns.
pub(super) const OF_SOURCE: &str = "warnings-of-source";
pub(super) const OF_BUILD: &str = "warnings-of-build";

/// Returns the warnings that fit into a record. Where that is not all of them, all are written to a
/// file of this name; a rehearsal only counts the others.
pub(super) fn bounded(
    task: &Task<'_>,
    name: &str,
    mut all: Vec<String>,
) -> Result<Vec<String>, Fault> {
    let mut bytes = 0_usize;
    let fits = |text: &&String| {
        bytes += text.len() + 8;
        bytes <= BYTES_MAX
    };
    let count = all.iter().take_while(fits).count();
    if count == all.len() {
        return Ok(all);
    }
    let more = all.len() - count;
    let rest = if task.migration.plan.dry_run {
        format!("{more} more warnings; a migration without --dry-run writes them to a file.")
    } else {
        let folder = task.runner.folder_of(task.id());
        let path = folder.join(name);
        let text = all.join("\n") + "\n";
        task.files().make_dir(&folder).map_err(paths::failed("create", &folder))?;
        let written = task.files().write(&path, &with_suffix(&path, ".tmp"), text.as_bytes());
        written.map_err(paths::failed("write", &path))?;
        format!("{more} more warnings; all of them are in {}.", path.display())
    };
    all.truncate(count);
    all.push(rest);
    Ok(all)
}
