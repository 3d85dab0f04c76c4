//! `ps` lists the processes of an environment; `rm --dry-run` shows what a removal would affect.

use hyper::Method;

use crate::api::contents::EvidenceView;
use crate::api::types::ProcessView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn ps(global: &Global, id: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/processes", encode(id));
    let list: Vec<ProcessView> = client.call(Method::GET, &path, NOTHING).await?;
    if list.is_empty() && !global.json && !global.quiet {
        render::note(&format!("no processes use {id}"));
    }
    show_one(global, &list, &render::processes(&list))
}

pub(in crate::cli) async fn evidence(global: &Global, id: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/evidence", encode(id));
    let found: EvidenceView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::evidence(&found))
}
