//! Handlers for leases: claims that an environment is in use.

use axum::extract::{Extension, State};
use axum::http::HeaderMap;

use crate::api::shared::Shared;
use crate::api::types::{LeaseView, NewLease};
use crate::core::event::Actor;
use crate::http::extract::{Answer, Body, Named, environment_id, request_id};
use crate::service::leases;
use crate::service::outcome::Outcome;
use crate::service::requests::lease_id;

/// Claims that an environment is in use, or extends such a claim.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/leases",
    operation_id = "grant_lease",
    params(crate::http::openapi::Key),
    request_body = NewLease,
    responses((status = 201, body = LeaseView), crate::http::openapi::Failure),
))]
pub(super) async fn lease(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Body(wanted): Body<NewLease>,
) -> Answer<Outcome<LeaseView>> {
    let (id, request) = (environment_id(&id)?, request_id(&headers)?);
    let keyed = app.keys.compare(request.as_ref(), &("lease", &id, &wanted))?;
    let granted = leases::grant(&app, id, actor, request, wanted).await?;
    app.keys.remember(keyed);
    Ok(granted)
}

/// Gives a lease back; one that is not there is a success.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/leases/{id}",
    operation_id = "release_lease",
    responses((status = 204), crate::http::openapi::Failure),
))]
pub(super) async fn release(State(app): Shared, Named(id): Named) -> Answer<Outcome<()>> {
    leases::release(&app, lease_id(&id)?).await?;
    Ok(Outcome::Empty)
}
