//! `rm`: removes an environment and shows what was saved of it.

use hyper::Method;

use crate::api::types::{RemoveQuery, RemovedView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn rm(global: &Global, id: &str, how: &RemoveQuery) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let removed = remove(&mut client, id, how).await?;
    if !global.json && !global.quiet {
        render::removed(&removed);
    }
    show_one(global, &removed, "")
}

/// Removes an environment and waits for the end, at most [`WAIT_SECONDS`].
pub(in crate::cli) async fn remove(
    client: &mut Client,
    id: &str,
    how: &RemoveQuery,
) -> Result<RemovedView, CliError> {
    let branch = how.branch.as_deref().map(|b| format!("&branch={}", encode(b)));
    let path = format!(
        "/v1/environments/{}?force={}&no_teardown={}&end_bystanders={}&no_rescue={}\
         &wait={WAIT_SECONDS}{}",
        encode(id),
        how.force,
        how.no_teardown,
        how.end_bystanders,
        how.no_rescue,
        branch.unwrap_or_default()
    );
    client.call(Method::DELETE, &path, NOTHING).await
}
