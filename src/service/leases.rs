//! Use cases of leases: claims that an environment is in use.

use std::time::Duration;

use sha2::Digest as _;

use crate::core::event::{Actor, LeaseGranted};
use crate::core::{Code, Command, EnvironmentId, Fault, LeaseId, RequestId, State};
use crate::service::app::{App, now};
use crate::service::outcome::Outcome;
use crate::service::relocation;
use crate::service::requests::{invalid, lease_id};
use crate::service::types::lease::{LeaseView, NewLease};

/// Grants a lease on an environment, or extends one.
///
/// # Errors
/// If the request is invalid or refused, or the lease has already ended.
pub(crate) async fn grant(
    app: &App,
    environment: EnvironmentId,
    actor: Actor,
    request: Option<RequestId>,
    wanted: NewLease,
) -> Result<Outcome<LeaseView>, Fault> {
    let lease = match &wanted.id {
        Some(id) => lease_id(id)?,
        None => generated_lease_id(request.as_ref())?,
    };
    let purpose: String = wanted.purpose.chars().take(200).collect();
    // The time of the log is ahead of a wall clock that was set back.
    let from = app.handle.view(State::at).max(now());
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
    granted.map(Outcome::Created).ok_or_else(|| {
        let message = format!("lease {lease} has already ended");
        Fault::new(Code::LeaseNotFound, message, "take a lease with a longer duration")
    })
}

/// Returns a generated lease id. The same idempotency key gives the same id, so a repeated request
/// does not create a second lease.
fn generated_lease_id(request: Option<&RequestId>) -> Result<LeaseId, Fault> {
    let name = match request {
        Some(key) => crate::format::hex(&sha2::Sha256::digest(key.as_str().as_bytes())[..8]),
        None => relocation::random_id()?.as_str().replace("env-", ""),
    };
    LeaseId::parse(&format!("lease-{name}")).map_err(|e| invalid(e.to_string()))
}

/// Ends a lease; an unknown one is a success.
///
/// # Errors
/// If the engine does not take the command.
pub(crate) async fn release(app: &App, lease: LeaseId) -> Result<(), Fault> {
    app.handle.submit(Command::Release { lease }).await?;
    Ok(())
}
