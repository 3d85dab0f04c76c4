//! Signals of the process: those that ask it to end, and those that report the end of a child.

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::world::process::orphans;

/// Longest time that an orphan stays a zombie after it has ended.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// Reaps orphaned processes of hooks when they end; many ends in a row make one round.
pub(super) async fn collect_orphans() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut children) = signal(SignalKind::child()) else { return };
    while children.recv().await.is_some() {
        tokio::time::sleep(ORPHANS_EVERY).await;
        if tokio::task::spawn_blocking(orphans::collect).await.is_err() {
            return;
        }
    }
}

/// Waits for a signal, a request to stop, or the end of the engine, and returns which it was.
pub(super) async fn wait_for_end(
    mut stop: watch::Receiver<bool>,
    engine_ended: oneshot::Receiver<()>,
) -> &'static str {
    tokio::select! {
        why = on_signal() => why,
        _ = stop.wait_for(|stop| *stop) => "request",
        _ = engine_ended => "the engine ended",
    }
}

/// Waits for a signal that asks the process to end, and returns its name.
pub async fn on_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal ends the process at once, which is also safe.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = on(SignalKind::terminate()) => "SIGTERM",
        () = on(SignalKind::interrupt()) => "SIGINT",
    }
}
