//! `lease` and `release`: claims that an environment is in use; and `cancel`.

use hyper::Method;
use serde_json::json;

use crate::api::types::{EnvironmentView, LeaseView, NewLease};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{Done, NOTHING, encode, show_one};

/// Claims an environment.
pub(in crate::cli) async fn lease(global: &Global, id: &str, wanted: NewLease) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/leases", encode(id));
    let granted: LeaseView = client.call(Method::POST, &path, Some(&wanted)).await?;
    show_one(global, &granted, &format!("{}\n", granted.id))
}

/// Gives a lease back.
pub(in crate::cli) async fn release(global: &Global, lease: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/leases/{}", encode(lease));
    let _: Option<()> = client.call(Method::DELETE, &path, NOTHING).await?;
    show_one(global, &json!({ "id": lease, "released": true }), "")
}

/// Stops making an environment, or calls off a removal that was put off.
pub(in crate::cli) async fn cancel(global: &Global, id: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/cancel", encode(id));
    let found: EnvironmentView = client.call(Method::POST, &path, NOTHING).await?;
    show_one(global, &found, &format!("{} is being cancelled\n", found.id))
}
