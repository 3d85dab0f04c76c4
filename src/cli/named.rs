//! Finds the environment that a command is about: by its id, by the beginning of one, by `.`, or by
//! the directory that the user stands in. It asks the daemon and changes nothing.

use std::path::{Path, PathBuf};

use hyper::Method;

use crate::api::types::EnvironmentView;
use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::output::{NOTHING, encode};
use crate::cli::{render, shell};
use crate::core::{Code, Fault};
use crate::world::fs::paths;

/// Names the environment that the user stands in.
pub(super) const HERE: &str = ".";
/// Most ids that a message suggests.
const SUGGESTED_MAX: usize = 3;
/// Most ids that a message about an ambiguous beginning lists.
const LISTED_MAX: usize = 10;

/// Returns the environment that a verb is about which changes something: a whole id, or `.`.
pub(super) async fn whole(client: &mut Client, typed: &str) -> Result<String, CliError> {
    if typed == HERE { Ok(here(client).await?.id) } else { Ok(typed.to_owned()) }
}

/// Returns the environment that a verb is about which changes nothing. An id that ever lived wins;
/// a beginning that only one environment has serves as well. Without an id it is the one that the
/// user stands in.
pub(super) async fn any(client: &mut Client, typed: Option<&str>) -> Result<String, CliError> {
    let typed = match typed {
        None | Some(HERE) => return Ok(here(client).await?.id),
        Some(typed) => typed,
    };
    let path = format!("/v1/environments/{}?all=true", encode(typed));
    let found: Result<EnvironmentView, CliError> = client.call(Method::GET, &path, NOTHING).await;
    let unknown = match found {
        Ok(found) => return Ok(found.id),
        Err(failed) if !is_unknown(&failed) => return Err(failed),
        Err(unknown) => unknown,
    };
    let all = live(client).await?;
    let mut begun = all.iter().filter(|env| env.id.starts_with(typed)).map(|env| &*env.id);
    match (begun.next(), begun.next()) {
        (Some(only), None) => Ok(only.to_owned()),
        (Some(first), Some(second)) => {
            let rest: Vec<&str> = begun.collect();
            let more = (rest.len() + 2).saturating_sub(LISTED_MAX);
            let listed = [first, second].into_iter().chain(rest).take(LISTED_MAX);
            let mut listed: Vec<String> = listed.map(str::to_owned).collect();
            listed.extend((more > 0).then(|| format!("... and {more} more")));
            let message = format!("`{typed}` is the beginning of more than one id");
            let hint = "type more of it; `groundskeeper ls` lists all";
            Err(Fault::new(Code::EnvironmentNotFound, message, hint).with_evidence(listed).into())
        }
        (None, _) => Err(suggested(unknown, typed, &all)),
    }
}

/// Adds the nearest ids to the hint of an error about an environment that does not exist.
pub(super) async fn suggest(client: &mut Client, error: CliError, typed: &str) -> CliError {
    // Nothing was misspelt in that.
    if !is_unknown(&error) || typed == HERE {
        return error;
    }
    match live(client).await {
        Ok(all) => suggested(error, typed, &all),
        Err(_) => error,
    }
}

/// Returns whether an error says that there is no such environment.
pub(super) fn is_unknown(error: &CliError) -> bool {
    error.0.code == Code::EnvironmentNotFound.as_str()
}

fn suggested(mut error: CliError, typed: &str, all: &[EnvironmentView]) -> CliError {
    let near = nearest(typed, all.iter().map(|env| &*env.id));
    if !near.is_empty() {
        let near: Vec<String> = near.iter().map(|id| format!("`{id}`")).collect();
        let hint = format!("did you mean {}? `groundskeeper ls` lists all", near.join(" or "));
        error.0.hint = hint;
    }
    error
}

/// Returns the ids that could have been meant: those that differ in a few letters, the nearest
/// first.
pub(super) fn nearest<'a>(typed: &str, ids: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let most = (typed.chars().count() / 3).max(1);
    let far = ids.map(|id| (strsim::osa_distance(typed, id), id));
    let mut near: Vec<(usize, &str)> = far.filter(|(far, _)| *far <= most).collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTED_MAX).map(|(_, id)| id).collect()
}

async fn live(client: &mut Client) -> Result<Vec<EnvironmentView>, CliError> {
    client.call(Method::GET, "/v1/environments", NOTHING).await
}

/// Returns the environment whose worktree the user stands in.
async fn here(client: &mut Client) -> Result<EnvironmentView, CliError> {
    let Some(place) = standing_in() else {
        let hint = "name an environment; `groundskeeper ls` lists them";
        let message = "the directory that you stand in does not exist any more";
        return Err(Fault::new(Code::PathNotFound, message, hint).into());
    };
    let all = live(client).await?;
    let around = |env: &EnvironmentView| {
        let tree = Path::new(&env.path);
        place.starts_with(tree) || tree.canonicalize().is_ok_and(|tree| place.starts_with(tree))
    };
    // One may be inside another: an adopted worktree below a managed one.
    let found = all.into_iter().filter(around).max_by_key(|env| env.path.len());
    found.ok_or_else(|| {
        let message = format!("{} is in no environment", place.display());
        let hint = "name one; `groundskeeper ls` lists them with their paths";
        Fault::new(Code::EnvironmentNotFound, message, hint).into()
    })
}

/// Returns the directory that the user stands in; none if it was removed.
fn standing_in() -> Option<PathBuf> {
    std::env::current_dir().ok().filter(|place| place.exists())
}

/// Returns whether the directory that the user stands in was removed: unlinked, or moved to the
/// trash, where a shell goes along without a word.
pub(super) fn is_gone(global: &Global) -> bool {
    let in_trash = |place: &Path| {
        let layout = client::layout(global);
        layout.is_ok_and(|layout| layout.trashes().iter().any(|trash| place.starts_with(trash)))
    };
    standing_in().is_none_or(|place| in_trash(&place))
}

/// Says that the directory which the user stands in was removed, and how to leave it. Shells and
/// git only say that they cannot find it.
pub(super) async fn note_way_out(client: &mut Client) {
    let what = "the directory that you stand in was removed";
    // Where the shell believes to be.
    let place = std::env::var_os("PWD").map(PathBuf::from).unwrap_or_default();
    let removed = removed_at(client, &place).await;
    let repository = removed.as_deref().map(Path::new).map(|common| {
        let is_main = common.file_name() == Some(".git".as_ref());
        common.parent().filter(|_| is_main).unwrap_or(common)
    });
    let way = match repository.filter(|repository| repository.exists()) {
        Some(repository) if shell::go(&repository.to_string_lossy()) => {
            format!("you are in its repository {} now", repository.display())
        }
        Some(repository) => {
            format!("`cd {}` leads to its repository", paths::as_argument(repository))
        }
        None => "`cd` leads out of it".to_owned(),
    };
    render::note(&format!("{what}; {way}"));
}

/// Returns the repository of the environment that was at a path.
async fn removed_at(client: &mut Client, place: &Path) -> Option<String> {
    // The name of the folder is the id, whatever the data directory is.
    for folder in place.ancestors().skip(1) {
        let Some(id) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let path = format!("/v1/environments/{}?all=true", encode(id));
        let found: Result<EnvironmentView, CliError> =
            client.call(Method::GET, &path, NOTHING).await;
        if let Some(found) = found.ok().filter(|found| place.starts_with(&found.path)) {
            return Some(found.repo);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ids_differ_in_few_letters() {
        let ids = ["fix-login", "fix-logout", "docs", "a", "b"];
        let near = |typed| nearest(typed, ids.into_iter());
        assert_eq!(near("fix-lgoin"), ["fix-login", "fix-logout"], "the nearest first");
        assert_eq!(near("fix-logo"), ["fix-login", "fix-logout"]);
        assert_eq!(near("dosc"), ["docs"]);
        assert_eq!(near("xyz"), Vec::<&str>::new());
        assert_eq!(near("c"), ["a", "b"]);
    }
}
