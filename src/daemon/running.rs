//! The daemon of a data directory as another process finds it: by its lock, its info file, and the
//! start time of its process. It needs no socket, and starts nothing.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use groundskeeper_system::linux_calls;
use groundskeeper_system::own_file::{self, Links};
use rustix::process::{Pid, Signal, kill_process};

use crate::core::{Code, Fault};
use crate::daemon::info::{Info, read_info};
use crate::world::fs::data_dir::Layout;
use crate::world::process::table;

/// Time in which a daemon writes a removed info file again.
const INFO_LIMIT: Duration = Duration::from_secs(3);

/// Returns the daemon that owns a data directory; none if no process holds its lock, or the one
/// that holds it has not described itself yet.
#[must_use]
pub fn find(layout: &Layout) -> Option<Info> {
    read_info(layout).filter(|info| info.may_be_alive() && is_locked(layout))
}

/// Like [`find`], and waits a bounded time for the info file where the lock is held: the same
/// program that removed the socket may have removed it.
#[expect(clippy::disallowed_methods, reason = "a file of another process cannot be awaited")]
#[must_use]
pub fn find_patiently(layout: &Layout) -> Option<Info> {
    let until = Instant::now() + INFO_LIMIT;
    loop {
        let found = find(layout);
        if found.is_some() || !is_locked(layout) || Instant::now() >= until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns whether a process holds the lock of a data directory: a daemon, a child that a killed
/// one was starting, or a migration without a daemon. A daemon that starts in the very
/// moment tries again, so the lock that is taken here cannot keep it out.
#[must_use]
pub fn is_locked(layout: &Layout) -> bool {
    let open = own_file::open(&layout.daemon_lock(), File::options().read(true), Links::Refused);
    open.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Sends SIGTERM to a daemon that [`find`] returned. A process that reuses its pid gets none.
///
/// # Errors
/// When its start time is not known, or the system refuses the signal.
pub fn terminate(info: &Info) -> Result<(), Fault> {
    let pid = i32::try_from(info.pid).ok().and_then(Pid::from_raw);
    let (Some(pid), Some(started)) = (pid, info.started) else {
        let message = format!("the daemon (pid {}) cannot be asked to end", info.pid);
        let hint = format!("end it with `kill {}` if that process is the daemon", info.pid);
        return Err(Fault::new(Code::DaemonUnreachable, message, hint));
    };
    // Before the start time is read: from then on the descriptor stands for that process.
    let process = linux_calls::pidfd_open(pid);
    if table::has_ended(info.pid, started) {
        return Ok(());
    }
    let sent = match process {
        Ok(process) => linux_calls::pidfd_send_signal(process, Signal::TERM),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {
            kill_process(pid, Signal::TERM).map_err(Into::into)
        }
        Err(e) => Err(e),
    };
    match sent {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            let message = format!("cannot end the daemon (pid {})", info.pid);
            let hint = format!("end it with `kill {}` as its user", info.pid);
            Err(Fault::new(Code::PermissionDenied, message, hint).because(e))
        }
        _ => Ok(()),
    }
}
