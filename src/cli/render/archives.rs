//! Text about what is kept of removed environments: trash entries and rescues.

use super::table::{facts, table};
use super::terminal::printable;
use crate::api::archives::ArchivedIncarnationView;
use crate::core::event::is_folded;
use crate::format::{age, bytes};

/// Returns the table of `trash ls`.
#[must_use]
pub fn trash(list: &[ArchivedIncarnationView]) -> String {
    table(
        ["ID", "INCARNATION", "KIND", "REMOVED", "KEPT UNTIL", "SIZE", "FILES", "PATH"],
        list.iter().map(|r| {
            let until = match (&r.expires_at, &r.purge) {
                (Some(time), _) => day(time),
                (None, Some(why)) => format!("now ({why})"),
                (None, None) if r.only_copy_of.is_empty() => "-".to_owned(),
                (None, None) => "never (only copy)".to_owned(),
            };
            [
                r.id.clone(),
                r.incarnation.to_string(),
                r.kind.clone(),
                format!("{} ago", age(&r.removed_at)),
                until,
                r.bytes.map_or_else(|| "-".to_owned(), bytes),
                r.entries.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                r.trash.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Returns why a trash entry stays, with the next step: it is the only copy of work, or its unlink
/// failed. None for an entry with neither reason.
#[must_use]
pub fn stays(r: &ArchivedIncarnationView) -> Option<String> {
    if !r.only_copy_of.is_empty() && r.error.is_none() {
        let (id, what) = (printable(&r.id), printable(&r.only_copy_of.join("; ")));
        let size = r.bytes.map_or_else(String::new, |n| format!(", {}", bytes(n)));
        return Some(format!(
            "{id} (incarnation {}{size}) stays in the trash, the only copy of: {what}\n  \
             `groundskeeper restore {id}` brings it back; \
             `groundskeeper trash empty {id} --lose` unlinks it permanently",
            r.incarnation
        ));
    }
    let (why, path) = (r.error.as_ref()?, r.trash.as_ref()?);
    let causes: Vec<&str> =
        std::iter::once(&why.message).chain(&why.causes).map(|s| &**s).collect();
    let causes = printable(&causes.join("; "));
    let (hint, path) = (printable(&why.hint), printable(path));
    let (id, life) = (printable(&r.id), r.incarnation);
    Some(format!(
        "{id} (incarnation {life}) stays in the trash: {causes}\n  {path}\n  {hint}; \
         `groundskeeper trash empty {id}` retries"
    ))
}

/// Returns the table of `rescue ls`.
#[must_use]
pub fn rescues(list: &[ArchivedIncarnationView]) -> String {
    table(
        ["ID", "INCARNATION", "REMOVED", "KEPT UNTIL", "COMMIT", "HOLDS", "LACKS", "REF"],
        list.iter().map(|r| {
            let commit = r.commit.clone().unwrap_or_default();
            [
                r.id.clone(),
                r.incarnation.to_string(),
                format!("{} ago", age(&r.removed_at)),
                r.rescue_expires_at.as_ref().map_or_else(|| "dropped".to_owned(), |time| day(time)),
                commit.get(..10).unwrap_or_default().to_owned(),
                r.holds.join(", "),
                if r.lacks.is_empty() { "-".to_owned() } else { r.lacks.join(", ") },
                r.rescue.clone().unwrap_or_default(),
            ]
        }),
    )
}

fn day(time: &str) -> String {
    time.get(..10).unwrap_or(time).to_owned()
}

/// Returns the text of `rescue show`, with the commands that inspect and restore the rescue.
#[must_use]
pub fn rescue(r: &ArchivedIncarnationView) -> String {
    let reference = r.rescue.clone().unwrap_or_default();
    let mut rows = vec![
        ("id", format!("{}, incarnation {}", r.id, r.incarnation)),
        ("removed", format!("{} ({} ago)", r.removed_at, age(&r.removed_at))),
        ("kept", format!("until {}", r.rescue_expires_at.as_deref().unwrap_or("it is dropped"))),
        ("repository", printable(&r.repo)),
        ("branch", printable(&r.branch)),
        ("ref", reference.clone()),
        ("commit", r.commit.clone().unwrap_or_default()),
    ];
    rows.extend(r.holds.iter().map(|h| ("holds", printable(h))));
    rows.extend(r.lacks.iter().map(|l| ("lacks", printable(l))));
    rows.extend(r.raw.iter().map(|path| ("copied", printable(path))));
    rows.extend(r.nested.iter().map(|nested| {
        let at = nested.commit.clone().unwrap_or_default();
        let held = match &nested.reference {
            Some(reference) if is_folded(reference) => format!("{reference} at {at}"),
            Some(reference) => reference.clone(),
            None => "copies".to_owned(),
        };
        ("repository", format!("{} is saved under {held}", printable(&nested.path)))
    }));
    // A ref that holds many rescues is at none of them.
    let name = if is_folded(&reference) { r.commit.clone().unwrap_or_default() } else { reference };
    if !name.is_empty() {
        rows.push(("inspect", format!("git diff {name}^1 {name}")));
    }
    rows.push(("restore", format!("groundskeeper restore {}", r.id)));
    facts(&rows)
}
