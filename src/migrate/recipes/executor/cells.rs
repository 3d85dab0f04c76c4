//! Reads the cells of one row as the original does, which is written in JavaScript.
//!
//! Text ends at its first NUL, a whole number beyond 2^53 is refused, and NULL in a text column
//! becomes the word `null`. Losses are noted.

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::fail;
use super::js::{self, Value};
use super::losses::{Cause, Losses, SHOWN_CHARS_MAX};
use super::tables::Table;
use groundskeeper_migrate::Fault;

/// Largest whole number that a double holds exactly together with all smaller ones; the original
/// cannot read a larger one at all.
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// One row of a table. Its methods convert cells and note the losses of each conversion.
pub(crate) struct Cells<'r> {
    row: &'r Row<'r>,
    table: &'static Table,
    losses: &'r Losses,
}

/// A JSON cell as it is written to the new database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Emitted<'r> {
    Null,
    Text(Cow<'r, str>),
}

impl<'r> Cells<'r> {
    /// Wraps a row that was read by [`Table::select`].
    pub(crate) fn new(row: &'r Row<'r>, table: &'static Table, losses: &'r Losses) -> Self {
        Self { row, table, losses }
    }

    /// Describes the row for warnings and faults by its identifying columns.
    pub(crate) fn name(&self) -> String {
        let part = |column: &&str| {
            let at = self.table.at(column)?;
            let value = self.row.get_ref(at).ok()?;
            let word = column.strip_suffix("_id").unwrap_or(column);
            Some(format!("{word} {:?}", shown(value)))
        };
        self.table.naming.iter().filter_map(part).collect::<Vec<_>>().join(" ")
    }

    /// Returns the table of this row.
    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// Returns a fault about a cell of this row.
    pub(crate) fn fault(&self, column: &str, why: impl std::fmt::Display) -> Fault {
        fail::row(self.table.name, &self.name(), column, why)
    }

    /// Returns a cell of any type as text; NULL becomes `null`.
    pub(crate) fn text(&self, column: &str) -> Result<Cow<'r, str>, Fault> {
        Ok(self.nullable(column)?.unwrap_or(Cow::Borrowed("null")))
    }

    /// Returns a cell of any type as text; none for NULL.
    pub(crate) fn nullable(&self, column: &str) -> Result<Option<Cow<'r, str>>, Fault> {
        Ok(match self.value(column)? {
            ValueRef::Null => None,
            ValueRef::Integer(n) => Some(Cow::Owned(n.to_string())),
            ValueRef::Real(n) => Some(Cow::Owned(js::print_number(n))),
            ValueRef::Text(bytes) => Some(self.decode(column, bytes)),
            ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes)),
        })
    }

    /// Returns [`Cells::text`] as an owned string.
    pub(crate) fn owned(&self, column: &str) -> Result<String, Fault> {
        self.text(column).map(Cow::into_owned)
    }

    /// Returns [`Cells::nullable`] as an owned string.
    pub(crate) fn owned_nullable(&self, column: &str) -> Result<Option<String>, Fault> {
        Ok(self.nullable(column)?.map(Cow::into_owned))
    }

    /// Returns a cell as a finite number; none for NULL and for a value that is not a number.
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

    /// Returns a cell as a time in milliseconds; the time of the migration where it holds no
    /// number.
    pub(crate) fn time(&self, column: &str, now_ms: i64) -> Result<f64, Fault> {
        if let Some(time) = self.number(column)? {
            return Ok(time);
        }
        self.losses.note(Cause::TimeReplaced, || self.cell(column));
        Ok(js::from_whole(now_ms))
    }

    /// Parses a JSON cell; NULL and blank text give null.
    pub(crate) fn json(&self, column: &str) -> Result<Value, Fault> {
        match self.value(column)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(n) => Ok(Value::Number(js::from_whole(n))),
            ValueRef::Real(n) => Ok(Value::Number(n)),
            ValueRef::Text(bytes) => self.parse(column, &self.decode(column, bytes)),
            ValueRef::Blob(bytes) => self.parse(column, &decode_blob(bytes)),
        }
    }

    /// Returns a JSON cell as it is written. Canonical text is copied without being parsed, since
    /// printing it would not change it.
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

    /// Converts a value to a cell: null becomes NULL, a string becomes the cell's text, everything
    /// else becomes JSON. Notes that a string loses its quotes.
    pub(crate) fn emit(&self, column: &str, value: &Value) -> Emitted<'static> {
        if let Value::String(text) = value {
            self.losses.note(Cause::QuotesLost, || self.cell(column));
            if text.has_half() {
                self.losses.note(Cause::HalfCut, || self.cell(column));
            }
        }
        emit(value)
    }

    fn parse(&self, column: &str, text: &str) -> Result<Value, Fault> {
        if js::trim(text).is_empty() {
            return Ok(Value::Null);
        }
        let parsed = crate::js::parse(text).map_err(|error| self.fault(column, error))?;
        if parsed.repeated {
            self.losses.note(Cause::NameRepeated, || self.cell(column));
        }
        if parsed.rounded {
            self.losses.note(Cause::NumberRounded, || self.cell(column));
        }
        Ok(parsed.value)
    }

    fn value(&self, column: &str) -> Result<ValueRef<'r>, Fault> {
        // A column that is not read is out of range, which gives a fault and no panic.
        let at = self.table.at(column).unwrap_or(usize::MAX);
        let value = self.row.get_ref(at).map_err(|e| fail::sqlite("read a row", &e))?;
        match value {
            ValueRef::Integer(n) if n.unsigned_abs() > WHOLE_MAX => {
                Err(self.fault(column, "the integer is beyond 2^53 and cannot be migrated"))
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
        // The strict check goes first: it is much faster, and almost all text is valid.
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

/// Converts a value to a cell like [`Cells::emit`], without noting losses.
pub(crate) fn emit(value: &Value) -> Emitted<'static> {
    match value {
        Value::Null => Emitted::Null,
        Value::String(text) => Emitted::Text(Cow::Owned(text.written().into_owned())),
        value => Emitted::Text(Cow::Owned(js::compact(value))),
    }
}

impl Emitted<'_> {
    /// Returns the text, or `{}` for NULL where the column is NOT NULL.
    pub(crate) fn required(&self) -> &str {
        self.text().unwrap_or("{}")
    }

    /// Returns the text; none for NULL.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// Decodes a BLOB as text; a leading byte order mark is dropped, as JavaScript's decoder does.
fn decode_blob(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(n) => js::print_number(n),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARS_MAX).collect()
        }
    }
}
