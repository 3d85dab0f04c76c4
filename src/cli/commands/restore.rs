//! `restore`: brings a removed environment back as a new incarnation.

use hyper::Method;

use crate::api::archives::RestoreRequest;
use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, WAIT_SECONDS, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn restore(
    global: &Global,
    id: &str,
    incarnation: Option<u32>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/restore?wait={WAIT_SECONDS}", encode(id));
    let wanted = RestoreRequest { incarnation };
    let found: EnvironmentView = client.call(Method::POST, &path, Some(&wanted)).await?;
    match (&found.error, found.phase.as_str()) {
        (Some(problem), "failed") => Err(CliError(Box::new(problem.clone()))),
        _ => show_one(global, &found, &format!("{}\n", render::printable(&found.path))),
    }
}
