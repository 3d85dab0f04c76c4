//! Handlers for leases: claims that an environment is in use.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::response::Response;
use sha2::Digest as _;

use super::problem::invalid;
use super::relocation;
use super::types::{LeaseView, NewLease};
use crate::api::app::now;
use crate::api::extract::{Answer, Body, Named, Shared, environment_id, request_id};
use crate::core::event::{Actor, LeaseGranted};
use crate::core::{Code, Command, Fault, LeaseId};

/// Claims that an environment is in use, or extends such a claim.
#[cfg_attr(test, utoipa::path(
    post,
    path = "/v1/environments/{id}/leases",
    request_body = NewLease,
    responses((status = 201, body = LeaseView), super::document::Failure),
))]
pub(super) async fn lease(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Body(wanted): Body<NewLease>,
) -> Answer<Response> {
    let environment = environment_id(&id)?;
    let lease = match &wanted.id {
        Some(id) => LeaseId::parse(id).map_err(|e| invalid(format!("lease id: {e}")))?,
        None => generated_lease_id(&headers)?,
    };
    let purpose: String = wanted.purpose.chars().take(200).collect();
    let request = request_id(&headers)?;
    // The time of the log is ahead of a wall clock that was set back.
    let from = app.handle.view(crate::core::State::at).max(now());
    let until = from.after(Duration::from_secs(wanted.seconds));
    let command = Command::Lease(LeaseGranted {
        environment,
        lease: lease.clone(),
        until,
        purpose,
        actor,
        request,
    });
    app.handle.submit(command).await?;
    let granted = app.handle.view(|state| state.lease(&lease).map(|l| LeaseView::of(&lease, l)));
    let granted = granted.ok_or_else(|| {
        let message = format!("lease {lease} has already ended");
        Fault::new(Code::LeaseNotFound, message, "take a lease with a longer duration")
    })?;
    Ok((StatusCode::CREATED, Json(granted)).into_response())
}

/// Returns a generated lease id. The same idempotency key gives the same id, so a repeated request
/// does not create a second lease.
fn generated_lease_id(headers: &HeaderMap) -> Result<LeaseId, Fault> {
    let name = match headers.get("idempotency-key") {
        Some(key) => crate::format::hex(&sha2::Sha256::digest(key.as_bytes())[..8]),
        None => relocation::random_id()?.as_str().replace("env-", ""),
    };
    LeaseId::parse(&format!("lease-{name}")).map_err(|e| invalid(e.to_string()))
}

/// Gives a lease back; one that is not there is a success.
#[cfg_attr(test, utoipa::path(
    delete,
    path = "/v1/leases/{id}",
    responses((status = 204), super::document::Failure),
))]
pub(super) async fn release(State(app): Shared, Named(id): Named) -> Answer<StatusCode> {
    let lease = LeaseId::parse(&id).map_err(|e| invalid(format!("lease id: {e}")))?;
    app.handle.submit(Command::Release { lease }).await?;
    Ok(StatusCode::NO_CONTENT)
}
