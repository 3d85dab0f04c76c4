//! Signals of the process: those that ask it to end or to reload, and those that report the end of
//! a child.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::config_file;
use crate::world::process::orphans;

/// Longest time that an orphan stays a zombie after it has ended.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// Reaps orphaned processes of hooks when they end; many ends in a row make one round.
pub(super) async fn collect_orphans() {
    let Ok(mut children) = signal(SignalKind::child()) else { return };
    while children.recv().await.is_some() {
        tokio::time::sleep(ORPHANS_EVERY).await;
        match tokio::task::spawn_blocking(orphans::collect).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot collect orphans"),
            Err(_) => return,
        }
    }
}

/// Why a daemon stops to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It ends, for this reason.
    Stop(&'static str),
    /// It starts again in the same process, with the settings as they are now.
    Reload,
}

impl End {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Stop(why) => why,
            Self::Reload => "a reload",
        }
    }
}

/// Waits for a signal, a request to stop, or the end of the engine, and returns which it was. A
/// reload with settings that cannot be used is refused, and the daemon goes on with those it has.
pub(super) async fn wait_for_end(
    signals: &mut Signals,
    (mut stop, mut reload): (watch::Receiver<bool>, watch::Receiver<bool>),
    mut engine_ended: oneshot::Receiver<()>,
) -> End {
    loop {
        tokio::select! {
            asked = signals.next_or_reload() => {
                if let Some(why) = asked {
                    return End::Stop(why);
                }
            }
            _ = stop.wait_for(|stop| *stop) => return End::Stop("request"),
            _ = &mut engine_ended => return End::Stop("the engine ended"),
            Ok(_) = reload.wait_for(|wanted| *wanted) => return End::Reload,
        }
        match config_file::load() {
            Ok(_) => return End::Reload,
            Err(fault) => tracing::error!(%fault, "not reloaded"),
        }
    }
}

/// The signals that ask the process to end. From its creation on they end the process in order;
/// before, they kill it.
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. Without a handler a signal ends the process at once, which is also
    /// safe.
    #[must_use]
    pub fn listen() -> Self {
        let terminate = signal(SignalKind::terminate()).ok();
        Self { terminate, interrupt: signal(SignalKind::interrupt()).ok(), hangup: None }
    }

    /// Takes `SIGHUP` for a request to reload, if wanted. Of a terminal that is closed it is the
    /// end.
    #[must_use]
    pub fn with_reload(mut self, wanted: bool) -> Self {
        if wanted && !std::io::stdin().is_terminal() {
            self.hangup = signal(SignalKind::hangup()).ok();
        }
        self
    }

    /// Waits for a signal since the creation that asks the process to end, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        loop {
            if let Some(why) = self.next_or_reload().await {
                return why;
            }
        }
    }

    /// Waits for a signal since the creation, and returns its name; none for a reload.
    async fn next_or_reload(&mut self) -> Option<&'static str> {
        tokio::select! {
            () = on(&mut self.terminate) => Some("SIGTERM"),
            () = on(&mut self.interrupt) => Some("SIGINT"),
            () = on(&mut self.hangup) => None,
        }
    }
}

async fn on(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
