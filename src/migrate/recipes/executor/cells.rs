//! The cells of one row as JavaScript gets them from the database.
//!
//! Text ends at its first NUL, a number beyond 2^53 cannot be read at all, and NULL where text is
//! due is the word `null`. What is lost on the way is noted.

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::fail;
use super::js::{self, Value};
use super::losses::{Cause, Losses};
use super::tables::Table;
use crate::core::Fault;

/// The largest whole number that is read.
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// One row of a table.
pub(crate) struct Cells<'r> {
    row: &'r Row<'r>,
    table: &'static Table,
    losses: &'r Losses,
}

/// A JSON cell as it is written again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Emitted<'r> {
    Null,
    Text(Cow<'r, str>),
}

impl<'r> Cells<'r> {
    /// The cells of a row that was read by [`Table::select`].
    pub(crate) fn new(row: &'r Row<'r>, table: &'static Table, losses: &'r Losses) -> Self {
        Self { row, table, losses }
    }

    /// What people call the row.
    pub(crate) fn name(&self) -> String {
        let part = |column: &&str| {
            let at = self.table.at(column)?;
            let value = self.row.get_ref(at).ok()?;
            let word = column.strip_suffix("_id").unwrap_or(column);
            Some(format!("{word} {:?}", shown(value)))
        };
        self.table.naming.iter().filter_map(part).collect::<Vec<_>>().join(" ")
    }

    /// The table that it is a row of.
    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// A fault about a cell.
    pub(crate) fn fault(&self, column: &str, why: impl std::fmt::Display) -> Fault {
        fail::row(self.table.name, &self.name(), column, why)
    }

    /// Text, whatever is in the cell.
    pub(crate) fn text(&self, column: &str) -> Result<Cow<'r, str>, Fault> {
        Ok(self.nullable(column)?.unwrap_or(Cow::Borrowed("null")))
    }

    /// Text, or none for NULL.
    pub(crate) fn nullable(&self, column: &str) -> Result<Option<Cow<'r, str>>, Fault> {
        Ok(match self.value(column)? {
            ValueRef::Null => None,
            ValueRef::Integer(n) => Some(Cow::Owned(n.to_string())),
            ValueRef::Real(n) => Some(Cow::Owned(js::print_number(n))),
            ValueRef::Text(bytes) => Some(self.decode(column, bytes)),
            ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes)),
        })
    }

    /// The same, as text of its own.
    pub(crate) fn owned(&self, column: &str) -> Result<String, Fault> {
        self.text(column).map(Cow::into_owned)
    }

    /// The same, as text of its own, or none for NULL.
    pub(crate) fn owned_nullable(&self, column: &str) -> Result<Option<String>, Fault> {
        Ok(self.nullable(column)?.map(Cow::into_owned))
    }

    /// A number; none for NULL and for what is no number.
    pub(crate) fn number(&self, column: &str) -> Result<Option<f64>, Fault> {
        let number = match self.value(column)? {
            ValueRef::Null => return Ok(None),
            ValueRef::Integer(n) => js::from_whole(n),
            ValueRef::Real(n) => n,
            ValueRef::Text(bytes) => js::to_number(&self.decode(column, bytes)),
            ValueRef::Blob(bytes) => js::to_number(&String::from_utf8_lossy(bytes)),
        };
        Ok(Some(number).filter(|n| n.is_finite()))
    }

    /// A time; now where the cell has none.
    pub(crate) fn time(&self, column: &str, now_ms: i64) -> Result<f64, Fault> {
        if let Some(time) = self.number(column)? {
            return Ok(time);
        }
        self.losses.note(Cause::TimeReplaced, || self.cell(column));
        Ok(js::from_whole(now_ms))
    }

    /// A JSON cell, read.
    pub(crate) fn json(&self, column: &str) -> Result<Value, Fault> {
        match self.value(column)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(n) => Ok(Value::Number(js::from_whole(n))),
            ValueRef::Real(n) => Ok(Value::Number(n)),
            ValueRef::Text(bytes) => self.parse(column, &self.decode(column, bytes)),
            ValueRef::Blob(bytes) => self.parse(column, &decode_blob(bytes)),
        }
    }

    /// A JSON cell as it is written again, without reading it where it would not change.
    pub(crate) fn emitted(&self, column: &str) -> Result<Emitted<'r>, Fault> {
        if let ValueRef::Text(bytes) = self.value(column)?
            && let Cow::Borrowed(text) = self.decode(column, bytes)
            && js::is_canonical(text)
        {
            return Ok(Emitted::Text(Cow::Borrowed(text)));
        }
        let value = self.json(column)?;
        Ok(self.emit(column, &value))
    }

    /// A value as a cell: null is NULL, a string is the cell's text, everything else is JSON.
    pub(crate) fn emit(&self, column: &str, value: &Value) -> Emitted<'static> {
        if matches!(value, Value::String(_)) {
            self.losses.note(Cause::QuotesLost, || self.cell(column));
        }
        emit(value)
    }

    fn parse(&self, column: &str, text: &str) -> Result<Value, Fault> {
        if js::trim(text).is_empty() {
            return Ok(Value::Null);
        }
        let parsed = crate::migrate::recipes::executor::js::parse(text)
            .map_err(|error| self.fault(column, error))?;
        if parsed.repeated {
            self.losses.note(Cause::NameRepeated, || self.cell(column));
        }
        if parsed.rounded {
            self.losses.note(Cause::NumberRounded, || self.cell(column));
        }
        Ok(parsed.value)
    }

    fn value(&self, column: &str) -> Result<ValueRef<'r>, Fault> {
        let at = self.table.at(column).unwrap_or(usize::MAX);
        let value = self.row.get_ref(at).map_err(|e| fail::sqlite("reading a row", &e))?;
        match value {
            ValueRef::Integer(n) if n.unsigned_abs() > WHOLE_MAX => {
                Err(self.fault(column, "the whole number is beyond 2^53 and cannot be carried"))
            }
            value => Ok(value),
        }
    }

    fn decode(&self, column: &str, bytes: &'r [u8]) -> Cow<'r, str> {
        let mut kept = bytes;
        if bytes.contains(&0) {
            kept = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            self.losses.note(Cause::TextCut, || self.cell(column));
        }
        // The strict check first: it is much faster, and almost always right.
        std::str::from_utf8(kept).map_or_else(
            |_| {
                self.losses.note(Cause::TextMended, || self.cell(column));
                String::from_utf8_lossy(kept)
            },
            Cow::Borrowed,
        )
    }

    fn cell(&self, column: &str) -> String {
        format!("{}.{column} ({})", self.table.name, self.name())
    }
}

/// A value as a cell.
pub(crate) fn emit(value: &Value) -> Emitted<'static> {
    match value {
        Value::Null => Emitted::Null,
        Value::String(text) => Emitted::Text(Cow::Owned(text.lossy().into_owned())),
        value => Emitted::Text(Cow::Owned(js::compact(value))),
    }
}

impl Emitted<'_> {
    /// The text, or that of an empty object where the column takes no NULL.
    pub(crate) fn required(&self) -> &str {
        self.text().unwrap_or("{}")
    }

    /// The text; none for NULL.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// Text of a BLOB: a byte order mark at its start is dropped.
fn decode_blob(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(n) => js::print_number(n),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).chars().take(120).collect()
        }
    }
}
