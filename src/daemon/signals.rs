//! Signals of the process: those that ask it to end, and those that report the end of a child.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

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

/// Waits for a signal, a request to stop, or the end of the engine, and returns which it was.
pub(super) async fn wait_for_end(
    signals: &mut Signals,
    mut stop: watch::Receiver<bool>,
    engine_ended: oneshot::Receiver<()>,
) -> &'static str {
    tokio::select! {
        why = signals.next() => why,
        _ = stop.wait_for(|stop| *stop) => "request",
        _ = engine_ended => "the engine ended",
    }
}

/// The signals that ask the process to end. From its creation on they end the process in order;
/// before, they kill it.
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. Without a handler a signal ends the process at once, which is also
    /// safe.
    #[must_use]
    pub fn listen() -> Self {
        let terminate = signal(SignalKind::terminate()).ok();
        Self { terminate, interrupt: signal(SignalKind::interrupt()).ok() }
    }

    /// Waits for a signal since the creation, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        async fn on(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = on(&mut self.terminate) => "SIGTERM",
            () = on(&mut self.interrupt) => "SIGINT",
        }
    }
}
