//! What a daemon and the service manager that started it tell each other: the socket that was
//! opened before the daemon, what it does now, and that it still answers. Without a service manager
//! nothing here does anything.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::net::sockopt;
use sd_notify::NotifyState;

use crate::core::{Code, Fault};
use crate::daemon::signals::End;
use crate::engine::Handle;

/// Hint for a socket that cannot be used.
const HINT: &str =
    "run `groundskeeper service install` again, or start the daemon without a socket";

/// Returns the socket on which the service manager listens for this process; none if there is none.
/// Asked first of all, and once in the life of a process: the descriptor is known by its number
/// alone, and it owns it from then on.
///
/// # Errors
/// If there is more than one, or it is no socket that listens.
pub(super) fn take_listener() -> Result<Option<UnixListener>, Fault> {
    let failed = |e: std::io::Error| {
        let message = "cannot take the socket of the service manager";
        Fault::new(Code::Io, message, HINT).because(e)
    };
    let mut passed = sd_notify::listen_fds().map_err(failed)?;
    let Some(first) = passed.next() else { return Ok(None) };
    if passed.next().is_some() {
        let message = "the service manager passes more than one socket";
        return Err(Fault::new(Code::InvalidConfig, message, HINT));
    }
    #[expect(unsafe_code, reason = "the number of an inherited descriptor is all there is of it")]
    // SAFETY: the service manager opened the descriptor for this process alone, as LISTEN_PID says;
    // it is open, or the call above would have failed; and this process has opened none before.
    let fd = unsafe { OwnedFd::from_raw_fd(first) };
    sockopt::socket_acceptconn(&fd).map_err(|e| failed(e.into())).and_then(|listens| {
        let silent = || std::io::Error::other("it does not listen");
        listens.then_some(()).ok_or_else(|| failed(silent()))
    })?;
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Some(listener))
}

/// Reports that clients can connect.
pub(super) fn ready() {
    drop(sd_notify::notify(&[NotifyState::Ready]));
}

/// Reports that the daemon stops to serve. A reload is no stop, after which it would be killed.
pub(super) fn ending(end: End) {
    let states: Vec<NotifyState<'_>> = match end {
        End::Stop(_) => vec![NotifyState::Stopping],
        End::Reload => {
            let now = NotifyState::monotonic_usec_now().ok();
            std::iter::once(NotifyState::Reloading).chain(now).collect()
        }
    };
    drop(sd_notify::notify(&states));
}

/// Reports, as often as the service manager wants it, that the engine still takes messages. One
/// that does not is ended and started again: its log has all that it acknowledged.
pub(super) async fn watchdog(handle: Handle) {
    // Zero would be no interval.
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut beats = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while let Ok(answers) = handle.answers().await {
        if answers {
            drop(sd_notify::notify(&[NotifyState::Watchdog]));
        }
        beats.tick().await;
    }
}
