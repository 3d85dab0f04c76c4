//! The old database: locked against writers while it is held, and copied.
//!
//! If its log is empty, the one file is complete and no program can write to it, so it is copied as
//! plain bytes. Otherwise SQLite copies it with its log. Both ways give the same content, which a
//! checksum verifies. Nothing here changes the old database.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::access;
use super::files::{pause, with_suffix};
use super::sqlite::{self, failed};
use groundskeeper_core::Fault;
use groundskeeper_system::{paths, portable};

/// Bytes copied between two checks for a stop.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Offset of the bytes that SQLite locks, whatever the page size; the database format fixes it.
const LOCKED_AT: u64 = 0x4000_0000;
/// Bounds of the page size of a database, in bytes.
const PAGE_BYTES_MIN: u64 = 512;
const PAGE_BYTES_MAX: u64 = 65_536;
/// Pages copied between two checks for a stop.
const PAGES_AT_ONCE: i32 = 4_096;
/// Pause before the next attempt while another process moves the log into the database.
const TURN: Duration = Duration::from_millis(20);
/// Ranges of the database header that depend on how the database was last written and not on its
/// content: the log mode, two change counters, the schema cookie, and the SQLite version.
const INCIDENTAL: [std::ops::Range<usize>; 4] = [18..20, 24..28, 40..44, 92..100];

/// An old database that no other connection can write to.
pub(super) struct Source {
    _writer: Connection,
    /// Closed after the connection, which is declared before it: a process loses its locks on a
    /// file when it closes any descriptor of that file. So a lent file must not outlive this.
    plain: Arc<File>,
}

impl Source {
    /// Locks a database against all other writers.
    ///
    /// # Errors
    /// `database_in_use` when another connection writes.
    pub(super) fn hold(path: &Path) -> Result<Self, Fault> {
        let plain = Arc::new(File::open(path).map_err(paths::failed("open", path))?);
        let writer = sqlite::open(path)?;
        writer.execute_batch("BEGIN IMMEDIATE").map_err(failed("lock", path))?;
        Ok(Self { _writer: writer, plain })
    }

    /// Returns the open file, to be read while the database is held.
    pub(super) fn shared_file(&self) -> Arc<File> {
        Arc::clone(&self.plain)
    }
}

/// Progress report and stop request of one copy.
pub(super) struct CopyProgress<'a> {
    /// Called with the bytes done and the total bytes.
    pub(super) progress: &'a dyn Fn(u64, u64),
    /// Returns whether a stop was requested.
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// Copies a held database into an empty private file. Returns the checksum of its content.
///
/// # Errors
/// As [`sqlite::open`]; `disk_full`; `cancelled` when asked to stop.
pub(super) fn copy(
    plain: Option<&File>,
    from: &Path,
    to: &Path,
    progress_of_copy: &CopyProgress<'_>,
) -> Result<u32, Fault> {
    let log = with_suffix(from, "-wal");
    match plain {
        Some(file) if log.metadata().map_or(0, |m| m.len()) == 0 => {
            copy_bytes(file, from, to, progress_of_copy)
        }
        _ => {
            copy_pages(from, to, progress_of_copy)?;
            let copied = File::open(to).map_err(paths::failed("open", to))?;
            let idle = CopyProgress { progress: &|_, _| (), ..*progress_of_copy };
            each_part(&copied, to, &idle, |_| Ok(()))
        }
    }
}

fn copy_bytes(
    file: &File,
    from: &Path,
    to: &Path,
    progress_of_copy: &CopyProgress<'_>,
) -> Result<u32, Fault> {
    let mut target = access::open_again(to)?;
    each_part(file, from, progress_of_copy, |part| {
        target.write_all(part).map_err(paths::failed("write", to))
    })
}

/// Reads a database part by part. Returns the checksum of its content.
fn each_part(
    file: &File,
    path: &Path,
    progress_of_copy: &CopyProgress<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<u32, Fault> {
    let of = file.metadata().map_err(paths::failed("read", path))?.len();
    let (mut sum, mut done, mut part) = (0, 0, vec![0; BYTES_AT_ONCE]);
    let page = page_size(file).map_err(paths::failed("read", path))?;
    loop {
        let n = read_part(file, &mut part, done, page).map_err(paths::failed("read", path))?;
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
        (progress_of_copy.progress)(done, of);
        if (progress_of_copy.cancelled)() {
            return Err(sqlite::stopped());
        }
    }
}

/// Returns the size of a page, from the header of the database; the smallest for another file.
fn page_size(file: &File) -> io::Result<u64> {
    let mut field = [0; 2];
    match portable::read_exact_at(file, &mut field, 16) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(PAGE_BYTES_MIN),
        other => other?,
    }
    let size = u64::from(u16::from_be_bytes(field));
    // The largest size does not fit into the field, which then holds 1.
    Ok(if size == 1 { PAGE_BYTES_MAX } else { size.clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX) })
}

/// Reads one part of a database. The page with the bytes that SQLite locks holds no content: it
/// reads as zeros, as in a copy that SQLite makes. On Windows it cannot be read while it is locked.
fn read_part(file: &File, part: &mut [u8], at: u64, page: u64) -> io::Result<usize> {
    let limit = |bytes: u64| part.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let end = LOCKED_AT + page;
    if (LOCKED_AT..end).contains(&at) {
        let bytes = limit(file.metadata()?.len().saturating_sub(at).min(end - at));
        part[..bytes].fill(0);
        return Ok(bytes);
    }
    let bytes = if at < LOCKED_AT { limit(LOCKED_AT - at) } else { part.len() };
    portable::read_at(file, &mut part[..bytes], at)
}

/// Copies a database page by page, including the content of its log.
fn copy_pages(from: &Path, to: &Path, progress_of_copy: &CopyProgress<'_>) -> Result<(), Fault> {
    let source = sqlite::open(from)?;
    let mut target = sqlite::open_private(to)?;
    let size: i64 =
        source.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failed("read", from))?;
    let backup = Backup::new(&source, &mut target).map_err(failed("copy", from))?;
    loop {
        let step = backup.step(PAGES_AT_ONCE).map_err(failed("copy", from))?;
        let at = backup.progress();
        let bytes = |pages: i32| u64::try_from(i64::from(pages) * size).unwrap_or(0);
        (progress_of_copy.progress)(bytes(at.pagecount - at.remaining), bytes(at.pagecount));
        match step {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => pause(TURN),
            _ => {}
        }
        if (progress_of_copy.cancelled)() {
            return Err(sqlite::stopped());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a database with rows, some of which may still be in its log.
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
        let progress_of_copy = CopyProgress { progress: &|_, _| (), cancelled: &|| false };
        let held = Source::hold(from).expect("held");
        let lent = held.shared_file();
        let sum = copy(plain.then_some(&*lent), from, to, &progress_of_copy).expect("copied");
        let there = sqlite::open_private(to).expect("opened");
        sqlite::check(&there, to).expect("whole");
        let ask = "SELECT sum(a) + sum(length(b)) FROM t";
        (sum, there.query_row(ask, [], |row| row.get(0)).expect("read"))
    }

    /// Covers every journal mode, also with content in the log.
    #[test]
    fn both_copy_methods_agree() {
        for mode in ["DELETE", "PERSIST", "WAL"] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = |name: &str| dir.path().join(name);
            let writer = old(&path("old"), mode);
            // The content of the log is in the copy.
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

    /// A database of more than 1 GiB has a page there that no table uses, whatever it holds.
    #[test]
    fn locked_page_reads_as_zeros() {
        use std::os::unix::fs::FileExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("large");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.expect("created");
        file.write_all_at(&[0x10, 0], 16).expect("the page size");
        let page = page_size(&file).expect("read");
        assert_eq!(page, 4_096);
        let bytes = 4_096;
        file.write_all_at(&vec![7; 3 * bytes], LOCKED_AT - page).expect("a sparse file");
        let mut around = Vec::new();
        // A part that begins at an odd offset, as after a short read.
        let (mut part, mut at) = (vec![9; BYTES_AT_ONCE], LOCKED_AT - page);
        loop {
            let n = read_part(&file, &mut part, at, page).expect("read");
            if n == 0 {
                break;
            }
            around.extend_from_slice(&part[..n]);
            at += n as u64;
        }
        let expected = [vec![7; bytes], vec![0; bytes], vec![7; bytes]].concat();
        assert!(around == expected, "{} bytes", around.len());
        // The file may end inside the page.
        file.set_len(LOCKED_AT + 100).expect("cut");
        assert_eq!(read_part(&file, &mut part, LOCKED_AT, page).expect("read"), 100);
        assert_eq!(read_part(&file, &mut part, LOCKED_AT + 100, page).expect("read"), 0);
    }

    /// Closing another descriptor of the file would drop a POSIX lock of this process.
    #[test]
    fn byte_copy_keeps_database_lock() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("old"), dir.path().join("copy"));
        drop(old(&from, "DELETE"));
        sqlite::create_private(&to).expect("an empty file");
        let held = Source::hold(&from).expect("held");
        let progress_of_copy = CopyProgress { progress: &|_, _| (), cancelled: &|| false };
        copy(Some(&*held.shared_file()), &from, &to, &progress_of_copy).expect("copied");
        // Read from the kernel: a process does not conflict with its own locks, so trying one
        // proves nothing.
        let inode = std::os::unix::fs::MetadataExt::ino(&from.metadata().expect("there"));
        let locks = || std::fs::read_to_string("/proc/locks").expect("the system's locks");
        let ours = |locks: &str| locks.lines().any(|l| l.contains(&format!(":{inode} ")));
        assert!(ours(&locks()), "held");
        drop(held);
        assert!(!ours(&locks()), "the lock was released");
    }
}
