//! `lease` and `release` manage claims that an environment is in use; `cancel` stops a provision or
//! a removal.

use hyper::Method;
use serde_json::json;

use crate::api::types::{EnvironmentView, LeaseView, NewLease};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

/// Creates or extends a lease and prints its id.
pub(in crate::cli) async fn lease(global: &Global, typed: &str, wanted: NewLease) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/leases", encode(id));
    let granted: LeaseView = client.call(Method::POST, &path, Some(&wanted)).await?;
    show_one(global, &granted, &format!("{}\n", granted.id))
}

/// Releases a lease. One that has ended, or never was, is said and is no error.
pub(in crate::cli) async fn release(global: &Global, lease: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let all: Vec<EnvironmentView> = client.call(Method::GET, "/v1/environments", NOTHING).await?;
    let was_there = all.iter().any(|env| env.leases.iter().any(|held| held.id == lease));
    let path = format!("/v1/leases/{}", encode(lease));
    let _: Option<()> = client.call(Method::DELETE, &path, NOTHING).await?;
    if !was_there && !global.json && !global.quiet {
        render::note(&format!("there is no lease {lease}: it has ended, or never was"));
    }
    show_one(global, &json!({ "id": lease, "released": was_there }), "")
}

/// Stops the provision of an environment, or withdraws a postponed removal.
pub(in crate::cli) async fn cancel(global: &Global, typed: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/cancel", encode(id));
    let found: EnvironmentView = client.call(Method::POST, &path, NOTHING).await?;
    let id = &found.id;
    let text = match found.phase.as_str() {
        "provisioning" => format!("{id} is being cancelled and rolled back\n"),
        "tearing_down" => format!("{id} is being removed; this can no longer be cancelled\n"),
        phase => format!("{id} is {phase}; no provision or postponed removal is pending\n"),
    };
    show_one(global, &found, &text)
}
