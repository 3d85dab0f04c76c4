//! Text about what migrations keep: the list, and what can be done about it.

use std::path::Path;

use super::table::table;
use super::terminal::note;
use crate::format::{age, bytes};
use crate::service::types::prune::{NewPrune, PruneView};
use groundskeeper_system::paths;

/// Returns the table of `migrate prune`.
pub(in crate::cli) fn pruned(view: &PruneView) -> String {
    table(
        ["KIND", "SIZE", "AGE", "STATE", "PATH", "REASON"],
        view.items.iter().map(|item| {
            let state = match (item.removed, &item.kept) {
                (true, _) => "removed",
                (false, Some(_)) => "kept",
                (false, None) => "removable",
            };
            let reason = item.kept.clone().unwrap_or_default();
            let (size, age) = (bytes(item.bytes), age(&item.since));
            [item.kind.clone(), size, age, state.to_owned(), item.path.clone(), reason]
        }),
    )
}

/// Writes a summary to stderr, with the command that removes what is listed.
pub(in crate::cli) fn prune_summary(wanted: &NewPrune, view: &PruneView, no_daemon: bool) {
    let (found, size) = (view.items.len(), bytes(view.bytes));
    if found == 0 {
        note("migrations keep nothing");
    } else if view.applied {
        note(&format!("{} of {found} removed, {size}", view.removed));
    } else if view.removable == 0 {
        note(&format!("{found} found, and none can be removed"));
    } else {
        let own = if no_daemon { " --no-daemon" } else { "" };
        let older_than = exact(wanted.older_than_seconds);
        let database = wanted.database.as_ref().map(|path| paths::as_argument(Path::new(path)));
        let database = database.map(|path| format!(" {path}")).unwrap_or_default();
        note(&format!(
            "{} of {found} can be removed, {size}; `groundskeeper migrate prune{own} --older-than \
             {older_than} --apply{database}` removes them",
            view.removable
        ));
    }
}

/// Returns a duration as an argument has it, in the largest unit that is exact.
fn exact(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}
