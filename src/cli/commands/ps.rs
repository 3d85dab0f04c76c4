//! `ps` lists the processes of an environment; `rm --dry-run` shows what a removal would affect.

use hyper::Method;

use crate::api::contents::EvidenceView;
use crate::api::types::ProcessView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn ps(global: &Global, id: Option<&str>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = named::any(&mut client, id).await?;
    let path = format!("/v1/environments/{}/processes", encode(&id));
    let list: Vec<ProcessView> = client.call(Method::GET, &path, NOTHING).await?;
    if list.is_empty() && !global.json && !global.quiet {
        render::note(&format!("no processes use {id}"));
    }
    show_one(global, &list, &render::processes(&list))
}

pub(in crate::cli) async fn evidence(global: &Global, ids: &[String]) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let mut found: Vec<EvidenceView> = Vec::new();
    for typed in ids {
        let id = named::whole(&mut client, typed).await?;
        let path = format!("/v1/environments/{}/evidence", encode(&id));
        found.push(client.call(Method::GET, &path, NOTHING).await?);
    }
    match found.as_slice() {
        [only] => show_one(global, only, &render::evidence(only)),
        all => show_one(global, &all, &all.iter().map(render::evidence).collect::<String>()),
    }
}
