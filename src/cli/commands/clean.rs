//! `clean`: moves what tools rebuild to the trash, or unlinks it, and puts it back.

use hyper::Method;

use crate::api::clean::{CleanedView, UndoneView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;
use crate::format::{bytes, count};

pub(in crate::cli) async fn clean(global: &Global, typed: &str, now: bool) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/clean?now={now}", encode(id));
    let steps = render::Steps::new(global.quiet || global.json);
    steps.step(if now {
        "unlinking rebuildable files"
    } else {
        "moving rebuildable files to the trash"
    });
    let done: Result<CleanedView, _> = client.call(Method::POST, &path, NOTHING).await;
    steps.finish();
    let done = done?;
    if !global.quiet {
        render::left_in_place(&done.left);
        if !done.left.is_empty() {
            render::note(&format!("`groundskeeper show {id}` prints the path of the worktree"));
        }
        if let Some(until) = done.expires_at.as_ref().filter(|_| !global.json) {
            let until = render::printable(until);
            render::note(&format!("`groundskeeper clean {id} --undo` puts it back until {until}"));
        }
    }
    let bytes = bytes(done.size.allocated);
    let text = match done.paths.len() {
        0 if done.left.is_empty() => format!("{id} holds no rebuildable files\n"),
        0 => format!("nothing was cleaned in {id}\n"),
        _ => {
            let (n, list) = (paths_of(&done.paths), render::printable(&done.paths.join(", ")));
            format!("{bytes} in {n}: {list}\n")
        }
    };
    show_one(global, &done, &text)
}

pub(in crate::cli) async fn preview(global: &Global, typed: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/clean", encode(id));
    let found: CleanedView = client.call(Method::GET, &path, NOTHING).await?;
    if !global.quiet && !global.json {
        render::left_in_place(&found.left);
    }
    let text = match found.paths.as_slice() {
        [] => format!("nothing would be cleaned in {id}\n"),
        paths => {
            let bytes = bytes(found.size.allocated);
            let (n, list) = (paths_of(paths), render::printable(&paths.join(", ")));
            format!("{bytes} in {n} would go to the trash: {list}\n")
        }
    };
    show_one(global, &found, &text)
}

fn paths_of(paths: &[String]) -> String {
    count(paths.len() as u64, "path", "paths")
}

pub(in crate::cli) async fn undo_clean(global: &Global, typed: &str) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}/clean/undo", encode(id));
    let done: UndoneView = client.call(Method::POST, &path, NOTHING).await?;
    if !global.quiet {
        render::left_in_place(&done.left);
        if let Some(trash) = done.trash.as_ref().filter(|_| !done.left.is_empty()) {
            let trash = render::printable(trash);
            render::note(&format!(
                "the rest is in {trash}; `groundskeeper clean {id} --undo` retries"
            ));
        }
    }
    let paths = render::printable(&done.returned.join(", "));
    show_one(global, &done, &format!("put back: {paths}\n"))
}
