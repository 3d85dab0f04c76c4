//! The data directory and its lock: one daemon owns a data directory at a time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use groundskeeper_system::own_file::{self, Links};

use crate::core::{Code, Fault};
use crate::daemon::info::read_info;
use crate::journal::{self, Inspection, Journal};
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Longest time that a child of a killed daemon takes until it executes its own program.
const HALF_STARTED: Duration = Duration::from_secs(2);

/// Returns the real path of the data directory; creates it, for its owner only, if it is missing.
pub(super) fn create_directory(path: &Path) -> Result<PathBuf, Fault> {
    own_file::make_folder(path).map_err(paths::failed("create the data directory", path))?;
    path.canonicalize().map_err(paths::failed("find the data directory", path))
}

/// Takes the lock of a data directory. It is held until the file is dropped.
///
/// # Errors
/// `already_running` when another process holds it.
pub(super) fn take_lock(layout: &Layout) -> Result<File, Fault> {
    let path = layout.daemon_lock();
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    let open = own_file::open(&path, &options, Links::Refused);
    let file = open.map_err(paths::failed("open", &path))?;
    match lock_left_by_killed_daemon(&file, layout) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let holder = read_info(layout).map_or_else(
                || "another process".to_owned(),
                |info| format!("process {} (version {})", info.pid, info.version),
            );
            let message = format!("{holder} owns the data directory {}", layout.root().display());
            let hint =
                "use that daemon, stop it with `groundskeeper stop`, or choose another --data-dir";
            Err(Fault::new(Code::AlreadyRunning, message, hint))
        }
        Err(TryLockError::Error(e)) => Err(paths::fault("lock", &path, &e)),
    }
}

/// Takes the lock. If the process in the info file has ended, a held lock is retried for a short
/// time: a child that the killed daemon was starting holds it until it executes its program.
#[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
fn lock_left_by_killed_daemon(file: &File, layout: &Layout) -> Result<(), TryLockError> {
    let until = Instant::now() + HALF_STARTED;
    loop {
        let taken = file.try_lock();
        let lives = || read_info(layout).is_some_and(|info| info.may_be_alive());
        if !matches!(taken, Err(TryLockError::WouldBlock)) || Instant::now() >= until || lives() {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens the log of a data directory whose lock is held. No other daemon has it then: where it is
/// locked, a child that the killed daemon was starting holds it, which closes its files one by one.
///
/// # Errors
/// As [`Journal::open`].
#[expect(clippy::disallowed_methods, reason = "a file lock cannot be awaited with a bound")]
pub(super) fn open_log(path: &Path) -> Result<(Journal, Inspection), journal::Error> {
    let until = Instant::now() + HALF_STARTED;
    loop {
        let opened = Journal::open(path, journal::Options::default());
        if !matches!(opened, Err(journal::Error::Busy { .. })) || Instant::now() >= until {
            return opened;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
