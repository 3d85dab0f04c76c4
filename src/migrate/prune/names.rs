//! The file names of backups and of what an undo put aside:
//! `<database>.<label>-<milliseconds>-<name of the migration>`, and the sidecars of such a file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::request::Kind;
use crate::file_names::UNDONE;
use crate::files::SUFFIXES;
use crate::manifest::is_nonce;
use groundskeeper_core::MigrationId;

/// Most digits of a time in a name.
const DIGITS_MAX: usize = 16;

/// Identity of a set of files, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetName {
    /// Time in the name.
    pub(super) at_ms: u64,
    /// Migration in the name.
    pub(super) migration: MigrationId,
    /// Kind of the set.
    pub(super) kind: Kind,
}

/// Files of one database, by the index of their suffix: the database itself is the first.
pub(super) type Sets = BTreeMap<SetName, BTreeMap<usize, OsString>>;

/// Returns the sets among the names of a directory that belong to a database.
pub(super) fn sets(database: &OsStr, labels: &[String], names: Vec<OsString>) -> Sets {
    let mut all = Sets::new();
    for name in names {
        if let Some((set, suffix)) = parse(database, labels, &name) {
            all.entry(set).or_default().insert(suffix, name);
        }
    }
    all
}

/// Returns the set that a name belongs to, and the index of its suffix.
pub(super) fn parse(database: &OsStr, labels: &[String], name: &OsStr) -> Option<(SetName, usize)> {
    let rest = name.as_encoded_bytes().strip_prefix(database.as_encoded_bytes())?;
    let rest = std::str::from_utf8(rest).ok()?.strip_prefix('.')?;
    let labels = labels.iter().map(|label| (label.as_str(), Kind::Backup));
    let mut labels = labels.chain([(UNDONE, Kind::Undone)]);
    let (kind, rest) = labels.find_map(|(label, kind)| {
        let rest = rest.strip_prefix(label)?.strip_prefix('-')?;
        Some((kind, rest))
    })?;
    let (at, rest) = rest.split_once('-')?;
    if at.is_empty() || at.len() > DIGITS_MAX || !at.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (nonce, suffix) = rest.split_at_checked(8)?;
    let suffix = SUFFIXES.iter().position(|known| *known == suffix)?;
    let migration = MigrationId::parse(nonce).ok().filter(|_| is_nonce(nonce))?;
    Some((SetName { at_ms: at.parse().ok()?, migration, kind }, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_names_are_ours() {
        let labels = ["v1-v2".to_owned(), "old".to_owned()];
        let parse = |name: &str| parse(OsStr::new("data.db"), &labels, OsStr::new(name));
        for (name, kind, suffix) in [
            ("data.db.v1-v2-1795952747034-0d224aed", Kind::Backup, 0),
            ("data.db.old-1-0d224aed-wal", Kind::Backup, 1),
            ("data.db.undone-1795952747034-0d224aed-journal", Kind::Undone, 3),
        ] {
            let found = parse(name).map(|(set, suffix)| (set.kind, suffix));
            assert_eq!(found, Some((kind, suffix)), "{name}");
        }
        for name in [
            "data.db",
            "data.db.v1-v2-1795952747034-0d224aed.copy",
            "data.db.v1-v2-1795952747034-0d224aed-",
            "data.db.v1-v2-17959527x-0d224aed",
            "data.db.v1-v2--0d224aed",
            "data.db.v1-v2-1795952747034-0d224ae",
            "data.db.v1-v2-1795952747034-0d224aeg",
            "data.db.v1-v2-11111111111111111-0d224aed",
            "data.db.mine-1795952747034-0d224aed",
            "other.db.v1-v2-1795952747034-0d224aed",
            "xdata.db.v1-v2-1795952747034-0d224aed",
            "data.db.v1-v2-1795952747034-0d224ae\u{e9}",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
