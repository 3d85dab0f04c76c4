//! Handlers for the processes of environments, and the commands that the user starts in them.

use axum::Json;
use axum::extract::Path as UrlPath;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::contents::{live_environment, query_world};
use super::types::ProcessView;
use crate::api::app::App;
use crate::api::extract::{Answer, Body, Named, Shared, environment_id};
use crate::core::event::{Actor, ProcessStarted};
use crate::core::model::environment::Process;
use crate::core::{Command, Environment, Fault};
use crate::world::process::table::start_time;

/// The processes that live in an environment, and those that merely have to do with it.
#[cfg_attr(test, utoipa::path(
    get,
    tag = "inside",
    path = "/v1/environments/{id}/processes",
    responses((status = 200, body = Vec<ProcessView>), super::document::Failure),
))]
pub(super) async fn processes(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Json<Vec<ProcessView>>> {
    let env = live_environment(&app, &environment_id(&id)?)?;
    let found = query_world(&app, move |app, _| Ok(app.world.processes(&env, actor.pid))).await?;
    let inside = found.inside.iter().map(|p| ProcessView::of(p, true));
    let others = found.bystanders.iter().map(|p| ProcessView::of(p, false));
    Ok(Json(inside.chain(others).collect()))
}

/// A command that waits to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Its process id; it waits for the answer before it runs.
    pub pid: u32,
    /// Name of its program, without arguments.
    #[serde(default)]
    pub name: String,
}

/// Records a command that is about to run in an environment, so that its end can be seen to.
#[cfg_attr(test, utoipa::path(
    post,
    tag = "inside",
    path = "/v1/environments/{id}/processes",
    request_body = Launch,
    responses((status = 201, body = ProcessView), super::document::Failure),
))]
pub(super) async fn launch(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Body(wanted): Body<Launch>,
) -> Answer<Response> {
    let environment = environment_id(&id)?;
    let env = live_environment(&app, &environment)?;
    let (pid, requester) = (wanted.pid, actor.pid);
    record_ended_processes(&app, &env).await?;
    let mut seen =
        query_world(&app, move |app, _| app.world.add_to_cgroup(&env, pid, requester)).await?;
    if !wanted.name.is_empty() {
        seen.name = wanted.name.chars().take(64).collect();
    }
    let (started, name) = (seen.started, seen.name.clone());
    let launch = Command::Launch(ProcessStarted { environment, pid, started, name, actor });
    app.handle.submit(launch).await?;
    Ok((StatusCode::CREATED, Json(ProcessView::of(&seen, true))).into_response())
}

/// Records the end of registered processes that no longer run. A killed `exec` cannot report the
/// end of its command itself.
pub(super) async fn record_ended_processes(app: &App, env: &Environment) -> Result<(), Fault> {
    let over = |(pid, p): (&u32, &Process)| (start_time(*pid) != Some(p.started)).then_some(*pid);
    for pid in env.processes.iter().filter_map(over).collect::<Vec<_>>() {
        app.handle.submit(Command::Exited { environment: env.id.clone(), pid }).await?;
    }
    Ok(())
}

/// A command that was recorded is over; an unknown one is a success.
#[cfg_attr(test, utoipa::path(
    delete,
    tag = "inside",
    path = "/v1/environments/{id}/processes/{pid}",
    responses((status = 204), super::document::Failure),
))]
pub(super) async fn exited(
    State(app): Shared,
    UrlPath((id, pid)): UrlPath<(String, u32)>,
) -> Answer<StatusCode> {
    let environment = environment_id(&id)?;
    app.handle.submit(Command::Exited { environment, pid }).await?;
    Ok(StatusCode::NO_CONTENT)
}
