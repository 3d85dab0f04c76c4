//! `ls` lists environments; `show` prints one in full.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;

use crate::api::types::{DaemonView, EnvironmentView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::commands::fields;
use crate::cli::error::CliError;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::render;
use crate::world::fs::paths;

/// Environments in one page of a list that may be long.
const PAGE: usize = 1_000;

/// Which environments to list, and how.
pub(in crate::cli) struct Wanted {
    pub(in crate::cli) all: bool,
    pub(in crate::cli) repo: Option<PathBuf>,
    pub(in crate::cli) filters: Vec<(String, String)>,
    pub(in crate::cli) format: Option<String>,
}

pub(in crate::cli) async fn ls(global: &Global, wanted: &Wanted) -> CommandResult {
    let mut client = Client::connect(global).await?;
    if wanted.all {
        return every_life(global, wanted, &mut client).await;
    }
    // Ids alone need no look at the worktrees.
    let has_changes = !(global.quiet && wanted.filters.is_empty() && wanted.format.is_none());
    let path = format!("/v1/environments?changes={has_changes}");
    let mut list: Vec<EnvironmentView> = client.call(Method::GET, &path, NOTHING).await?;
    if let Some(repo) = &wanted.repo {
        let place = repo.canonicalize().map_err(|e| paths::fault("find", repo, &e))?;
        let common = repository_at(&list, &place);
        list.retain(|env| Some(&env.repo) == common.as_ref());
    }
    let list_is_empty = list.is_empty();
    let mut list = fields::select(list, &wanted.filters)?;
    list.sort_by(|a, b| natural(&a.id).cmp(&natural(&b.id)));
    if global.json {
        return show_one(global, &list, "");
    }
    show(global, wanted, &list)?;
    if !global.quiet {
        if list.is_empty() {
            let place = if wanted.repo.is_some() { " of this repository" } else { "" };
            render::note(&if list_is_empty {
                format!("no environments{place}; create one with `groundskeeper new`")
            } else {
                format!("no environments{place} match the filter")
            });
        }
        note_held_sweep(&mut client).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a list: in the form that was asked for, as a table that fits the terminal, or with
/// `--quiet` the ids alone.
fn show(global: &Global, wanted: &Wanted, list: &[EnvironmentView]) -> Result<(), CliError> {
    if let Some(format) = &wanted.format {
        render::out(&fields::formatted(list, format)?);
    } else if global.quiet {
        let ids = list.iter().fold(String::new(), |text, env| text + &env.id + "\n");
        render::out(&ids);
    } else if !list.is_empty() {
        let colored = render::color::is_wanted(global.color);
        render::out(&render::environments(list, render::terminal_width(), colored));
    }
    Ok(())
}

/// Returns the repository of the environments that have to do with a directory: it is in one of
/// their worktrees, or in their repository.
fn repository_at(list: &[EnvironmentView], place: &Path) -> Option<String> {
    let is_of = |folder: &Path, env: &EnvironmentView| {
        let common = Path::new(&env.repo);
        let is_main =
            common.file_name() == Some(".git".as_ref()) && common.parent() == Some(folder);
        folder == common || is_main || folder == Path::new(&env.path)
    };
    place
        .ancestors()
        .find_map(|folder| list.iter().find(|env| is_of(folder, env)).map(|env| env.repo.clone()))
}

/// Returns the parts of an id by which people order: runs of digits by their value.
fn natural(id: &str) -> Vec<(u8, u64, &str)> {
    let mut parts = Vec::new();
    let mut rest = id;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        let number = if is_number { part.parse().unwrap_or(u64::MAX) } else { 0 };
        parts.push((u8::from(!is_number), number, part));
        rest = after;
    }
    parts
}

/// Lists every environment that ever was, page by page: there may be more than memory holds.
async fn every_life(global: &Global, wanted: &Wanted, client: &mut Client) -> CommandResult {
    let mut after = String::new();
    let mut listed = 0;
    loop {
        let path = format!("/v1/environments?all=true&limit={PAGE}&after={}", encode(&after));
        let page: Vec<EnvironmentView> = client.call(Method::GET, &path, NOTHING).await?;
        let (is_full, end) = (page.len() == PAGE, page.last().map(|last| last.id.clone()));
        let page = fields::select(page, &wanted.filters)?;
        if global.json {
            for (n, view) in (listed..).zip(&page) {
                let view = serde_json::to_string(view).unwrap_or_default();
                render::out(&format!("{}{view}", if n == 0 { "[" } else { "," }));
            }
        } else {
            show(global, wanted, &page)?;
        }
        listed += page.len();
        match end.filter(|_| is_full) {
            Some(end) => after = end,
            None => break,
        }
    }
    if global.json {
        render::out(if listed == 0 { "[]\n" } else { "]\n" });
    } else if !global.quiet {
        if listed == 0 {
            let none = "no environments; create one with `groundskeeper new`";
            let filtered = "no environments match the filter";
            render::note(if wanted.filters.is_empty() { none } else { filtered });
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

pub(in crate::cli) async fn show_one_environment(
    global: &Global,
    id: Option<&str>,
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = named::any(&mut client, id).await?;
    let path = format!("/v1/environments/{}?changes=true", encode(&id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::environment(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_ids_are_ordered_by_value() {
        let mut ids = ["fix-10", "fix-2", "a", "10", "9", "fix", "fix-2b", "b1"];
        ids.sort_by(|a, b| natural(a).cmp(&natural(b)));
        assert_eq!(ids, ["9", "10", "a", "b1", "fix", "fix-2", "fix-2b", "fix-10"]);
    }
}
