//! Fills a big table with two threads: one reads and converts rows, the other writes them. Both
//! take about the same time.
//!
//! Only the writing thread learns which rows are duplicates, and it knows them by number. If there
//! are any, the rows are read a second time, without writing, to name them. The memory between the
//! two threads is bounded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use super::insert::Insert;
use crate::fail;
use groundskeeper_migrate::{Code, Fault};

/// Bytes of text after which a batch is handed over. The channel holds no batch, so one is made
/// while the one before it is written: a huge value exists three times at most.
const BATCH_BYTES: usize = 256 * 1_024;

/// The table to be filled, and the treatment of duplicates.
pub(super) struct Filled {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    /// Position of the column that gets another value when the row is a duplicate.
    pub(super) name: usize,
    /// Positions of the columns of the unique key, including the name.
    pub(super) unique: &'static [usize],
    /// Binds the other value; it gets the row as it was.
    pub(super) rename: fn(&mut Insert<'_>, &Row<'_>, &str) -> Result<(), Fault>,
    /// Whether a duplicate row gets another name; otherwise it is left out.
    pub(super) renames: bool,
}

/// A value of a row between the threads.
#[derive(Clone, Copy)]
pub(super) enum Bound<'a> {
    Null,
    Number(f64),
    Text(&'a str),
}

impl<'a> From<&'a str> for Bound<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Option<&'a str>> for Bound<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<f64> for Bound<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// A value without its text: [`Batch`] holds the end of the text within the batch, [`Rows`] the
/// length of its own text.
#[derive(Clone, Copy, Default)]
enum Cell {
    #[default]
    Null,
    Number(f64),
    Text(usize),
}

/// Rows that are handed over together; one allocation holds the text of all.
#[derive(Default)]
struct Batch {
    text: String,
    cells: Vec<Cell>,
}

/// A row of a batch, borrowed from it.
pub(super) struct Row<'b> {
    values: Vec<Bound<'b>>,
}

impl<'b> Row<'b> {
    /// Returns a text of the row; positions count from one. Other values give an empty text.
    pub(super) fn text(&self, at: usize) -> &'b str {
        match self.values.get(at - 1) {
            Some(Bound::Text(text)) => text,
            _ => "",
        }
    }

    fn bind(&self, insert: &mut Insert<'_>) -> Result<(), Fault> {
        self.values.iter().enumerate().try_for_each(|(at, value)| match *value {
            Bound::Null => insert.bind(at + 1, rusqlite::types::Null),
            Bound::Number(number) => insert.bind(at + 1, number),
            Bound::Text(text) => insert.bind(at + 1, text),
        })
    }
}

impl Batch {
    /// Calls `with` for every row of `columns` columns.
    fn each(
        &self,
        columns: usize,
        mut with: impl FnMut(&Row<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut start = 0;
        for cells in self.cells.chunks(columns) {
            let value = |cell: &Cell| match *cell {
                Cell::Null => Bound::Null,
                Cell::Number(number) => Bound::Number(number),
                Cell::Text(end) => {
                    let text = self.text.get(start..end).unwrap_or_default();
                    start = end;
                    Bound::Text(text)
                }
            };
            with(&Row { values: cells.iter().map(value).collect() })?;
        }
        Ok(())
    }
}

/// Duplicate rows by number: their new name, none when left out.
type Duplicates = BTreeMap<u64, Option<String>>;

enum Destination {
    Write(SyncSender<Batch>),
    Replay(Duplicates),
}

/// The row that is being made, and the destination of finished rows.
pub(super) struct Rows {
    row: Vec<(Cell, String)>,
    batch: Batch,
    destination: Destination,
    number: u64,
}

/// A row whose unique key was there already.
pub(super) struct Clash {
    /// Its new name; none when it was left out.
    pub(super) renamed: Option<String>,
}

impl Rows {
    fn new(columns: usize, destination: Destination) -> Self {
        let row = vec![(Cell::Null, String::new()); columns];
        Self { row, batch: Batch::default(), destination, number: 0 }
    }

    /// Binds one value; positions count from one. It stays bound for the rows that follow.
    pub(super) fn bind<'v>(&mut self, at: usize, value: impl Into<Bound<'v>>) {
        let (cell, own) = &mut self.row[at - 1];
        *cell = match value.into() {
            Bound::Null => Cell::Null,
            Bound::Number(number) => Cell::Number(number),
            Bound::Text(text) => {
                own.clear();
                // One huge value must not keep its memory for the rest of the table.
                own.shrink_to(BATCH_BYTES);
                own.push_str(text);
                Cell::Text(text.len())
            }
        };
    }

    /// Passes the bound row on. In the second reading it returns the result for the row if it is a
    /// duplicate.
    ///
    /// # Errors
    /// When the writing thread has ended; its own error is the one to report.
    pub(super) fn put(&mut self) -> Result<Option<Clash>, Fault> {
        let number = self.number;
        self.number += 1;
        if let Destination::Replay(met) = &mut self.destination {
            return Ok(met.remove(&number).map(|renamed| Clash { renamed }));
        }
        for (cell, own) in &self.row {
            self.batch.cells.push(match cell {
                Cell::Text(_) => {
                    self.batch.text.push_str(own);
                    Cell::Text(self.batch.text.len())
                }
                other => *other,
            });
        }
        if self.batch.text.len() >= BATCH_BYTES {
            self.hand_over()?;
        }
        Ok(None)
    }

    fn hand_over(&mut self) -> Result<(), Fault> {
        let batch = std::mem::take(&mut self.batch);
        let Destination::Write(destination) = &self.destination else { return Ok(()) };
        destination
            .send(batch)
            .map_err(|_| fail::defect("the thread that writes the rows has ended"))
    }
}

/// Fills a table. `make` produces the rows; it is called a second time if there were duplicates.
/// Returns the number of rows written.
///
/// # Errors
/// Errors of `make`; `migration_failed` when a row cannot be written.
pub(super) fn fill(
    staging: &mut Connection,
    table: &Filled,
    mut make: impl FnMut(&mut Rows) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let columns = table.columns.len();
    let (destination, coming) = sync_channel(0);
    let (made, written) = std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("gk-rows".to_owned());
        let writer = writer.spawn_scoped(scope, move || write(staging, table, &coming));
        let mut rows = Rows::new(columns, Destination::Write(destination));
        let made = make(&mut rows).and_then(|()| rows.hand_over());
        // Closes the channel, which ends the writer; joining it first would wait for ever.
        drop(rows);
        (made, writer.map(std::thread::ScopedJoinHandle::join))
    });
    let written = written.map_err(|e| {
        let hint = "free memory, then migrate again";
        Fault::new(Code::Io, "cannot start the thread that writes the rows", hint).because(e)
    })?;
    let written = written.unwrap_or_else(|_| {
        Err(Fault::new(
            Code::Defect,
            "the thread that writes the rows panicked",
            "please report this",
        ))
    });
    // The writer's error goes first: `make` then only failed to hand rows over.
    let (written, met) = written?;
    made?;
    if !met.is_empty() {
        make(&mut Rows::new(columns, Destination::Replay(met)))?;
    }
    Ok(written)
}

/// Writes the batches that arrive. Returns the number of rows written, and the duplicates.
fn write(
    staging: &Connection,
    table: &Filled,
    coming: &Receiver<Batch>,
) -> Result<(u64, Duplicates), Fault> {
    let mut insert = Insert::new(staging, table.table, table.columns)?;
    let (mut number, mut met, mut names) = (0, Duplicates::new(), Names::new());
    for batch in coming {
        batch.each(table.columns.len(), |row| {
            row.bind(&mut insert)?;
            if !insert.try_run()? {
                let renamed = table.renames.then(|| renamed(&mut insert, table, row, &mut names));
                met.insert(number, renamed.transpose()?);
            }
            number += 1;
            Ok(())
        })?;
    }
    Ok((insert.written, met))
}

/// Highest number tried by unique key. Lower ones never become free, so no search starts again.
type Names = BTreeMap<Vec<String>, u64>;

/// Writes the bound row under the first free name: its own with a number.
fn renamed(
    insert: &mut Insert<'_>,
    table: &Filled,
    row: &Row<'_>,
    names: &mut Names,
) -> Result<String, Fault> {
    let name = row.text(table.name);
    let key = table.unique.iter().map(|at| row.text(*at).to_owned()).collect();
    let taken = names.entry(key).or_insert(1);
    loop {
        *taken += 1;
        let free = format!("{name}_{taken}");
        (table.rename)(insert, row, &free)?;
        if insert.try_run()? {
            return Ok(free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[&str] = &["owner", "name", "text", "number"];

    fn table(renames: bool) -> Filled {
        let rename = |insert: &mut Insert<'_>, _: &Row<'_>, free: &str| insert.bind(2, free);
        Filled { table: "t", columns: COLUMNS, name: 2, unique: &[1, 2], rename, renames }
    }

    fn staging() -> Connection {
        let staging = Connection::open_in_memory().expect("opened");
        let schema = "CREATE TABLE t (owner, name, text, number, UNIQUE (owner, name))";
        staging.execute_batch(schema).expect("made");
        staging
    }

    /// Makes rows of two owners. Every row has its own name, except some duplicates that are far
    /// apart.
    fn make(rows: &mut Rows, clashes: &mut Vec<(u64, Option<String>)>) -> Result<(), Fault> {
        let long = "x".repeat(1_000);
        for n in 0..2_000_u64 {
            rows.bind(1, if n % 2 == 0 { "a" } else { "b" });
            rows.bind(2, &*format!("n{}", if n % 500 == 0 { 0 } else { n }));
            rows.bind(3, Some(&*long).filter(|_| n % 3 > 0));
            rows.bind(4, js(n));
            if let Some(clash) = rows.put()? {
                clashes.push((n, clash.renamed));
            }
        }
        Ok(())
    }

    fn js(n: u64) -> f64 {
        f64::from(u32::try_from(n).expect("small"))
    }

    /// Duplicates are left out and named by number.
    #[test]
    fn batched_rows_arrive_unchanged() {
        let (mut staging, mut clashes) = (staging(), Vec::new());
        let written = fill(&mut staging, &table(false), |rows| make(rows, &mut clashes));
        assert_eq!(written.expect("written"), 1_997);
        assert_eq!(clashes, [(500, None), (1_000, None), (1_500, None)], "omitted and reported");
        let wrong =
            "SELECT count(*) FROM t WHERE number <> 0 AND name <> 'n' || CAST(number AS INT)
                     OR owner <> iif(CAST(number AS INT) % 2, 'b', 'a')
                     OR (text IS NULL) <> (CAST(number AS INT) % 3 = 0) OR length(text) <> 1000";
        let wrong: i64 = staging.query_row(wrong, [], |row| row.get(0)).expect("asked");
        assert_eq!(wrong, 0);
    }

    #[test]
    fn existing_rows_get_first_free_name() {
        let (mut staging, mut clashes) = (staging(), Vec::new());
        staging.execute_batch("INSERT INTO t (owner, name) VALUES ('a', 'n0_3')").expect("taken");
        fill(&mut staging, &table(true), |rows| make(rows, &mut clashes)).expect("written");
        let named = |n, name: &str| (n, Some(name.to_owned()));
        assert_eq!(clashes, [named(500, "n0_2"), named(1_000, "n0_4"), named(1_500, "n0_5")]);
        let all: i64 = staging.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("read");
        assert_eq!(all, 2_001);
    }

    /// After an error the rows are not read a second time.
    #[test]
    fn writer_and_reader_errors_are_returned() {
        let mut clashes = Vec::new();
        let mut failing = staging();
        let refuse = "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.number > 700
                      BEGIN SELECT RAISE(ABORT, 'no more'); END";
        failing.execute_batch(refuse).expect("made");
        let writer = fill(&mut failing, &table(false), |rows| make(rows, &mut clashes));
        let writer = writer.expect_err("the writer fails");
        assert!(writer.to_string().contains("no more"), "{writer}");
        let maker = fill(&mut staging(), &table(false), |rows| {
            make(rows, &mut clashes)?;
            Err(fail::defect("a row cannot be read"))
        });
        let maker = maker.expect_err("the maker fails");
        assert!(maker.to_string().contains("cannot be read"), "{maker}");
        assert_eq!(clashes, [], "no second pass");
    }
}
