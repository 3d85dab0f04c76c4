//! Handlers that list, create, remove and cancel environments.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::response::Response;

use crate::api::app::{App, blocking, discover, wait_until};
use crate::api::extract::{Answer, Body, Named, Params, Shared, environment_id, request_id};
use crate::api::problem::invalid;
use crate::api::relocation;
use crate::api::types::{
    EnvironmentView, ListQuery, NewEnvironment, RemoveQuery, RemovedView, SummaryView, WaitQuery,
};
use crate::config::Config;
use crate::core::event::{Actor, Plan, Repository, TeardownOptions};
use crate::core::policy::BranchPolicy;
use crate::core::{
    Code, Command, Environment, EnvironmentId, Fault, Phase, Provision, destroyed, not_found,
};
use crate::world::fs::paths;

/// All environments, by id.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments",
    params(ListQuery),
    responses((status = 200, body = Vec<EnvironmentView>), super::document::Failure),
))]
pub(super) async fn list(
    State(app): Shared,
    Params(query): Params<ListQuery>,
) -> Json<Vec<EnvironmentView>> {
    let known = |e: &Environment| {
        let status = app.world.status_cache().last(&e.id, e.incarnation)?;
        Some(SummaryView::of(&status))
    };
    let found = app.handle.view(|state| {
        let all = state.environments().filter(|e| query.all || e.phase != Phase::Tombstoned);
        all.map(|e| EnvironmentView { known: known(e), ..EnvironmentView::of(state, e) }).collect()
    });
    Json(found)
}

/// One environment. One that is destroyed is answered 410, one that never was 404.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}",
    responses((status = 200, body = EnvironmentView), super::document::Failure),
))]
pub(super) async fn show(State(app): Shared, Named(id): Named) -> Answer<Json<EnvironmentView>> {
    let id = environment_id(&id)?;
    Ok(Json(view_of(&app, &id)?))
}

pub(super) fn view_of(app: &App, id: &EnvironmentId) -> Result<EnvironmentView, Fault> {
    app.handle.view(|state| match state.environment(id) {
        None => Err(not_found(id)),
        Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(id)),
        Some(e) => Ok(EnvironmentView::of(state, e)),
    })
}

/// Makes an environment. The answer comes when the request is durable, or with `wait` when the
/// environment is ready or has failed.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments",
    params(WaitQuery),
    request_body = NewEnvironment,
    responses(
        (status = 200, body = EnvironmentView, description = "ready, failed, or there already"),
        (status = 202, body = EnvironmentView, description = "being made"),
        super::document::Failure,
    ),
))]
pub(super) async fn create(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<NewEnvironment>,
) -> Answer<Response> {
    let request = request_id(&headers)?;
    let environment = match &wanted.id {
        Some(id) => environment_id(id)?,
        None => relocation::random_id()?,
    };
    let plan = plan(&app, &environment, &wanted).await?;
    if actor.door == crate::api::unix_socket::BY_SESSION {
        for_servers(&app, &plan.repository).await?;
    }
    relocation::update_other_paths(&app, &plan.repository.common_dir).await?;
    let command = Command::Provision(Provision {
        environment: environment.clone(),
        plan,
        actor,
        request: request.clone(),
        nonce: relocation::new_nonce()?,
        attributes: wanted.attributes.filter(|tree| !tree.is_empty()),
    });
    app.handle.submit(command).await?;
    // A repeated idempotency key answers with the environment that the first request created. The
    // id from above is then unused.
    let first = request.and_then(|key| {
        app.handle.view(|state| state.request(&key).map(|r| r.environment.clone()))
    });
    let id = first.unwrap_or(environment);
    if let Some(seconds) = query.wait {
        wait_until(&app, seconds, |state| {
            state.environment(&id).is_none_or(|e| e.phase != Phase::Provisioning)
        })
        .await?;
    }
    let found = app.handle.view(|s| s.environment(&id).map(|e| EnvironmentView::of(s, e)));
    let found = relocation::present(found.ok_or_else(|| not_found(&id))?).await?;
    let underway = found.phase == Phase::Provisioning.as_str();
    let status = if underway { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = format!("/v1/environments/{id}");
    Ok((status, [(header::LOCATION, location)], Json(found)).into_response())
}

pub(super) async fn plan(
    app: &Arc<App>,
    id: &EnvironmentId,
    wanted: &NewEnvironment,
) -> Result<Plan, Fault> {
    let branch = match &wanted.branch {
        Some(branch) if branch.is_empty() || branch.starts_with('-') => {
            return Err(invalid(format!("{branch:?} is not a valid branch name")));
        }
        Some(branch) => branch.clone(),
        None => format!("{}{id}", app.config.branch_prefix),
    };
    let repository = discover(app, &wanted.repo).await?;
    for place in [&repository.source, &repository.common_dir] {
        if !place.0.is_empty() && app.layout.root().starts_with(paths::from_host(place)) {
            let message = format!("the data directory lies inside the repository {place}");
            return Err(Fault::new(Code::InvalidConfig, message, "choose a --data-dir outside it"));
        }
    }
    let path = app.layout.place_of(id).join(&repository.name);
    Ok(Plan {
        repository,
        path: paths::to_host(&path),
        base: wanted.base.clone(),
        reuse_branch: wanted.branch.is_some(),
        branch,
        fetch: wanted.fetch,
        fetch_limit_ms: app.config.fetch_limit_seconds.saturating_mul(1_000),
        keep_failed: wanted.keep_failed,
        setup_path: if wanted.no_setup { String::new() } else { app.config.setup_path.clone() },
        setup_limit_ms: app.config.setup_limit_seconds.saturating_mul(1_000),
    })
}

/// Checks that a control server may use a repository: the resolved paths must belong to this user
/// and lie where `server_repositories` allows (anywhere if that list is empty).
pub(super) async fn for_servers(app: &Arc<App>, repository: &Repository) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let places = [repository.common_dir.clone(), repository.source.clone()];
    let allowed = app.config.server_repositories.clone();
    blocking(move || {
        for place in places.iter().filter(|place| !place.0.is_empty()) {
            let path = paths::from_host(place);
            let found = path.metadata().map_err(paths::failed("inspect", &path))?;
            let inside = allowed.is_empty() || allowed.iter().any(|dir| path.starts_with(dir));
            if found.uid() == rustix::process::geteuid().as_raw() && inside {
                continue;
            }
            let message = format!("a control server may not use {place}");
            let hint = "list it in `server_repositories` in the configuration of this host, and \
                        make sure that the daemon's user owns it";
            return Err(Fault::new(Code::PermissionDenied, message, hint));
        }
        Ok(())
    })
    .await
}

/// Removes an environment. Unknown and tombstoned ones are a success. With `wait` the answer comes
/// when it is gone or the removal was refused.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/environments/{id}",
    params(RemoveQuery),
    responses(
        (status = 200, body = RemovedView),
        (status = 202, body = RemovedView, description = "under way"),
        super::document::Failure,
    ),
))]
pub(super) async fn remove(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Params(query): Params<RemoveQuery>,
) -> Answer<Response> {
    let id = environment_id(&id)?;
    let request = request_id(&headers)?;
    let by_server = actor.door == crate::api::unix_socket::BY_SESSION;
    let reason = match (query.retire, by_server) {
        (true, _) => crate::core::model::live_set::REASON,
        (false, true) => crate::core::model::live_set::REASON_SERVER,
        (false, false) => "request",
    };
    let options = teardown_options(&app.config, &query, reason)?;
    relocation::update_path_of(&app, &id).await?;
    let force = query.force;
    let (environment, incarnation) = (id.clone(), query.incarnation);
    let command = Command::Destroy { environment, incarnation, force, options, actor, request };
    let now = app.handle.view(|state| state.environment(&id).map(|e| e.incarnation));
    let receipt = app.handle.submit(command).await?;
    // A later incarnation, started by another request, says nothing about the one to be removed.
    let meant = |e: &Environment| now.is_none_or(|life| life == e.incarnation);
    if let Some(seconds) = query.wait {
        let served = |e: &Environment| matches!(e.phase, Phase::Ready | Phase::Retiring);
        let over = |e: &Environment| e.owed.is_none() || served(e) || !meant(e);
        wait_until(&app, seconds, |s| s.environment(&id).is_none_or(over)).await?;
    }
    let (found, refused) = app.handle.view(|state| {
        let env = state.environment(&id).filter(|e| meant(e));
        let alive = env.filter(|e| !matches!(e.phase, Phase::Tombstoned | Phase::TearingDown));
        let back = alive.filter(|_| query.wait.is_some());
        // Without an `env` the id is unknown or a newer incarnation began. The requested one has
        // ended by the current record, but perhaps not yet at the record of this request.
        let at = if env.is_none() { state.seq() } else { receipt.seq };
        let mut view = RemovedView::of(id.as_str(), env, at);
        if env.is_none() {
            view.incarnation = now.unwrap_or_default();
        }
        (view, back.and_then(|e| e.refusal.clone()))
    });
    if let Some(fault) = refused {
        return Err(fault.into());
    }
    let done = found.phase == Phase::Tombstoned.as_str();
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(found)).into_response())
}

pub(super) fn teardown_options(
    config: &Config,
    query: &RemoveQuery,
    reason: &str,
) -> Result<TeardownOptions, Fault> {
    let branch = match &query.branch {
        None => config.branch_policy,
        Some(name) => BranchPolicy::parse(name).ok_or_else(|| {
            invalid(format!("branch {name:?} is not one of keep, delete-if-merged, delete"))
        })?,
    };
    let hook_path = if query.no_teardown { String::new() } else { config.teardown_path.clone() };
    Ok(TeardownOptions {
        branch,
        hook_path,
        hook_limit_ms: config.teardown_limit_seconds.saturating_mul(1_000),
        grace_ms: config.grace_milliseconds,
        end_bystanders: query.end_bystanders,
        no_rescue: query.no_rescue && query.force,
        reason: reason.to_owned(),
    })
}

/// Stops making an environment; what was made so far is taken back. Of one whose removal was put
/// off, the removal is called off.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/cancel",
    responses((status = 202, body = EnvironmentView), super::document::Failure),
))]
pub(super) async fn cancel(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let id = environment_id(&id)?;
    app.handle.submit(Command::Cancel { environment: id.clone(), actor }).await?;
    Ok((StatusCode::ACCEPTED, Json(view_of(&app, &id)?)))
}
