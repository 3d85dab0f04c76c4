//! Text about migrations: their end, their steps, their list.

use std::fmt::Write as _;

use super::table::table;
use super::terminal::printable;
use crate::service::types::migration::MigrationView;

/// Returns how a migration ended, in words.
pub(in crate::cli) fn migration(view: &MigrationView) -> String {
    let database = printable(&view.database);
    let backup = view.backup.as_deref().map(printable);
    match (view.phase.as_str(), backup) {
        ("current", _) => format!("{database} needs no migration\n"),
        ("rehearsed", _) => {
            format!("{}the migration would succeed; nothing was changed\n", tables(view))
        }
        ("undone", _) => {
            let mut text = format!("the old database is back at {database}\n");
            for path in &view.kept {
                let what = if path.starts_with(&view.database) { "one is" } else { "secrets are" };
                let _written = writeln!(text, "the new {what} kept as {}", printable(path));
            }
            text
        }
        (_, Some(backup)) => {
            format!("migrated {database}\nthe old database is kept as {backup}\n")
        }
        (phase, None) => format!("{database}: {phase}\n"),
    }
}

fn tables(view: &MigrationView) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let rows = view.tables.iter();
    let rows = rows.map(|t| [printable(&t.table), number(t.before), number(t.after)]);
    table(["TABLE", "BEFORE", "AFTER"], rows)
}

/// Returns what a migration is doing, in a few words.
pub(in crate::cli) fn step_of(view: &MigrationView) -> String {
    match &view.progress {
        Some(p) if p.of > 0 && p.unit == "bytes" => {
            format!("{}: {} MiB of {}", p.what, p.done >> 20, p.of.div_ceil(1 << 20))
        }
        Some(p) if p.of >= p.done && p.done > 0 => {
            format!("{}: {} rows of {}", p.what, p.done, p.of)
        }
        Some(p) if p.done > 0 => format!("{}: {} rows", p.what, p.done),
        Some(p) => p.what.clone(),
        None if view.phase == "rolling_back" => match &view.error {
            Some(cause) => format!("rolling back: {}", cause.message),
            None => "rolling back".to_owned(),
        },
        None => view.phase.replace('_', " "),
    }
}

/// Returns the list of `migrate status`, two lines or more for each migration. `is_there` tells
/// whether a backup is still there.
pub(in crate::cli) fn migrations(
    found: &[MigrationView],
    is_there: &dyn Fn(&str) -> bool,
) -> String {
    let mut text = String::new();
    for view in found {
        let (database, phase) = (printable(&view.database), view.phase.replace('_', " "));
        let _written = writeln!(text, "{} {} {database}: {phase}", view.created_at, view.id);
        // A backup may have been pruned.
        let state = |path: &str| if is_there(path) { "" } else { " (not there any more)" };
        for line in view.backup.iter().map(|b| format!("old database: {b}{}", state(b))) {
            let _written = writeln!(text, "    {}", printable(&line));
        }
        for line in view.kept.iter().map(|kept| format!("put aside: {kept}")) {
            let _written = writeln!(text, "    {}", printable(&line));
        }
        for line in view.error.iter().map(|e| format!("{} ({})", e.message, e.hint)) {
            let _written = writeln!(text, "    {}", printable(&line));
        }
    }
    if found.is_empty() {
        text.push_str("no migrations are recorded\n");
    }
    text
}
