//! Handlers for the contents of environments: removal evidence, sizes, adoption; and the query of
//! the world that other handlers use.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::problem::invalid;
use super::relocation;
use crate::api::app::{App, blocking};
use crate::api::environments::view_of;
use crate::api::extract::{Answer, Body, Named, Shared, environment_id};
use crate::core::event::{Actor, Size};
use crate::core::{
    Adopt, Command, Environment, EnvironmentId, Fault, Phase, Time, destroyed, not_found,
};
use crate::format::rfc3339;
use crate::world::fs::paths;
use crate::world::git::marker::Marker;
use crate::world::process::cancel::Cancel;

/// Returns a copy of an environment that is not tombstoned, for a query outside the state lock.
pub(super) fn live_environment(app: &App, id: &EnvironmentId) -> Result<Environment, Fault> {
    app.handle.view(|state| match state.environment(id) {
        None => Err(not_found(id)),
        Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(id)),
        Some(e) => Ok(e.clone()),
    })
}

/// Runs a query against the world on a thread that may block.
pub(super) async fn query_world<T: Send + 'static>(
    app: &Arc<App>,
    question: impl FnOnce(&App, &Cancel) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let app = Arc::clone(app);
    blocking(move || {
        let cancel =
            Cancel::new().map_err(paths::failed("watch a process in", app.layout.root()))?;
        question(&app, &cancel)
    })
    .await
}

/// Whether an environment may go, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct EvidenceView {
    /// Its name.
    pub id: String,
    /// Whether nothing would be lost and nobody uses it.
    pub safe: bool,
    /// Work that a removal would take away.
    pub unsaved: Vec<String>,
    /// Who uses it: leases, and processes that a removal would end.
    pub in_use: Vec<String>,
    /// The commit that HEAD is at.
    pub head: String,
    /// When something in it last changed, RFC 3339.
    pub last_change: String,
    /// The command that resolves it.
    pub hint: String,
}

/// The evidence on whether an environment may go. Changes nothing.
#[cfg_attr(test, utoipa::path(
    get,
    tag = "inside",
    path = "/v1/environments/{id}/evidence",
    responses((status = 200, body = EvidenceView), super::document::Failure),
))]
pub(super) async fn evidence(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Json<EvidenceView>> {
    let environment = environment_id(&id)?;
    relocation::update_path_of(&app, &environment).await?;
    let env = live_environment(&app, &environment)?;
    let leases: Vec<String> = app.handle.view(|state| {
        let leases = state.leases().filter(|(_, l)| l.environment == environment);
        leases.map(|(id, l)| format!("lease {id}: {}", l.purpose)).collect()
    });
    let (seen, found) = query_world(&app, move |app, cancel| {
        // An error fails the request: work that cannot be inspected is never reported as safe.
        let seen = app.world.inspect_work(&env, cancel)?;
        Ok((seen, app.world.processes(&env, actor.pid)))
    })
    .await?;
    let running = found.inside.iter().map(|p| format!("process {} {} ({})", p.pid, p.name, p.why));
    let in_use: Vec<String> = leases.into_iter().chain(running).collect();
    let safe = seen.unsaved.is_empty() && in_use.is_empty();
    let hint = if seen.unsaved.is_empty() {
        format!("groundskeeper rm {id}")
    } else {
        format!("groundskeeper rm {id} --force")
    };
    let last_change = rfc3339(Time(seen.last_change.saturating_mul(1_000_000_000)));
    let (unsaved, head) = (seen.unsaved, seen.head);
    let view = EvidenceView { id, safe, unsaved, in_use, head, last_change, hint };
    Ok(Json(view))
}

/// How much space something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SizeView {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes as their lengths say.
    pub apparent: u64,
    /// Bytes of the blocks they take.
    pub allocated: u64,
}

impl From<Size> for SizeView {
    fn from(size: Size) -> Self {
        Self { entries: size.entries, apparent: size.apparent, allocated: size.allocated }
    }
}

/// How much space an environment takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UsageView {
    /// Its name.
    pub id: String,
    /// All of it.
    pub total: SizeView,
    /// The part that tools rebuild, which `clean` drops.
    pub rebuildable: SizeView,
}

/// Measures an environment.
#[cfg_attr(test, utoipa::path(
    get,
    tag = "inside",
    path = "/v1/environments/{id}/usage",
    responses((status = 200, body = UsageView), super::document::Failure),
))]
pub(super) async fn usage(State(app): Shared, Named(id): Named) -> Answer<Json<UsageView>> {
    let id = environment_id(&id)?;
    relocation::update_path_of(&app, &id).await?;
    let env = live_environment(&app, &id)?;
    let usage = query_world(&app, move |app, cancel| app.world.usage(&env, cancel)).await?;
    let (total, rebuildable) = (usage.total.into(), usage.rebuildable.into());
    Ok(Json(UsageView { id: id.to_string(), total, rebuildable }))
}

/// A request to adopt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// The worktree, absolute.
    pub path: String,
    /// Its name; made up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Takes in a worktree that somebody else made: it is watched and leased, and never deleted.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "inside",
    path = "/v1/adopt",
    request_body = Adoption,
    responses((status = 201, body = super::types::EnvironmentView), super::document::Failure),
))]
pub(super) async fn adopt(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Body(wanted): Body<Adoption>,
) -> Answer<Response> {
    let path = std::path::PathBuf::from(&wanted.path);
    if !path.is_absolute() {
        return Err(invalid(format!("path must be absolute, not {:?}", wanted.path)).into());
    }
    let environment = match &wanted.id {
        Some(id) => environment_id(id)?,
        None => relocation::random_id()?,
    };
    let foreign = query_world(&app, move |app, cancel| {
        let knows = |marker: &Marker| {
            let id = EnvironmentId::parse(&marker.environment).ok();
            let (life, nonce) = (marker.incarnation, marker.nonce.as_str());
            id.is_some_and(|id| app.handle.view(|state| state.knows(&id, life, nonce)))
        };
        app.world.foreign(&path, &knows, cancel)
    })
    .await?;
    let (plan, head, worktree) = (foreign.plan, foreign.head, foreign.worktree);
    let id = environment.clone();
    let nonce = relocation::new_nonce()?;
    let command = Command::Adopt(Adopt { environment, plan, head, worktree, actor, nonce });
    app.handle.submit(command).await?;
    Ok((StatusCode::CREATED, Json(view_of(&app, &id)?)).into_response())
}
