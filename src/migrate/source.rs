//! The old database: closed to writers for as long as it is held, and copied.
//!
//! Where its log is empty the one file is all there is, and since nobody may write to it, it is
//! copied as plain bytes; otherwise SQLite copies it, log and all. Both copies hold the same, which
//! a checksum tells. Nothing here changes the old database.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::files::{pause, with_suffix};
use super::sqlite::{self, failed};
use crate::core::Fault;
use crate::world::fs::paths;

/// Bytes that are copied between two looks at whether to stop.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Pages that are copied between two looks at whether to stop.
const PAGES_AT_ONCE: i32 = 4_096;
/// How long to wait for whoever reads the log into the database.
const TURN: Duration = Duration::from_millis(20);
/// Places in the head of a database that say how it was last written, not what it holds: its log
/// mode, two counters of changes, the cookie of its schema, and which SQLite it was.
const INCIDENTAL: [std::ops::Range<usize>; 4] = [18..20, 24..28, 40..44, 92..100];

/// An old database that nobody else writes to.
pub(super) struct Source {
    _writer: Connection,
    /// A process loses its locks on a file when it closes any descriptor of it: so this one is
    /// closed after the connection, and what is lent of it must not outlive the source.
    plain: Arc<File>,
}

impl Source {
    /// Keeps everybody else from writing to a database.
    ///
    /// # Errors
    /// `database_in_use` when somebody writes.
    pub(super) fn hold(path: &Path) -> Result<Self, Fault> {
        let plain = Arc::new(File::open(path).map_err(paths::failed("open", path))?);
        let writer = sqlite::open(path)?;
        writer.execute_batch("BEGIN IMMEDIATE").map_err(failed("lock", path))?;
        Ok(Self { _writer: writer, plain })
    }

    /// Its bytes, to be read while it is held.
    pub(super) fn lend(&self) -> Arc<File> {
        Arc::clone(&self.plain)
    }
}

/// What a copy tells of itself, and what can stop it.
pub(super) struct Course<'a> {
    /// Bytes done, of so many.
    pub(super) progress: &'a dyn Fn(u64, u64),
    /// Whether somebody asked to stop.
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// Copies a database that is held into an empty private file; returns the checksum of what it
/// holds.
///
/// # Errors
/// As [`sqlite::open`]; `disk_full`; `cancelled` when asked to stop.
pub(super) fn copy(
    plain: Option<&File>,
    from: &Path,
    to: &Path,
    course: &Course<'_>,
) -> Result<u32, Fault> {
    let log = with_suffix(from, "-wal");
    match plain {
        Some(file) if log.metadata().map_or(0, |m| m.len()) == 0 => {
            copy_bytes(file, from, to, course)
        }
        _ => {
            copy_pages(from, to, course)?;
            let copied = File::open(to).map_err(paths::failed("open", to))?;
            let idle = Course { progress: &|_, _| (), ..*course };
            each_part(&copied, to, &idle, |_| Ok(()))
        }
    }
}

fn copy_bytes(file: &File, from: &Path, to: &Path, course: &Course<'_>) -> Result<u32, Fault> {
    let mut target = File::options().write(true).open(to).map_err(paths::failed("open", to))?;
    each_part(file, from, course, |part| target.write_all(part).map_err(paths::failed("write", to)))
}

/// Reads a database part by part; returns the checksum of what it holds.
fn each_part(
    file: &File,
    path: &Path,
    course: &Course<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<u32, Fault> {
    let of = file.metadata().map_err(paths::failed("read", path))?.len();
    let (mut sum, mut done, mut part) = (0, 0, vec![0; BYTES_AT_ONCE]);
    loop {
        let n = file.read_at(&mut part, done).map_err(paths::failed("read", path))?;
        if n == 0 {
            return Ok(sum);
        }
        each(&part[..n])?;
        if done == 0 {
            for place in INCIDENTAL {
                part[..n].get_mut(place).unwrap_or_default().fill(0);
            }
        }
        sum = crc32c::crc32c_append(sum, &part[..n]);
        done += n as u64;
        (course.progress)(done, of);
        if (course.cancelled)() {
            return Err(sqlite::stopped());
        }
    }
}

/// Copies a database page by page, with what is in its log.
fn copy_pages(from: &Path, to: &Path, course: &Course<'_>) -> Result<(), Fault> {
    let source = sqlite::open(from)?;
    let mut target = sqlite::open_private(to)?;
    let size: i64 =
        source.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed("read", from))?;
    let backup = Backup::new(&source, &mut target).map_err(failed("copy", from))?;
    loop {
        let step = backup.step(PAGES_AT_ONCE).map_err(failed("copy", from))?;
        let at = backup.progress();
        let bytes = |pages: i32| u64::try_from(i64::from(pages) * size).unwrap_or(0);
        (course.progress)(bytes(at.pagecount - at.remaining), bytes(at.pagecount));
        match step {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => pause(TURN),
            _ => {}
        }
        if (course.cancelled)() {
            return Err(sqlite::stopped());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with rows, some of which may be in its log still.
    fn old(path: &Path, mode: &str) -> Connection {
        let database = Connection::open(path).expect("made");
        let text = format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (a INTEGER PRIMARY KEY, b);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO t SELECT i, hex(randomblob(200)) FROM n;
             DELETE FROM t WHERE a % 7 = 0;"
        );
        database.execute_batch(&text).expect("filled");
        database
    }

    fn copied(from: &Path, to: &Path, plain: bool) -> (u32, i64) {
        sqlite::create_private(to).expect("an empty file");
        let course = Course { progress: &|_, _| (), cancelled: &|| false };
        let held = Source::hold(from).expect("held");
        let lent = held.lend();
        let sum = copy(plain.then_some(&*lent), from, to, &course).expect("copied");
        let there = sqlite::open_private(to).expect("opened");
        sqlite::check(&there, to).expect("whole");
        let ask = "SELECT sum(a) + sum(length(b)) FROM t";
        (sum, there.query_row(ask, [], |row| row.get(0)).expect("read"))
    }

    #[test]
    fn both_ways_to_copy_agree_whatever_the_log_mode() {
        for mode in ["DELETE", "PERSIST", "WAL"] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = |name: &str| dir.path().join(name);
            let writer = old(&path("old"), mode);
            // What is in the log is in the copy.
            let with_log = copied(&path("old"), &path("with-log"), true);
            drop(writer);
            let plain = copied(&path("old"), &path("plain"), true);
            let pages = copied(&path("old"), &path("pages"), false);
            assert_eq!((plain, pages), (pages, with_log), "{mode}");
            let change = Connection::open(path("old")).expect("opened");
            change.execute_batch("UPDATE t SET b = 'x' WHERE a = 4001").expect("changed");
            drop(change);
            let after = copied(&path("old"), &path("after"), true);
            assert_ne!(after.0, plain.0, "{mode}: a change is seen");
        }
    }

    #[test]
    fn reading_the_bytes_leaves_the_lock_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("old"), dir.path().join("copy"));
        drop(old(&from, "DELETE"));
        sqlite::create_private(&to).expect("an empty file");
        let held = Source::hold(&from).expect("held");
        let course = Course { progress: &|_, _| (), cancelled: &|| false };
        copy(Some(&*held.lend()), &from, &to, &course).expect("copied");
        // Another process: locks of this one are no obstacle to itself.
        let inode = std::os::unix::fs::MetadataExt::ino(&from.metadata().expect("there"));
        let locks = || std::fs::read_to_string("/proc/locks").expect("the system's locks");
        let ours = |locks: &str| locks.lines().any(|l| l.contains(&format!(":{inode} ")));
        assert!(ours(&locks()), "held");
        drop(held);
        assert!(!ours(&locks()), "let go");
    }
}
