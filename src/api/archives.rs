//! Handlers for archives, which outlive an incarnation: restore, trash, rescue refs.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::api::shared::Shared;
use crate::api::types::{EnvironmentView, WaitQuery};
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, Params, environment_id, request_id};
use crate::service::archives;
use crate::service::outcome::Outcome;
pub use crate::service::types::archive::{ArchivedIncarnationView, NestedView, RestoreRequest};

/// Brings an environment back that is destroyed, as a new incarnation.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/restore",
    operation_id = "restore_environment",
    params(WaitQuery, crate::http::openapi::Key),
    request_body = RestoreRequest,
    responses(
        (status = 200, body = EnvironmentView, description = "back, or failed"),
        (status = 202, body = EnvironmentView, description = "under way"),
        crate::http::openapi::Failure,
    ),
))]
pub(super) async fn restore(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<RestoreRequest>,
) -> Answer<Outcome<EnvironmentView>> {
    let (id, request) = (environment_id(&id)?, request_id(&headers)?);
    let keyed = app.keys.compare(request.as_ref(), &("restore", &id, &wanted))?;
    let restored = archives::restore(&app, id, actor, request, wanted, query.wait).await?;
    app.keys.remember(keyed);
    Ok(restored)
}

/// What is in the trash.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/trash",
    operation_id = "list_trash",
    responses((status = 200, body = Vec<ArchivedIncarnationView>)),
))]
pub(super) async fn trash(State(app): Shared) -> Json<Vec<ArchivedIncarnationView>> {
    Json(archives::trash_entries(&app, None))
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
    path = "/v1/trash",
    operation_id = "empty_trash",
    params(EmptyQuery),
    responses((status = 200, body = Vec<ArchivedIncarnationView>), crate::http::openapi::Failure),
))]
pub(super) async fn empty(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Params(query): Params<EmptyQuery>,
) -> Answer<Json<Vec<ArchivedIncarnationView>>> {
    let only = query.environment.as_deref().map(environment_id).transpose()?;
    Ok(Json(archives::empty_trash(&app, only, query.lose, actor, query.wait).await?))
}

/// The refs that hold what no branch has.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/rescues",
    operation_id = "list_rescues",
    responses((status = 200, body = Vec<ArchivedIncarnationView>)),
))]
pub(super) async fn rescues(State(app): Shared) -> Json<Vec<ArchivedIncarnationView>> {
    Json(archives::rescues(&app))
}

/// Lets go of a rescue: its ref is deleted.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/rescues/{id}/{incarnation}",
    operation_id = "drop_rescue",
    params(WaitQuery),
    responses((status = 200, body = Vec<ArchivedIncarnationView>), crate::http::openapi::Failure),
))]
pub(super) async fn drop_rescue(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    axum::extract::Path((id, incarnation)): axum::extract::Path<(String, u32)>,
    Params(query): Params<WaitQuery>,
) -> Answer<Json<Vec<ArchivedIncarnationView>>> {
    let id = environment_id(&id)?;
    Ok(Json(archives::drop_rescue(&app, id, incarnation, actor, query.wait).await?))
}
