//! `status` and `diff`: show the state of worktrees and their changes.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use hyper::Method;

use crate::api::status::{DiffView, StatusEntry, StatusView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render::color;
use crate::cli::{pager, render};

pub(in crate::cli) async fn status(global: &Global, id: Option<&str>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let Some(id) = id else {
        let all = fetch_all(&mut client).await?;
        if all.is_empty() && !global.json && !global.quiet {
            render::note("no environments; create one with `groundskeeper new`");
        }
        return show_one(global, &all, &table(&all));
    };
    let id = named::any(&mut client, Some(id)).await?;
    let path = format!("/v1/environments/{}/status", encode(&id));
    let found: StatusView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &full(&found))
}

/// Asks for the status of all environments.
pub(super) async fn fetch_all(client: &mut Client) -> Result<Vec<StatusEntry>, CliError> {
    client.call(Method::GET, "/v1/status", NOTHING).await
}

pub(in crate::cli) async fn diff(
    global: &Global,
    id: Option<&str>,
    head: bool,
    bytes: Option<u32>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = named::any(&mut client, id).await?;
    let bytes = bytes.map(|n| format!("&max_bytes={n}")).unwrap_or_default();
    let path = format!("/v1/environments/{}/diff?head={head}{bytes}", encode(&id));
    let found: DiffView = client.call(Method::GET, &path, NOTHING).await?;
    if global.json {
        return show_one(global, &found, "");
    }
    // A program that applies the patch needs every byte of it; a terminal obeys some of them.
    let safe = std::io::stdout().is_terminal().then(|| render::printable_lines(&found.patch));
    let patch = safe.as_ref().unwrap_or(&found.patch);
    if color::is_wanted(global.color) {
        pager::page(&color::patch(patch));
    } else {
        pager::page(patch);
    }
    if found.truncated {
        render::note("output is truncated; raise --bytes to see the rest");
    }
    if !found.untracked.is_empty() && !global.quiet {
        let shown: Vec<String> = found.untracked.iter().map(|p| render::printable(p)).collect();
        render::note(&format!("untracked files, not part of this diff: {}", shown.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the distance of two histories as text: `+ahead -behind`, `even`, or `-` if unknown.
fn distance(ahead: Option<u64>, behind: Option<u64>) -> String {
    match (ahead, behind) {
        (None, None) => "-".to_owned(),
        (Some(0) | None, Some(0) | None) => "up to date".to_owned(),
        (Some(a), Some(0) | None) => format!("+{a}"),
        (Some(0) | None, Some(b)) => format!("-{b}"),
        (Some(a), Some(b)) => format!("+{a} -{b}"),
    }
}

fn branch(s: &StatusView) -> String {
    match (&s.branch, &s.head) {
        (Some(branch), _) => render::printable(branch),
        (None, Some(head)) => format!("({})", head.get(..10).unwrap_or(head)),
        (None, None) => "-".to_owned(),
    }
}

fn lines(s: &StatusView) -> String {
    let rest = if s.lines_complete { "" } else { " ..." };
    match (s.insertions, s.deletions) {
        (0, 0) => "-".to_owned(),
        (more, less) => format!("+{more} -{less}{rest}"),
    }
}

/// Returns the table of `status`; an entry without a status shows its error code.
pub(super) fn table(list: &[StatusEntry]) -> String {
    let header = ["ID", "BRANCH", "CHANGES", "LINES", "BASE", "UPSTREAM", "OPERATION", "CHANGED"];
    let rows = list.iter().map(|entry| match (&entry.status, &entry.error) {
        (Some(s), _) => [
            s.id.clone(),
            branch(s),
            if s.clean { "clean".to_owned() } else { s.changes.clone() },
            lines(s),
            distance(s.ahead_of_base, s.behind_base),
            distance(s.ahead, s.behind),
            s.operation.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{} ago", crate::format::age(&s.last_change)),
        ],
        (None, error) => {
            let code = error.as_ref().map_or("-", |e| e.code.as_str());
            let code = if entry.missing { "missing" } else { code };
            let dash = || "-".to_owned();
            [entry.id.clone(), dash(), code.to_owned(), dash(), dash(), dash(), dash(), dash()]
        }
    });
    render::table(header, rows)
}

/// Returns the text of `status ID`: everything known about one worktree, changed files included.
fn full(s: &StatusView) -> String {
    let mut text = format!("{} on {}\n", render::printable(&s.path), branch(s));
    let mut line = |label: &str, value: &str| {
        text.push_str(&format!("{label:<12} {}\n", render::printable(value)));
    };
    if let Some(base) = &s.base {
        let short = base.get(..10).unwrap_or(base);
        line("base", &format!("{short}, {}", distance(s.ahead_of_base, s.behind_base)));
    }
    if let Some(upstream) = &s.upstream {
        line("upstream", &format!("{upstream}, {}", distance(s.ahead, s.behind)));
    }
    if let Some(operation) = &s.operation {
        line("in progress", operation);
    }
    line("changes", if s.clean { "none" } else { &s.changes });
    if s.insertions + s.deletions > 0 {
        line("lines", &lines(s));
    }
    if s.stashes > 0 {
        line("stashes", &s.stashes.to_string());
    }
    line("changed", &format!("{} ago", crate::format::age(&s.last_change)));
    for file in &s.files {
        let from = file.from.as_deref().map(render::printable);
        let from = from.map(|from| format!(" (was {from})")).unwrap_or_default();
        text.push_str(&format!("  {} {}{from}\n", file.code, render::printable(&file.path)));
    }
    if !s.files_complete {
        text.push_str("  ... and more\n");
    }
    text
}
