//! Where a log is read from: a file, a data directory, or the daemon that has it open.
//!
//! While a daemon writes to a file nobody else can make sense of it, so its records are asked for
//! over the socket and kept in an unnamed temporary file meanwhile: one consistent copy, read like
//! any flat log. The log itself is opened for reading only, always.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use groundskeeper_journal::{Error, ReadOnlyLog, segments};

use crate::live::{Live, is_locked};
use crate::out::note;
use crate::problem::Problem;

/// A log, and the daemon that has it, when one does.
pub(crate) struct Source {
    /// Its records.
    pub(crate) log: ReadOnlyLog,
    /// Who writes to it.
    pub(crate) live: Option<Live>,
    /// What was named, or the log in it.
    pub(crate) path: PathBuf,
}

/// The log that a path names, and the directory of a daemon that may have it.
pub(crate) fn resolve(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if path.is_dir() {
        return (path.join("log.redb"), Some(path.to_owned()));
    }
    let is_log = path.file_name().is_some_and(|name| name == "log.redb");
    let parent = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    (path.to_owned(), parent.filter(|_| is_log).map(Path::to_owned))
}

impl Source {
    /// Opens what a path names.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let (file, dir) = resolve(path);
        if let Some(live) = dir.as_deref().and_then(Live::find) {
            note(&format!(
                "note: the daemon of {} has this log open; reading a copy through its socket",
                live.dir.display()
            ));
            let log = copy(&live, &file)?.with_segments(&live.dir.join(segments::FOLDER))?;
            return Ok(Self { log, live: Some(live), path: file });
        }
        if is_locked(&file) {
            return Err(Error::Busy { path: file }.into());
        }
        let mut log = ReadOnlyLog::open(&file)?;
        // Trimmed records are read as if they were still there. Of a copy elsewhere, they are not.
        if let Some(dir) = dir {
            log = log.with_segments(&dir.join(segments::FOLDER))?;
        }
        Ok(Self { log, live: None, path: file })
    }
}

fn copy(live: &Live, file: &Path) -> Result<ReadOnlyLog, Problem> {
    let failed = |source| Problem::Daemon { dir: live.dir.clone(), source };
    let mut records = live.records(0, false).map_err(failed)?;
    let mut spool = tempfile::tempfile().map_err(failed)?;
    std::io::copy(&mut records, &mut spool).map_err(failed)?;
    spool.flush().and_then(|()| spool.rewind()).map_err(failed)?;
    let log = ReadOnlyLog::flat(file, spool)?;
    if log.head().is_none() {
        let cut = std::io::Error::other("the connection ended before the end of the log");
        return Err(failed(cut));
    }
    Ok(log)
}
