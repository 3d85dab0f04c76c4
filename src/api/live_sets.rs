//! Handlers for live sets: lists of the environments that must exist on this host, from a control
//! server or from the user in its place.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};

use super::processes::record_ended_processes;
use super::types::RemoveQuery;
use crate::api::app::{App, now};
use crate::api::environments::teardown_options;
use crate::api::extract::{Answer, Body, Shared, environment_id};
use crate::core::event::{Actor, LiveSetTaken};
use crate::core::model::live_set::{LiveSet, REASON, Report};
use crate::core::{Command, Environment, EnvironmentId, Fault, Seq};
use crate::engine::Receipt;

/// Server name in live sets that the user submits.
pub const BY_HAND: &str = "by-hand";
/// Limit of the request body of a live set, in bytes.
pub(super) const LIVE_BYTES_MAX: usize = 2 << 20;

/// A live set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LiveView {
    /// Which server says so.
    #[serde(default = "by_hand")]
    pub server: String,
    /// The server's count of its live sets; older ones are passed over.
    pub epoch: u64,
    /// The environments that are not destroyed. There is no default: a set that is missing is
    /// never an empty one.
    pub live: Vec<String>,
    /// The last record that the server had heard of; what began later is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
    /// Somebody has looked at how much it takes away.
    #[serde(default)]
    pub confirmed: bool,
}

fn by_hand() -> String {
    BY_HAND.to_owned()
}

/// Which live set is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmView {
    /// Its epoch.
    pub epoch: u64,
}

/// An environment that was left alone though it is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct KeptView {
    /// Its name.
    pub id: String,
    /// Why: `leased`, `processes`, `adopted`, `newer`, `more`.
    pub why: String,
}

/// What a live set came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReconciledView {
    /// Its epoch.
    pub epoch: u64,
    /// Older than one that was taken in: nothing was done.
    pub outdated: bool,
    /// It would take away too much at once; it waits to be confirmed.
    pub held: bool,
    /// Not listed and idle: being torn down, or waiting for the confirmation.
    pub retired: Vec<String>,
    /// Not listed, and left alone.
    pub kept: Vec<KeptView>,
    /// Listed, and not here.
    pub missing: Vec<String>,
    /// Listed, and back in service.
    pub healed: Vec<String>,
}

impl ReconciledView {
    pub(crate) fn of(epoch: u64, report: Report) -> Self {
        let names = |ids: Vec<EnvironmentId>| ids.iter().map(ToString::to_string).collect();
        let kept = report.kept.into_iter();
        let kept = kept.map(|k| KeptView { id: k.environment.to_string(), why: k.why });
        Self {
            epoch,
            outdated: report.outdated,
            held: report.held,
            retired: names(report.retired),
            kept: kept.collect(),
            missing: names(report.missing),
            healed: names(report.healed),
        }
    }
}

fn report(taken: LiveSetTaken) -> Report {
    let LiveSetTaken { retired, kept, missing, healed, .. } = taken;
    Report { retired, kept, missing, healed, ..Report::default() }
}

/// Makes this host agree with a live set: what is not listed and idle is torn down like anything
/// else, what is in use is kept, what is missing is named and not made again.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "live",
    path = "/v1/reconcile",
    request_body = LiveView,
    responses((status = 200, body = ReconciledView), super::document::Failure),
))]
pub(super) async fn reconcile(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<LiveView>,
) -> Answer<Json<ReconciledView>> {
    Ok(Json(apply_live_set(&app, wanted, actor).await?))
}

/// Applies a live set and returns what it led to.
pub(crate) async fn apply_live_set(
    app: &App,
    wanted: LiveView,
    actor: Actor,
) -> Result<ReconciledView, Fault> {
    let live: Result<BTreeSet<_>, _> = wanted.live.iter().map(|id| environment_id(id)).collect();
    let known = wanted.known.map_or_else(|| app.handle.view(crate::core::State::seq), Seq);
    let (server, epoch) = (wanted.server.chars().take(64).collect(), wanted.epoch);
    let by_hand = wanted.server == BY_HAND;
    let set = LiveSet { server, epoch, live: live?, known, confirmed: wanted.confirmed, by_hand };
    // A registered process that has ended unreported would keep its environment.
    let lived_in: Vec<Environment> = app.handle.view(|state| {
        let unlisted = state.environments().filter(|e| !set.live.contains(&e.id));
        unlisted.filter(|e| !e.processes.is_empty()).cloned().collect()
    });
    for env in &lived_in {
        record_ended_processes(app, env).await?;
    }
    let options = teardown_options(&app.config, &RemoveQuery::default(), REASON)?;
    let before = app.handle.view(|state| state.reconcile(now(), &set));
    let command = Command::Reconcile { set: set.clone(), options, actor };
    let receipt = app.handle.submit(command).await?;
    Ok(ReconciledView::of(epoch, decided(app, &set, before, receipt)))
}

/// Returns the decision on a live set: from its record in the log, or from the state before the
/// command if that appended no record or the set was on hold.
fn decided(app: &App, set: &LiveSet, before: Report, receipt: Receipt) -> Report {
    let taken = app.handle.view(|state| state.live().taken.clone());
    let taken = taken.filter(|t| t.server == set.server && t.epoch == set.epoch);
    match taken {
        Some(taken) if receipt.changed && !before.held => report(taken),
        _ => before,
    }
}

/// Lets a live set that waits take effect.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "live",
    path = "/v1/reconcile/confirm",
    request_body = ConfirmView,
    responses((status = 200, body = ReconciledView), super::document::Failure),
))]
pub(super) async fn confirm(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<ConfirmView>,
) -> Answer<Json<ReconciledView>> {
    let options = teardown_options(&app.config, &RemoveQuery::default(), REASON)?;
    let epoch = wanted.epoch;
    app.handle.submit(Command::ConfirmLiveSet { epoch, options, actor }).await?;
    let taken = app.handle.view(|state| state.live().taken.clone());
    Ok(Json(ReconciledView::of(epoch, taken.map(report).unwrap_or_default())))
}
