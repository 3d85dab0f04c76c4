//! Parses a step into parts: SQL with header lines that say when the part has something to do. It
//! runs none of them.

use rusqlite::Connection;

use crate::tables;
use groundskeeper_migrate::Fault;

/// Table in the copy where the replay records its losses, for the warnings of the migration.
pub(crate) const LOSSES: &str = "groundskeeper_replay_losses";

/// A part of a step, with its conditions.
#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    needs: Vec<&'a str>,
    lacks: Option<&'a str>,
    pub(super) work: Work,
    pub(super) sql: &'a str,
}

/// Kind of a part's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Work {
    /// Statements that change the database.
    #[default]
    Change,
    /// A query; each row is a reason to stop, as table, row, column and reason.
    Refusal,
}

/// Splits a file into its parts; text before the first part is a comment.
pub(super) fn read(file: &str) -> Vec<Part<'_>> {
    file.split("\n-- part: ").skip(1).map(part).collect()
}

fn part(text: &str) -> Part<'_> {
    let (name, mut sql) = text.split_once('\n').unwrap_or((text, ""));
    let mut part = Part { name, ..Part::default() };
    while let Some(line) = sql.strip_prefix("-- ") {
        let (line, rest) = line.split_once('\n').unwrap_or((line, ""));
        match line.split_once(": ") {
            Some(("needs", list)) => part.needs = list.split(", ").collect(),
            Some(("lacks", what)) => part.lacks = Some(what),
            Some(("refuses", _)) => part.work = Work::Refusal,
            _ => {}
        }
        sql = rest;
    }
    part.sql = sql;
    part
}

impl Part<'_> {
    /// Returns whether the schema has everything that the part needs, and lacks its result.
    pub(super) fn applies(&self, db: &Connection) -> Result<bool, Fault> {
        for need in &self.needs {
            if !there(db, need)? {
                return Ok(false);
            }
        }
        match self.lacks {
            Some(what) => Ok(!there(db, what)?),
            None => Ok(true),
        }
    }
}

/// Returns whether a `table` or a `table.column` exists.
pub(super) fn there(db: &Connection, what: &str) -> Result<bool, Fault> {
    match what.split_once('.') {
        Some((table, column)) => Ok(tables::columns(db, table)?.contains(column)),
        None => tables::exists(db, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_file_parses_into_parts() {
        let parts = read(
            "-- About.\n\n-- part: one\n-- needs: a.b, c\n-- lacks: d\nX;\n\n-- part: two\n-- refuses: rows\nY;\n",
        );
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name, parts[0].lacks, parts[0].sql), ("one", Some("d"), "X;\n"));
        assert_eq!(parts[0].needs, ["a.b", "c"]);
        assert_eq!((parts[1].work, parts[1].sql), (Work::Refusal, "Y;\n"));
    }
}
