//! The sweep on request, and the sweep of a daemon start.

use std::sync::Arc;

use crate::core::event::{Actor, SweepRequested};
use crate::core::policy::SWEEP_LIMIT;
use crate::core::{Code, Command, Fault};
use crate::format::rfc3339;
use crate::service::app::{App, wait_until};
use crate::service::relocation;
use crate::service::types::sweep::{SweepRequest, SweepView};

/// Seconds to wait for the end of a sweep if the request gives no wait.
const WAIT_SECONDS: u64 = 600;
/// Sweeps that a request starts or waits for before it gives up.
const TRIES: usize = 5;

/// Looks for what no record explains, and with `apply` settles what is proven to be managed.
///
/// # Errors
/// If other sweeps stay in progress, or the wait ends first.
pub(crate) async fn sweep(
    app: &Arc<App>,
    actor: Actor,
    wanted: SweepRequest,
    wait: Option<u64>,
) -> Result<SweepView, Fault> {
    let SweepRequest { apply, limit } = wanted;
    relocation::update_all_paths(app).await?;
    let wait = wait.unwrap_or(WAIT_SECONDS);
    let mut begun = false;
    // `changed` is false if another sweep, such as that of a start, is in progress. Its result may
    // be for another `apply` and `limit`, so this request waits for its end and retries.
    for _ in 0..TRIES {
        let command = Command::Sweep(SweepRequested { apply, limit, actor: actor.clone() });
        begun = app.handle.submit(command).await?.changed;
        wait_until(app, wait, |s| s.sweep().is_none()).await?;
        if begun {
            break;
        }
    }
    if !begun {
        let hint = "retry when they have ended";
        let fault = Fault::new(Code::EnvironmentBusy, "other sweeps are in progress", hint);
        return Err(fault.transient());
    }
    let view = app.handle.view(|state| {
        state.last_sweep().map(|(at, finished)| SweepView::of(rfc3339(*at), finished))
    });
    view.ok_or_else(|| Fault::new(Code::Defect, "the sweep left no result", "please report this"))
}

/// Requests the sweep of a daemon start, which settles what is proven to be managed. Only logs a
/// failure: a start does not depend on it.
pub async fn sweep_at_start(app: Arc<App>) {
    let actor = Actor { pid: std::process::id(), ..Actor::daemon() };
    let command = Command::Sweep(SweepRequested { apply: true, limit: SWEEP_LIMIT, actor });
    if let Err(fault) = app.handle.submit(command).await {
        tracing::debug!(%fault, "cannot start the sweep of the daemon start");
    }
}
