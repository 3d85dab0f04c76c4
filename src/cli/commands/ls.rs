//! `ls` lists environments; `show` prints one in full.

use std::process::ExitCode;

use hyper::Method;

use crate::api::types::{DaemonView, EnvironmentView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

/// Environments in one page of a list that may be long.
const PAGE: usize = 1_000;

pub(in crate::cli) async fn ls(global: &Global, all: bool) -> CommandResult {
    let mut client = Client::connect(global).await?;
    if all {
        return every_life(global, &mut client).await;
    }
    let list: Vec<EnvironmentView> = client.call(Method::GET, "/v1/environments", NOTHING).await?;
    if global.json {
        return show_one(global, &list, "");
    }
    if list.is_empty() && !global.quiet {
        render::note("no environments; create one with `groundskeeper new`");
    } else {
        render::out(&render::environments(&list));
    }
    if !global.quiet {
        note_held_sweep(&mut client).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists every environment that ever was, page by page: there may be more than memory holds.
async fn every_life(global: &Global, client: &mut Client) -> CommandResult {
    let mut after = String::new();
    let mut listed = 0;
    loop {
        let path = format!("/v1/environments?all=true&limit={PAGE}&after={}", encode(&after));
        let page: Vec<EnvironmentView> = client.call(Method::GET, &path, NOTHING).await?;
        if global.json {
            for (n, view) in (listed..).zip(&page) {
                let view = serde_json::to_string(view).unwrap_or_default();
                render::out(&format!("{}{view}", if n == 0 { "[" } else { "," }));
            }
        } else if !page.is_empty() {
            render::out(&render::environments(&page));
        }
        listed += page.len();
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.id),
            _ => break,
        }
    }
    if global.json {
        render::out(if listed == 0 { "[]\n" } else { "]\n" });
    } else if !global.quiet {
        if listed == 0 {
            render::note("no environments; create one with `groundskeeper new`");
        }
        note_held_sweep(client).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a note if the last sweep was held back: what it left takes space that no list shows.
async fn note_held_sweep(client: &mut Client) {
    let asked: Result<DaemonView, _> = client.call(Method::GET, "/v1/daemon", NOTHING).await;
    let last = asked.ok().and_then(|daemon| daemon.sweep);
    if let Some(last) = last.filter(|last| !last.held.is_empty()) {
        render::note(&format!("the last sweep was held back: {}", last.held));
    }
}

pub(in crate::cli) async fn show(global: &Global, id: Option<&str>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = named::any(&mut client, id).await?;
    let path = format!("/v1/environments/{}", encode(&id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::environment(&found))
}
