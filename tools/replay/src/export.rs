//! `export`: a log in a form for other tools: NDJSON, a SQLite database, or the flat form.
//!
//! NDJSON and SQLite take the filters of `list`; the flat form is a whole copy. Files are made
//! under another name and never replace one that is there.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use groundskeeper_core::event::Record;
#[cfg(feature = "sqlite")]
use groundskeeper_core::{EnvironmentId, MigrationId};
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::envelope::{self, Envelope};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::format;
use groundskeeper_journal::{Base, Error, ReadOnlyLog, stream_format};
use tempfile::NamedTempFile;

use crate::args::{ExportArgs, Form};
use crate::filter::Wanted;
use crate::out::{Out, note};
use crate::problem::{DAMAGED, INTACT, Problem, write};
use crate::source::Source;

/// Exports.
pub(crate) fn export(args: &ExportArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    match (args.format, args.output.as_deref()) {
        (Form::Ndjson, None) => ndjson(args, &source, &mut |line| {
            out.line(line);
            !out.closed
        }),
        (Form::Ndjson, Some(path)) => {
            let (mut file, mut failed) = (fresh(path)?, None);
            let code = ndjson(args, &source, &mut |line| {
                failed = writeln!(file, "{line}").err();
                failed.is_none()
            })?;
            match failed {
                Some(e) => Err(write("write", path)(e)),
                None => keep(file, path).map(|()| code),
            }
        }
        (Form::Flat, Some(path)) => flat_file(&source, path),
        (Form::Sqlite, Some(path)) => sqlite(args, &source, path),
        (form, None) => {
            let what = format!("--format {form:?} needs an output file").to_lowercase();
            Err(Problem::usage(what, "add --output FILE"))
        }
    }
}

/// A file that gets its name when it is whole.
pub(crate) fn fresh(path: &Path) -> Result<NamedTempFile, Problem> {
    if path.try_exists().map_err(write("check", path))? {
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(write("write", path)(there));
    }
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    NamedTempFile::new_in(dir).map_err(write("write", path))
}

pub(crate) fn keep(file: NamedTempFile, path: &Path) -> Result<(), Problem> {
    file.as_file().sync_all().map_err(write("write", path))?;
    file.persist_noclobber(path).map_err(|e| write("write", path)(e.error))?;
    note(&format!("written to {}", path.display()));
    Ok(())
}

/// Hands on every wanted record; says whether all could be read.
fn each(
    args: &ExportArgs,
    source: &Source,
    take: &mut dyn FnMut(&Envelope<'_>, &Record) -> bool,
) -> Result<u8, Problem> {
    let wanted = Wanted::new(&args.filter)?;
    let mut damaged = 0_u64;
    let range = Range { from: wanted.from(), to: wanted.to(), backwards: false };
    let walked = source.log.walk(range, &mut |key, bytes| {
        let decoded = envelope::open(key, bytes).and_then(|sealed| {
            let decoded = if wanted.takes(&sealed) { Some(codec::decode(&sealed)?) } else { None };
            Ok((sealed, decoded))
        });
        match decoded {
            Ok((sealed, Some(Decoded::Record(record)))) => {
                let wants = wanted.wants(&record, &format::json(&record));
                if wants && !take(&sealed, &record) {
                    return ControlFlow::Break(());
                }
            }
            Ok((_, None)) => {}
            Ok((_, Some(Decoded::Newer(what)))) => {
                note(&format!("warning: {what}; use a newer replay to read it"));
                damaged += 1;
            }
            Err(damage) => {
                note(&format!("warning: {damage}"));
                damaged += 1;
            }
        }
        ControlFlow::Continue(())
    });
    match walked {
        Err(Error::Damaged { damage, .. }) => {
            note(&format!("warning: {damage}"));
            damaged += 1;
        }
        other => other?,
    }
    if damaged > 0 {
        note("warning: the export is partial\nhint: `replay verify FILE` lists all damage");
    }
    Ok(if damaged > 0 { DAMAGED } else { INTACT })
}

fn ndjson(
    args: &ExportArgs,
    source: &Source,
    line: &mut dyn FnMut(&str) -> bool,
) -> Result<u8, Problem> {
    each(args, source, &mut |_, record| line(&format::json(record).to_string()))
}

/// A whole copy in the flat form; what is damaged is not copied as if it were whole.
fn flat_file(source: &Source, path: &Path) -> Result<u8, Problem> {
    let log = &source.log;
    let mut file = std::io::BufWriter::new(fresh(path)?);
    let (log_id, after, base) = (log.log_id(), log.before(), log.base());
    let start = stream_format::Start { log_id, after, has_base: base.is_some() };
    let base = base.map(Base::frame).unwrap_or_default();
    file.write_all(&stream_format::head(&start)).map_err(write("write", path))?;
    file.write_all(&base).map_err(write("write", path))?;
    if start.has_base {
        lives(log, &mut file, path)?;
    }
    let (mut chain, mut failed) = (log.chain(), None);
    log.walk(Range::ALL, &mut |key, bytes| {
        let copied: Result<(), Problem> = match chain.next(key, bytes) {
            Ok(_) => file.write_all(bytes).map_err(write("write", path)),
            Err(damage) => Err(Error::Damaged { path: source.path.clone(), damage }.into()),
        };
        failed = copied.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(problem) = failed {
        return Err(problem);
    }
    file.write_all(&stream_format::end(chain.last())).map_err(write("write", path))?;
    let file = file.into_inner().map_err(|e| write("write", path)(e.into_error()))?;
    keep(file, path)?;
    Ok(INTACT)
}

/// Takes along the lives that the state has forgotten.
fn lives(log: &ReadOnlyLog, file: &mut impl Write, path: &Path) -> Result<(), Problem> {
    let mut failed = None;
    log.lives(&mut |lives| {
        if failed.is_none() {
            failed = file.write_all(&stream_format::lives(lives)?).err();
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), |e| Err(write("write", path)(e)))
}

#[cfg(feature = "sqlite")]
const TABLES: &str = "
CREATE TABLE log (log_id TEXT, first INTEGER, last INTEGER, exported_by TEXT);
CREATE TABLE records (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, at_ns INTEGER NOT NULL,
  boot INTEGER NOT NULL, kind TEXT NOT NULL, operation TEXT NOT NULL, environment TEXT,
  migration TEXT, actor TEXT, bytes INTEGER NOT NULL, crc TEXT NOT NULL, says TEXT NOT NULL,
  record TEXT NOT NULL);
";

#[cfg(feature = "sqlite")]
const INDEXES: &str = "
CREATE INDEX records_environment ON records (environment, seq);
CREATE INDEX records_kind ON records (kind, seq);
CREATE INDEX records_at ON records (at_ns);
";

#[cfg(feature = "sqlite")]
fn sqlite(args: &ExportArgs, source: &Source, path: &Path) -> Result<u8, Problem> {
    use rusqlite::Connection;
    let failed = |e: rusqlite::Error| write("write", path)(e);
    let file = fresh(path)?;
    let mut db = Connection::open(file.path()).map_err(failed)?;
    // A copy that can be made again needs no journal of its own.
    db.pragma_update(None, "journal_mode", "OFF").map_err(failed)?;
    db.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
    db.execute_batch(TABLES).map_err(failed)?;
    let txn = db.transaction().map_err(failed)?;
    let (mut first, mut last, mut trouble) = (None, 0, None);
    let code = {
        let mut insert = txn
            .prepare("INSERT INTO records VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)")
            .map_err(failed)?;
        each(args, source, &mut |sealed, record| {
            first.get_or_insert(record.seq.0);
            last = record.seq.0;
            trouble = insert_one(&mut insert, sealed, record).err();
            trouble.is_none()
        })?
    };
    if let Some(e) = trouble {
        return Err(failed(e));
    }
    let id = format::hex(&source.log.log_id());
    let by = concat!("replay ", env!("CARGO_PKG_VERSION"));
    let first = first.unwrap_or(0).cast_signed();
    txn.execute("INSERT INTO log VALUES (?1,?2,?3,?4)", (id, first, last.cast_signed(), by))
        .map_err(failed)?;
    txn.execute_batch(INDEXES).map_err(failed)?;
    txn.commit().map_err(failed)?;
    db.close().map_err(|(_, e)| failed(e))?;
    keep(file, path)?;
    Ok(code)
}

#[cfg(feature = "sqlite")]
fn insert_one(
    insert: &mut rusqlite::Statement<'_>,
    sealed: &Envelope<'_>,
    record: &Record,
) -> rusqlite::Result<()> {
    let json = format::json(record);
    let actor = json.get("actor").filter(|a| a.is_object()).map(ToString::to_string);
    let event = &record.event;
    insert.execute(rusqlite::params![
        record.seq.0.cast_signed(),
        format::rfc3339(record.at),
        record.at.0.cast_signed(),
        record.boot,
        event.kind(),
        crate::filter::operation_of(event.kind_number()),
        event.environment().map(EnvironmentId::as_str),
        event.migration().map(MigrationId::as_str),
        actor,
        ((sealed.payload.len() + envelope::HEADER_BYTES) as u64).cast_signed(),
        format!("{:08x}", sealed.crc),
        groundskeeper_journal::describe::event(event),
        json.to_string(),
    ])?;
    Ok(())
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &ExportArgs, _: &Source, _: &Path) -> Result<u8, Problem> {
    Err(Problem::usage(
        "this replay was built without SQLite",
        "use --format ndjson, or build with the feature `sqlite`",
    ))
}
