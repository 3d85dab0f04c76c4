//! `ls` lists environments; `show` prints one in full.

use std::process::ExitCode;

use hyper::Method;

use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn ls(global: &Global, all: bool) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = if all { "/v1/environments?all=true" } else { "/v1/environments" };
    let list: Vec<EnvironmentView> = client.call(Method::GET, path, NOTHING).await?;
    if list.is_empty() && !global.json && !global.quiet {
        render::note("no environments; create one with `groundskeeper new`");
        return Ok(ExitCode::SUCCESS);
    }
    show_one(global, &list, &render::environments(&list))
}

pub(in crate::cli) async fn show(global: &Global, id: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}", encode(id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::environment(&found))
}
