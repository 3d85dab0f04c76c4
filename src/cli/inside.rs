//! The verbs for what goes on inside environments: ps, df, clean, adopt, and what a removal finds.

use std::path::Path;

use hyper::Method;
use serde_json::json;

use super::args::Global;
use super::client::Client;
use super::render;
use super::verbs::{Done, NOTHING, encode, show_one};
use crate::api::clean::{CleanedView, UndoneView};
use crate::api::inside::{Adoption, EvidenceView, UsageView};
use crate::api::kept::RemainsView;
use crate::api::types::{EnvironmentView, ProcessView};
use crate::core::{Code, Fault};
use crate::world::fs::paths;

pub(super) async fn ps(global: &Global, id: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/processes", encode(id));
    let list: Vec<ProcessView> = client.call(Method::GET, &path, NOTHING).await?;
    if list.is_empty() && !global.json && !global.quiet {
        render::note(&format!("nothing runs in {id}"));
    }
    show_one(global, &list, &render::processes(&list))
}

pub(super) async fn evidence(global: &Global, id: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/evidence", encode(id));
    let found: EvidenceView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::evidence(&found))
}

pub(super) async fn df(global: &Global) -> Done {
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
            // One that is gone or broken must not hide the others.
            Err(failed) => render::note(&format!("{}: {}", env.id, failed.0.message)),
        }
    }
    steps.finish();
    let trash: Vec<RemainsView> = client.call(Method::GET, "/v1/trash", NOTHING).await?;
    let bytes: u64 = trash.iter().filter_map(|r| r.bytes).sum();
    let pinned: u64 = trash.iter().map(|r| r.pinned_bytes).sum();
    if pinned > 0 && !global.json && !global.quiet {
        let size = crate::format::bytes(pinned);
        render::note(&format!("{size} of the trash are the only place of something"));
    }
    let all = json!({
        "environments": usages, "trash": trash, "trash_bytes": bytes, "pinned_bytes": pinned,
    });
    show_one(global, &all, &render::usage(&usages, bytes))
}

pub(super) async fn clean(global: &Global, id: &str, now: bool) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/clean?now={now}", encode(id));
    let steps = render::Steps::new(global.quiet || global.json);
    steps.step(if now { "unlinking what tools rebuild" } else { "moving away what tools rebuild" });
    let done: Result<CleanedView, _> = client.call(Method::POST, &path, NOTHING).await;
    steps.finish();
    let done = done?;
    if !global.quiet {
        render::left_in_place(&done.left);
        if !done.left.is_empty() {
            render::note(&format!("`groundskeeper show {id}` tells where: look at it there"));
        }
        if let Some(until) = done.expires_at.as_ref().filter(|_| !global.json) {
            let until = render::printable(until);
            render::note(&format!("`groundskeeper clean {id} --undo` puts it back until {until}"));
        }
    }
    let bytes = crate::format::bytes(done.size.allocated);
    let text = match done.paths.len() {
        0 if done.left.is_empty() => format!("{id} holds nothing that tools rebuild\n"),
        0 => format!("nothing was taken from {id}\n"),
        n => format!("{bytes} in {n} places: {}\n", render::printable(&done.paths.join(", "))),
    };
    show_one(global, &done, &text)
}

pub(super) async fn undo_clean(global: &Global, id: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}/clean/undo", encode(id));
    let done: UndoneView = client.call(Method::POST, &path, NOTHING).await?;
    if !global.quiet {
        render::left_in_place(&done.left);
        if let Some(trash) = done.trash.as_ref().filter(|_| !done.left.is_empty()) {
            let trash = render::printable(trash);
            render::note(&format!(
                "that is in {trash}; `groundskeeper clean {id} --undo` tries again"
            ));
        }
    }
    let paths = render::printable(&done.returned.join(", "));
    show_one(global, &done, &format!("put back: {paths}\n"))
}

pub(super) async fn adopt(global: &Global, path: &Path, id: Option<String>) -> Done {
    let real = path.canonicalize().map_err(|e| paths::fault("find", path, &e))?;
    let path = real.into_os_string().into_string().map_err(|path| {
        let message = format!("{} is not UTF-8", Path::new(&path).display());
        Fault::new(Code::InvalidRequest, message, "name it by another path")
    })?;
    let mut client = Client::connect(global).await?;
    let wanted = Adoption { path, id };
    let found: EnvironmentView = client.call(Method::POST, "/v1/adopt", Some(&wanted)).await?;
    show_one(global, &found, &format!("{}\n", found.id))
}
