//! Handlers that move the rebuildable output of an environment to the trash and put it back.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::contents::SizeView;
use super::types::WaitQuery;
use crate::api::app::{App, wait_until};
use crate::api::extract::{Answer, Named, Params, Shared, environment_id};
use crate::core::event::{Actor, CleanUndone, Cleaned, NotMoved};
use crate::core::{
    CleanedOutput, Code, Command, Environment, EnvironmentId, EnvironmentStep as Step, Fault,
    not_found,
};
use crate::format::rfc3339;

/// Seconds to wait for the end of a clean if the request gives no wait.
const WAIT_SECONDS: u64 = 3_600;

/// How to clean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct CleanQuery {
    /// Seconds to wait for the end.
    #[serde(default)]
    pub wait: Option<u64>,
    /// Unlink it at once: it cannot be put back.
    #[serde(default)]
    pub now: bool,
}

/// A directory that stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct NotMovedView {
    /// Relative to the worktree.
    pub path: String,
    /// Why.
    pub why: String,
}

impl NotMovedView {
    fn all(left: &[NotMoved]) -> Vec<Self> {
        left.iter().map(|n| Self { path: n.path.clone(), why: n.why.clone() }).collect()
    }
}

/// What was taken out of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct CleanedView {
    /// The environment.
    pub id: String,
    /// What was taken, relative to the worktree.
    pub paths: Vec<String>,
    /// How much that was.
    pub size: SizeView,
    /// What was left in its place, and why.
    pub left: Vec<NotMovedView>,
    /// Where it is now; null when nothing was taken, or when it was unlinked.
    pub trash: Option<String>,
    /// When that is unlinked, RFC 3339; until then it can be put back.
    pub expires_at: Option<String>,
}

/// What was put back into an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UndoneView {
    /// The environment.
    pub id: String,
    /// What was put back, relative to the worktree.
    pub returned: Vec<String>,
    /// What stays in the trash, and why.
    pub left: Vec<NotMovedView>,
    /// Where that is; null when nothing stays.
    pub trash: Option<String>,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/environments/{id}/clean", post(clean))
        .route("/v1/environments/{id}/clean/undo", post(undo))
}

async fn ended(app: &App, id: &EnvironmentId, step: Step, wait: Option<u64>) -> Result<(), Fault> {
    let busy = |e: &Environment| e.owed.as_ref().is_some_and(|o| o.step == step);
    let seconds = wait.unwrap_or(WAIT_SECONDS);
    wait_until(app, seconds, |s| !s.environment(id).is_some_and(busy)).await
}

/// Moves the rebuildable output of an environment to the trash, and nothing else.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/clean",
    params(CleanQuery),
    responses((status = 200, body = CleanedView), super::document::Failure),
))]
pub(super) async fn clean(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Params(query): Params<CleanQuery>,
) -> Answer<Json<CleanedView>> {
    let (name, now) = (environment_id(&id)?, query.now);
    app.handle.submit(Command::Clean { environment: name.clone(), now, actor }).await?;
    ended(&app, &name, Step::Clean, query.wait).await?;
    // The unlink is a step of its own after the move, and its failure belongs into this answer.
    if now {
        let going = |o: &CleanedOutput| o.now && o.is_going();
        let seconds = query.wait.unwrap_or(WAIT_SECONDS);
        wait_until(&app, seconds, |s| !s.outputs_of(&name).any(going)).await?;
    }
    let (cleaned, kept) = app.handle.view(|state| {
        let cleaned = state.environment(&name).map(|e| e.cleaned.clone());
        let seconds = state.retention().clean_seconds;
        let trash = cleaned.iter().flatten().find_map(|c| c.trash.clone());
        let kept = state.outputs_of(&name).find(|o| trash.is_some() && o.trash == trash);
        (cleaned, kept.map(|o| (o.expires(seconds), o.fault.clone())))
    });
    match (cleaned.ok_or_else(|| not_found(&name))?, kept) {
        (None, _) => Err(interrupted(&name, "clean").into()),
        (Some(Cleaned { fault: Some(fault), .. }), _) => Err(fault.into()),
        (Some(_), Some((_, Some(fault)))) if now => Err(fault.into()),
        (Some(Cleaned { paths, size, left, trash, .. }), kept) => Ok(Json(CleanedView {
            id,
            paths,
            size: size.into(),
            left: NotMovedView::all(&left),
            trash: trash.filter(|_| kept.is_some()).map(|t| t.to_string()),
            expires_at: kept.map(|(time, _)| rfc3339(time)),
        })),
    }
}

/// Puts back what the last clean took, as far as it is still there and its place is free.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/clean/undo",
    params(WaitQuery),
    responses((status = 200, body = UndoneView), super::document::Failure),
))]
pub(super) async fn undo(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<UndoneView>> {
    let name = environment_id(&id)?;
    app.handle.submit(Command::UndoClean { environment: name.clone(), actor }).await?;
    ended(&app, &name, Step::UndoClean, query.wait).await?;
    let (undone, trash) = app.handle.view(|state| {
        let undone = state.environment(&name).map(|e| e.undone.clone());
        let clean = undone.iter().flatten().map(|u| u.clean).next();
        let output = clean.and_then(|clean| state.output(&name, clean));
        (undone, output.and_then(|o| o.trash.as_ref()).map(ToString::to_string))
    });
    match undone.ok_or_else(|| not_found(&name))? {
        None => Err(interrupted(&name, "clean --undo").into()),
        Some(CleanUndone { fault: Some(fault), .. }) => Err(fault.into()),
        Some(undone) if undone.returned.is_empty() => Err(nothing(&name, &undone).into()),
        Some(CleanUndone { returned, left, .. }) => {
            Ok(Json(UndoneView { id, returned, left: NotMovedView::all(&left), trash }))
        }
    }
}

/// Returns the fault for a clean that another request on the same environment, such as its removal,
/// replaced before it had a result.
fn interrupted(id: &EnvironmentId, what: &str) -> Fault {
    let message = format!("another request on {id} replaced this one before it ended");
    let hint =
        format!("check with `groundskeeper show {id}`, then run `groundskeeper {what} {id}` again");
    Fault::new(Code::EnvironmentBusy, message, hint)
}

/// Returns the fault for an undo that put nothing back; such an undo is not a success.
fn nothing(id: &EnvironmentId, undone: &CleanUndone) -> Fault {
    if undone.left.is_empty() {
        let message = format!("the files of the last clean of {id} are no longer in the trash");
        return Fault::new(Code::NotFound, message, "run `groundskeeper trash ls` to list it");
    }
    let message = format!("cannot put anything back into {id}; the files stay in the trash");
    let hint = format!("free these paths, then run `groundskeeper clean {id} --undo` again");
    let lines = undone.left.iter().map(|left| format!("{}: {}", left.path, left.why));
    Fault::new(Code::PathExists, message, hint).with_evidence(lines)
}
