//! Handlers that list, create, remove and cancel environments.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse as _;
use axum::response::Response;

use crate::api::shared::Shared;
use crate::api::types::{
    EnvironmentView, ListQuery, NewEnvironment, NewLabel, RemoveQuery, RemovedView, ShowQuery,
    WaitQuery,
};
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, Params, environment_id, request_id};
use crate::service::outcome::Outcome;
use crate::service::{environments, list};

/// All environments, by id.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments",
    operation_id = "list_environments",
    params(ListQuery),
    responses((status = 200, body = Vec<EnvironmentView>), crate::http::openapi::Failure),
))]
pub(super) async fn list(
    State(app): Shared,
    Params(query): Params<ListQuery>,
) -> Answer<Json<Vec<EnvironmentView>>> {
    Ok(Json(list::list(&app, &query).await?))
}

/// One environment. One that is destroyed is answered 410, one that never was 404.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}",
    operation_id = "show_environment",
    params(ShowQuery),
    responses((status = 200, body = EnvironmentView), crate::http::openapi::Failure),
))]
pub(super) async fn show(
    State(app): Shared,
    Named(id): Named,
    Params(query): Params<ShowQuery>,
) -> Answer<Json<EnvironmentView>> {
    let id = environment_id(&id)?;
    if query.all {
        return Ok(Json(environments::show_last(&app, id).await?));
    }
    Ok(Json(environments::show(&app, &id, query.changes).await?))
}

/// Makes an environment. The answer comes when the request is durable, or with `wait` when the
/// environment is ready or has failed.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments",
    operation_id = "create_environment",
    params(WaitQuery, crate::http::openapi::Key),
    request_body = NewEnvironment,
    responses(
        (status = 200, body = EnvironmentView, description = "ready, failed, or there already"),
        (status = 202, body = EnvironmentView, description = "being made"),
        crate::http::openapi::Failure,
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
    let keyed = app.keys.compare(request.as_ref(), &("create", &wanted))?;
    let made = environments::provision(&app, actor, request, wanted, query.wait).await?;
    app.keys.remember(keyed);
    let location = match &made {
        Outcome::Done(view) | Outcome::Created(view) | Outcome::Started(view) => &view.id,
        Outcome::Empty => "",
    };
    let location = format!("/v1/environments/{location}");
    Ok(([(header::LOCATION, location)], made).into_response())
}

/// Removes an environment. Unknown and tombstoned ones are a success. With `wait` the answer comes
/// when it is gone or the removal was refused.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/environments/{id}",
    operation_id = "remove_environment",
    params(RemoveQuery, crate::http::openapi::Key),
    responses(
        (status = 200, body = RemovedView),
        (status = 202, body = RemovedView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn remove(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Params(query): Params<RemoveQuery>,
) -> Answer<Outcome<RemovedView>> {
    let (id, request) = (environment_id(&id)?, request_id(&headers)?);
    // It may be sent again with a longer wait.
    let what = RemoveQuery { wait: None, ..query.clone() };
    let keyed = app.keys.compare(request.as_ref(), &("remove", &id, what))?;
    let removed = environments::remove(&app, id, actor, request, query).await?;
    app.keys.remember(keyed);
    Ok(removed)
}

/// Stops making an environment; what was made so far is taken back. Of one whose removal was put
/// off, the removal is called off.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/cancel",
    operation_id = "cancel_environment",
    responses((status = 202, body = EnvironmentView), crate::http::openapi::Failure),
))]
pub(super) async fn cancel(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<Outcome<EnvironmentView>> {
    Ok(environments::cancel(&app, environment_id(&id)?, actor).await?)
}

/// Gives an environment a label for people, or takes it away. Its id stays as it is.
#[cfg_attr(test, utoipa::path(
    put,
    path = "/v1/environments/{id}/label",
    operation_id = "label_environment",
    request_body = NewLabel,
    responses((status = 200, body = EnvironmentView), crate::http::openapi::Failure),
))]
pub(super) async fn label(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
    Body(wanted): Body<NewLabel>,
) -> Answer<Json<EnvironmentView>> {
    Ok(Json(environments::label(&app, environment_id(&id)?, actor, wanted).await?))
}
