//! Handlers for archives, which outlive an incarnation: restore, trash, rescue refs.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::relocation;
use super::types::{EnvironmentView, Problem, WaitQuery};
use crate::api::app::{App, wait_until};
use crate::api::extract::{Answer, Body, Named, Params, Shared, environment_id, request_id};
use crate::core::event::{Actor, NestedRescue};
use crate::core::{CleanedOutput, Command, EnvironmentId, Phase, Remains, Restore, not_found};
use crate::format::rfc3339;
use crate::world::copies_in;

/// What is kept of one incarnation that is over, or what a clean took from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RemainsView {
    /// `removed`, or `clean` for what a clean took.
    pub kind: String,
    /// Its name.
    pub id: String,
    /// Which life of it.
    pub incarnation: u32,
    /// When it was over, or the clean was asked for, RFC 3339.
    pub removed_at: String,
    /// Its directory in the trash.
    pub trash: Option<String>,
    /// When that is unlinked, RFC 3339.
    pub expires_at: Option<String>,
    /// Bytes on disk; null until it was measured.
    pub bytes: Option<u64>,
    /// Files, links and directories; null until it was measured.
    pub entries: Option<u64>,
    /// Why it is being unlinked, if it is.
    pub purge: Option<String>,
    /// Why the last attempt at that failed.
    pub error: Option<Problem>,
    /// The ref that holds what no branch has.
    pub rescue: Option<String>,
    /// The commit that ref is at.
    pub commit: Option<String>,
    /// What it holds, in words.
    pub holds: Vec<String>,
    /// What could not be put into it.
    pub lacks: Vec<String>,
    /// Why the directory in the trash is the only place of something; it goes only when it is named
    /// with `lose`.
    #[serde(default)]
    pub only_copy_of: Vec<String>,
    /// Bytes on disk that are pinned by that; 0 while nothing is.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Files that git would not have given back as they were, as far as they are named here.
    #[serde(default)]
    pub raw: Vec<String>,
    /// Repositories that were inside, and the refs that hold them; empty where only copies do.
    #[serde(default)]
    pub nested: Vec<NestedView>,
    /// Its repository: the common git directory.
    pub repo: String,
    /// The branch it was on.
    pub branch: String,
    /// What a clean took, relative to the worktree.
    pub paths: Vec<String>,
}

/// A repository that was inside a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct NestedView {
    /// Where it was, relative to the worktree.
    pub path: String,
    /// The ref that holds its commits and files; null where they are copies alone.
    pub reference: Option<String>,
}

/// Limit of the file names that a view lists of the raw copies of one rescue.
const NAMED_MAX: usize = 40;

impl RemainsView {
    fn of(r: &Remains, trash_seconds: u64) -> Self {
        let last = r.is_last_copy_of();
        let kept = r.trash.is_some() && r.purge.is_empty() && last.is_empty();
        let raw = r.rescue.as_ref().and_then(|rescue| rescue.raw.as_ref());
        let nested = r.rescue.iter().flat_map(|rescue| &rescue.nested);
        let expires = r.at.after(std::time::Duration::from_secs(trash_seconds));
        Self {
            kind: "removed".to_owned(),
            id: r.id.to_string(),
            incarnation: r.incarnation,
            removed_at: rfc3339(r.at),
            trash: r.trash.as_ref().map(ToString::to_string),
            expires_at: kept.then(|| rfc3339(expires)),
            bytes: r.size.map(|s| s.allocated),
            entries: r.size.map(|s| s.entries),
            purge: (!r.purge.is_empty()).then(|| r.purge.clone()),
            error: r.fault.as_ref().map(Problem::of),
            rescue: r.rescue.as_ref().map(|r| r.reference.clone()).filter(|r| !r.is_empty()),
            commit: r.rescue.as_ref().map(|r| r.commit.clone()).filter(|c| !c.is_empty()),
            holds: r.rescue.as_ref().map(|r| r.holds.clone()).unwrap_or_default(),
            lacks: r.rescue.as_ref().map(|r| r.lacks.clone()).unwrap_or_default(),
            pinned_bytes: if last.is_empty() { 0 } else { r.size.map_or(0, |s| s.allocated) },
            only_copy_of: last,
            raw: raw.map(|raw| copies_in(raw, NAMED_MAX)).unwrap_or_default(),
            nested: nested.map(NestedView::of).collect(),
            repo: r.plan.repository.common_dir.to_string(),
            branch: r.plan.branch.clone(),
            paths: Vec::new(),
        }
    }

    fn of_clean(o: &CleanedOutput, seconds: u64) -> Self {
        let kept = o.purge.is_empty() && o.fault.is_none();
        Self {
            kind: "clean".to_owned(),
            id: o.id.to_string(),
            incarnation: o.incarnation,
            removed_at: rfc3339(o.at),
            trash: o.trash.as_ref().map(ToString::to_string),
            expires_at: kept.then(|| rfc3339(o.expires(seconds))),
            bytes: o.size.map(|s| s.allocated),
            entries: o.size.map(|s| s.entries),
            purge: (!o.purge.is_empty()).then(|| o.purge.clone()),
            error: o.fault.as_ref().map(Problem::of),
            rescue: None,
            commit: None,
            holds: Vec::new(),
            lacks: Vec::new(),
            only_copy_of: Vec::new(),
            pinned_bytes: 0,
            raw: Vec::new(),
            nested: Vec::new(),
            repo: o.repository.to_string(),
            branch: o.branch.clone(),
            paths: o.paths.clone(),
        }
    }
}

impl NestedView {
    fn of(nested: &NestedRescue) -> Self {
        let reference = Some(nested.reference.clone()).filter(|r| !r.is_empty());
        Self { path: nested.path.to_string(), reference }
    }
}

/// A request to restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Which life; the last one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u32>,
}

/// Brings an environment back that is destroyed, as a new incarnation.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "kept",
    path = "/v1/environments/{id}/restore",
    params(WaitQuery),
    request_body = RestoreRequest,
    responses(
        (status = 200, body = EnvironmentView, description = "back, or failed"),
        (status = 202, body = EnvironmentView, description = "under way"),
        super::document::Failure,
    ),
))]
pub(super) async fn restore(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<RestoreRequest>,
) -> Answer<Response> {
    let environment = environment_id(&id)?;
    let request = request_id(&headers)?;
    let incarnation = wanted.incarnation;
    let id = environment.clone();
    relocation::update_path_of(&app, &environment).await?;
    let (branch, reuse_branch) = relocation::branch_for(&app, &environment, incarnation).await?;
    let nonce = relocation::new_nonce()?;
    let wanted = Restore { environment, incarnation, branch, reuse_branch, actor, request, nonce };
    app.handle.submit(Command::Restore(wanted)).await?;
    if let Some(seconds) = query.wait {
        let over = |e: &crate::core::Environment| e.phase != Phase::Provisioning;
        wait_until(&app, seconds, |s| s.environment(&id).is_none_or(over)).await?;
    }
    let found = app.handle.view(|s| s.environment(&id).map(|e| EnvironmentView::of(s, e)));
    let found = found.ok_or_else(|| not_found(&id))?;
    let underway = found.phase == Phase::Provisioning.as_str();
    let status = if underway { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(found)).into_response())
}

fn archives(app: &App, wanted: impl Fn(&Remains) -> bool) -> Vec<RemainsView> {
    app.handle.view(|state| {
        let seconds = state.retention().trash_seconds;
        let found = state.remains().filter(|r| wanted(r));
        found.map(|r| RemainsView::of(r, seconds)).collect()
    })
}

/// Lists the trash entries of all environments or of one, outputs of `clean` included.
fn trash_entries(app: &App, only: Option<&EnvironmentId>) -> Vec<RemainsView> {
    let wanted = |id: &EnvironmentId| only.is_none_or(|only| only == id);
    let mut list = archives(app, |r| wanted(&r.id) && r.trash.is_some());
    list.extend(app.handle.view(|state| {
        let seconds = state.retention().clean_seconds;
        let kept = state.outputs().filter(|o| wanted(&o.id) && o.is_listed());
        kept.map(|o| RemainsView::of_clean(o, seconds)).collect::<Vec<_>>()
    }));
    list
}

/// What is in the trash.
#[cfg_attr(test, utoipa::path(
    get,
    tag = "kept",
    path = "/v1/trash",
    responses((status = 200, body = Vec<RemainsView>)),
))]
pub(super) async fn trash(State(app): Shared) -> Json<Vec<RemainsView>> {
    Json(trash_entries(&app, None))
}

/// Whose trash to empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct EmptyQuery {
    /// Only that of this environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// Also what is nowhere else; only with `environment`.
    #[serde(default)]
    pub lose: bool,
    /// Seconds to wait for the end; without it the answer comes at once.
    #[serde(default)]
    pub wait: Option<u64>,
}

/// Unlinks what is in the trash; answers with what is still there.
#[cfg_attr(test, utoipa::path(
    delete,
    tag = "kept",
    path = "/v1/trash",
    params(EmptyQuery),
    responses((status = 200, body = Vec<RemainsView>), super::document::Failure),
))]
pub(super) async fn empty(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<EmptyQuery>,
) -> Answer<Json<Vec<RemainsView>>> {
    let environment = query.environment.as_deref().map(environment_id).transpose()?;
    let only = environment.clone();
    if let Some(id) = &environment {
        relocation::update_path_of(&app, id).await?;
    }
    let lose = query.lose;
    app.handle.submit(Command::EmptyTrash { environment, lose, actor }).await?;
    let wanted = |r: &Remains| only.as_ref().is_none_or(|id| *id == r.id);
    if let Some(seconds) = query.wait {
        // An entry whose unlink failed is retried later. Waiting for it could take the whole limit.
        let going = |r: &Remains| wanted(r) && !r.purge.is_empty() && r.fault.is_none();
        let leaving =
            |o: &CleanedOutput| only.as_ref().is_none_or(|id| *id == o.id) && o.is_going();
        let gone = |s: &crate::core::State| !s.remains().any(going) && !s.outputs().any(leaving);
        wait_until(&app, seconds, gone).await?;
    }
    Ok(Json(trash_entries(&app, only.as_ref())))
}

/// The refs that hold what no branch has.
#[cfg_attr(test, utoipa::path(
    get,
    tag = "kept",
    path = "/v1/rescues",
    responses((status = 200, body = Vec<RemainsView>)),
))]
pub(super) async fn rescues(State(app): Shared) -> Json<Vec<RemainsView>> {
    Json(archives(&app, |r| r.rescue.is_some()))
}

/// Lets go of a rescue: its ref is deleted.
#[cfg_attr(test, utoipa::path(
    delete,
    tag = "kept",
    path = "/v1/rescues/{id}/{incarnation}",
    params(WaitQuery),
    responses((status = 200, body = Vec<RemainsView>), super::document::Failure),
))]
pub(super) async fn drop_rescue(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    axum::extract::Path((id, incarnation)): axum::extract::Path<(String, u32)>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<Vec<RemainsView>>> {
    let environment = environment_id(&id)?;
    let id = environment.clone();
    relocation::update_path_of(&app, &id).await?;
    app.handle.submit(Command::DropRescue { environment, incarnation, actor }).await?;
    if let Some(seconds) = query.wait {
        let gone = |r: &Remains| r.rescue.is_none();
        // A permanent fault may last for days: the drop is retried, but not waited for.
        let stuck = |r: &Remains| r.fault.as_ref().is_some_and(|fault| !fault.transient);
        let over = |r: &Remains| gone(r) || stuck(r);
        wait_until(&app, seconds, |s| s.remains_of(&id, incarnation).is_none_or(over)).await?;
        let kept = app.handle.view(|s| {
            let remains = s.remains_of(&id, incarnation).filter(|r| !gone(r))?;
            remains.fault.clone().filter(|fault| !fault.transient)
        });
        if let Some(fault) = kept {
            return Err(fault.into());
        }
    }
    Ok(Json(archives(&app, |r| r.rescue.is_some())))
}
