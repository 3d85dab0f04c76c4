//! A big table, read and worked out row by row in one thread while another one writes the rows:
//! each costs about as much as the other.
//!
//! Only the thread that writes learns which rows cannot be there twice. They are known to it by
//! number; so the rows are gone through once more, with nothing written, to say which they were.
//! What waits between the two is bounded.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use super::insert::Insert;
use crate::core::{Code, Fault};
use crate::migrate::recipes::executor::fail;

/// Bytes of text after which rows are handed over. Nothing else waits between the two: a batch is
/// made while the one before it is written, so that one huge value is there three times and no
/// more.
const BATCH_BYTES: usize = 256 * 1_024;

/// A table that is filled.
pub(super) struct Filled {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    /// Where the value stands that another one takes the place of when the row is there already.
    pub(super) name: usize,
    /// The columns that cannot be the same in two rows, the name among them.
    pub(super) unique: &'static [usize],
    /// Binds that other value; it gets the row as it was.
    pub(super) rename: fn(&mut Insert<'_>, &Row<'_>, &str) -> Result<(), Fault>,
    /// Whether a row that is there already gets another name; otherwise it is left out.
    pub(super) renames: bool,
}

/// A value on its way.
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

/// The same without the text: where that ends among the text of its batch, or how much of its own
/// there is.
#[derive(Clone, Copy, Default)]
enum Cell {
    #[default]
    Null,
    Number(f64),
    Text(usize),
}

/// Rows that are handed over at once.
#[derive(Default)]
struct Batch {
    text: String,
    cells: Vec<Cell>,
}

/// One row of a batch.
pub(super) struct Row<'b> {
    values: Vec<Bound<'b>>,
}

impl<'b> Row<'b> {
    /// Text that is bound, counted from one.
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
    /// Calls back with every row of so many columns.
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

/// What became of rows that were there already, by number: their new name, none when left out.
type Met = BTreeMap<u64, Option<String>>;

enum Way {
    Write(SyncSender<Batch>),
    Tell(Met),
}

/// The row that is being made, and the way of those that are.
pub(super) struct Rows {
    row: Vec<(Cell, String)>,
    batch: Batch,
    way: Way,
    number: u64,
}

/// A row that was there already.
pub(super) struct Clash {
    /// The name that it has got; none when it is left out.
    pub(super) renamed: Option<String>,
}

impl Rows {
    fn new(columns: usize, way: Way) -> Self {
        let row = vec![(Cell::Null, String::new()); columns];
        Self { row, batch: Batch::default(), way, number: 0 }
    }

    /// Binds one value, counted from one; it stays bound for the rows that follow.
    pub(super) fn bind<'v>(&mut self, at: usize, value: impl Into<Bound<'v>>) {
        let (cell, own) = &mut self.row[at - 1];
        *cell = match value.into() {
            Bound::Null => Cell::Null,
            Bound::Number(number) => Cell::Number(number),
            Bound::Text(text) => {
                own.clear();
                own.shrink_to(BATCH_BYTES);
                own.push_str(text);
                Cell::Text(text.len())
            }
        };
    }

    /// Hands the row on that is bound. When rows are gone through once more: what became of it, if
    /// it was there already.
    ///
    /// # Errors
    /// When nobody writes any more; whoever wrote knows why.
    pub(super) fn put(&mut self) -> Result<Option<Clash>, Fault> {
        let number = self.number;
        self.number += 1;
        if let Way::Tell(met) = &mut self.way {
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
        let Way::Write(way) = &self.way else { return Ok(()) };
        way.send(batch).map_err(|_| fail::shape("the rows are not written any more"))
    }
}

/// Fills a table; `make` is called once, and once more when rows were there already. Returns how
/// many rows were written.
///
/// # Errors
/// Those of `make`; `migration_failed` when a row cannot be written.
pub(super) fn fill(
    staging: &mut Connection,
    table: &Filled,
    mut make: impl FnMut(&mut Rows) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let columns = table.columns.len();
    let (way, coming) = sync_channel(0);
    let (made, written) = std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("gk-rows".to_owned());
        let writer = writer.spawn_scoped(scope, move || write(staging, table, &coming));
        let mut rows = Rows::new(columns, Way::Write(way));
        let made = make(&mut rows).and_then(|()| rows.hand_over());
        drop(rows);
        (made, writer.map(std::thread::ScopedJoinHandle::join))
    });
    let written = written.map_err(|e| {
        Fault::new(Code::Io, "cannot start a thread", "free some memory").because(e)
    })?;
    let written = written.unwrap_or_else(|_| {
        Err(Fault::new(Code::Defect, "writing rows panicked", "please report this"))
    });
    // Why nothing could be handed over any more is the writer's to say.
    let (written, met) = written?;
    made?;
    if !met.is_empty() {
        make(&mut Rows::new(columns, Way::Tell(met)))?;
    }
    Ok(written)
}

/// Writes what comes; returns how many rows were written, and those that were there already.
fn write(
    staging: &Connection,
    table: &Filled,
    coming: &Receiver<Batch>,
) -> Result<(u64, Met), Fault> {
    let mut insert = Insert::new(staging, table.table, table.columns)?;
    let (mut number, mut met, mut names) = (0, Met::new(), Names::new());
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

/// Up to which number the names are taken that a row could have: none of them is free again.
type Names = BTreeMap<Vec<String>, u64>;

/// Writes the row that is bound under the first free name: its own with a number.
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

    /// Rows of two owners, every one of them with a name of its own but for some that are far
    /// apart.
    fn make(rows: &mut Rows, told: &mut Vec<(u64, Option<String>)>) -> Result<(), Fault> {
        let long = "x".repeat(1_000);
        for n in 0..2_000_u64 {
            rows.bind(1, if n % 2 == 0 { "a" } else { "b" });
            rows.bind(2, &*format!("n{}", if n % 500 == 0 { 0 } else { n }));
            rows.bind(3, Some(&*long).filter(|_| n % 3 > 0));
            rows.bind(4, js(n));
            if let Some(clash) = rows.put()? {
                told.push((n, clash.renamed));
            }
        }
        Ok(())
    }

    fn js(n: u64) -> f64 {
        f64::from(u32::try_from(n).expect("small"))
    }

    #[test]
    fn rows_of_many_batches_arrive_as_they_were_bound() {
        let (mut staging, mut told) = (staging(), Vec::new());
        let written = fill(&mut staging, &table(false), |rows| make(rows, &mut told));
        assert_eq!(written.expect("written"), 1_997);
        assert_eq!(told, [(500, None), (1_000, None), (1_500, None)], "left out, and named");
        let wrong =
            "SELECT count(*) FROM t WHERE number <> 0 AND name <> 'n' || CAST(number AS INT)
                     OR owner <> iif(CAST(number AS INT) % 2, 'b', 'a')
                     OR (text IS NULL) <> (CAST(number AS INT) % 3 = 0) OR length(text) <> 1000";
        let wrong: i64 = staging.query_row(wrong, [], |row| row.get(0)).expect("asked");
        assert_eq!(wrong, 0);
    }

    #[test]
    fn rows_that_are_there_already_get_the_first_free_name() {
        let (mut staging, mut told) = (staging(), Vec::new());
        staging.execute_batch("INSERT INTO t (owner, name) VALUES ('a', 'n0_3')").expect("taken");
        fill(&mut staging, &table(true), |rows| make(rows, &mut told)).expect("written");
        let named = |n, name: &str| (n, Some(name.to_owned()));
        assert_eq!(told, [named(500, "n0_2"), named(1_000, "n0_4"), named(1_500, "n0_5")]);
        let all: i64 = staging.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).expect("read");
        assert_eq!(all, 2_001);
    }

    #[test]
    fn whoever_fails_is_heard() {
        let mut told = Vec::new();
        let mut failing = staging();
        let refuse = "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.number > 700
                      BEGIN SELECT RAISE(ABORT, 'no more'); END";
        failing.execute_batch(refuse).expect("made");
        let writer = fill(&mut failing, &table(false), |rows| make(rows, &mut told));
        let writer = writer.expect_err("the writer fails");
        assert!(writer.to_string().contains("no more"), "{writer}");
        let maker = fill(&mut staging(), &table(false), |rows| {
            make(rows, &mut told)?;
            Err(fail::shape("a row cannot be read"))
        });
        let maker = maker.expect_err("the maker fails");
        assert!(maker.to_string().contains("cannot be read"), "{maker}");
        assert_eq!(told, [], "nothing is gone through again");
    }
}
