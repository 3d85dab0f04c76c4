//! Handler for the sweep, and the sweep of a daemon start.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};

use super::problem::Refusal;
use super::relocation;
use super::types::WaitQuery;
use crate::api::app::{App, wait_until};
use crate::api::extract::{Answer, Body, Params, Shared};
use crate::core::event::{Actor, Finding, SweepFinished, SweepRequested};
use crate::core::policy::SWEEP_LIMIT;
use crate::core::{Code, Command, Fault};
use crate::format::rfc3339;

/// A request to sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Settle what is proven ours; otherwise it is only named.
    #[serde(default)]
    pub apply: bool,
    /// Most things that may be settled; with more nothing is.
    #[serde(default = "sweep_limit")]
    pub limit: u64,
}

fn sweep_limit() -> u64 {
    SWEEP_LIMIT
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SweepView {
    /// When it ended, RFC 3339.
    pub at: String,
    /// What was found, bounded.
    pub findings: Vec<FindingView>,
    /// How many were found.
    pub found: u64,
    /// How many were settled.
    pub settled: u64,
    /// Why it stopped before the end; empty when it did not.
    pub held: String,
}

/// One thing that no record explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct FindingView {
    /// What it is.
    pub kind: String,
    /// Where it is.
    pub path: String,
    /// Whether marker and log prove that it is ours.
    pub ours: bool,
    /// Whether it was settled.
    pub settled: bool,
    /// What is known of it, and what to do.
    pub detail: String,
}

impl SweepView {
    fn of(at: String, s: &SweepFinished) -> Self {
        let findings = s.findings.iter().map(|f: &Finding| FindingView {
            kind: f.kind.clone(),
            path: f.path.to_string(),
            ours: f.ours,
            settled: f.settled,
            detail: f.detail.clone(),
        });
        Self {
            at,
            findings: findings.collect(),
            found: s.found,
            settled: s.settled,
            held: s.held.clone(),
        }
    }
}

/// Looks for what no record explains, and settles what is proven ours if asked to.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "kept",
    path = "/v1/sweep",
    params(WaitQuery),
    request_body = SweepRequest,
    responses((status = 200, body = SweepView), super::document::Failure),
))]
pub(super) async fn sweep(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<SweepRequest>,
) -> Answer<Json<SweepView>> {
    const WAIT_SECONDS: u64 = 600;
    const TRIES: usize = 5;
    let SweepRequest { apply, limit } = wanted;
    relocation::update_all_paths(&app).await?;
    let wait = query.wait.unwrap_or(WAIT_SECONDS);
    let mut begun = false;
    // `changed` is false if another sweep, such as that of a start, is in progress. Its result may
    // be for another `apply` and `limit`, so this request waits for its end and retries.
    for _ in 0..TRIES {
        let command = Command::Sweep(SweepRequested { apply, limit, actor: actor.clone() });
        begun = app.handle.submit(command).await?.changed;
        wait_until(&app, wait, |s| s.sweep().is_none()).await?;
        if begun {
            break;
        }
    }
    if !begun {
        let hint = "retry when they have ended";
        let fault = Fault::new(Code::EnvironmentBusy, "other sweeps are in progress", hint);
        return Err(Refusal(fault.transient()));
    }
    let view = app.handle.view(|state| {
        state.last_sweep().map(|(at, finished)| SweepView::of(rfc3339(*at), finished))
    });
    view.map(Json).ok_or_else(|| {
        Refusal(Fault::new(Code::Defect, "the sweep left no result", "please report this"))
    })
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
