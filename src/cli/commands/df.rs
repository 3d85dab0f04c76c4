//! `df`: reports the disk space of environments and trash.

use hyper::Method;
use serde_json::json;

use crate::api::archives::ArchivedIncarnationView;
use crate::api::contents::UsageView;
use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;

pub(in crate::cli) async fn df(global: &Global) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let list: Vec<EnvironmentView> = client.call(Method::GET, "/v1/environments", NOTHING).await?;
    let steps = render::Steps::new(global.quiet || global.json);
    let mut usages = Vec::new();
    for env in list.iter().filter(|e| e.checkout.is_some()) {
        steps.step(&format!("measuring {}", env.id));
        let path = format!("/v1/environments/{}/usage", encode(&env.id));
        let usage: Result<UsageView, _> = client.call(Method::GET, &path, NOTHING).await;
        match usage {
            Ok(usage) => usages.push(usage),
            // An environment that is removed meanwhile or broken must not hide the others.
            Err(failed) => render::note(&format!("{}: {}", env.id, failed.0.message)),
        }
    }
    steps.finish();
    let trash: Vec<ArchivedIncarnationView> =
        client.call(Method::GET, "/v1/trash", NOTHING).await?;
    let bytes: u64 = trash.iter().filter_map(|r| r.bytes).sum();
    let pinned: u64 = trash.iter().map(|r| r.pinned_bytes).sum();
    if pinned > 0 && !global.json && !global.quiet {
        let size = crate::format::bytes(pinned);
        render::note(&format!("{size} of the trash are the only copy of work"));
    }
    let all = json!({
        "environments": usages, "trash": trash, "trash_bytes": bytes, "pinned_bytes": pinned,
    });
    show_one(global, &all, &render::usage(&usages, bytes))
}
