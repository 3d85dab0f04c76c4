//! Values that a shell completes: ids, leases and branches. They are asked of the daemon and of git
//! within a bound; what does not answer in time is not offered, and no daemon is started.

use std::path::Path;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use hyper::Method;
use serde::de::DeserializeOwned;

use crate::api::archives::ArchivedIncarnationView;
use crate::api::types::EnvironmentView;
use crate::cli::args::{Color, Global};
use crate::cli::client::{self, Client};
use crate::cli::output::NOTHING;
use crate::world::git::command::Git;
use crate::world::process::cancel::Cancel;

/// Longest time for an answer: a person waits for it with a finger on the key.
const LIMIT: Duration = Duration::from_millis(50);

/// Ids of environments that live, each with its branch.
pub(super) fn ids() -> Vec<CompletionCandidate> {
    let all: Vec<EnvironmentView> = ask("/v1/environments?brief=true").unwrap_or_default();
    let one = |env: EnvironmentView| CompletionCandidate::new(env.id).help(Some(env.branch.into()));
    all.into_iter().map(one).collect()
}

/// Ids of environments that are removed and can be restored, each with when it was removed.
pub(super) fn removed() -> Vec<CompletionCandidate> {
    let all: Vec<ArchivedIncarnationView> = ask("/v1/trash").unwrap_or_default();
    let removed = all.into_iter().filter(|entry| entry.kind == "removed");
    archived(removed)
}

/// Ids of environments that have a rescue.
pub(super) fn rescued() -> Vec<CompletionCandidate> {
    archived(ask::<Vec<_>>("/v1/rescues").unwrap_or_default().into_iter())
}

fn archived(entries: impl Iterator<Item = ArchivedIncarnationView>) -> Vec<CompletionCandidate> {
    let one = |entry: ArchivedIncarnationView| {
        let when = format!("removed {} ago", crate::format::age(&entry.removed_at));
        CompletionCandidate::new(entry.id).help(Some(when.into()))
    };
    entries.map(one).collect()
}

/// Ids of leases, each with its environment and purpose.
pub(super) fn leases() -> Vec<CompletionCandidate> {
    let all: Vec<EnvironmentView> = ask("/v1/environments?brief=true").unwrap_or_default();
    let of = |env: EnvironmentView| {
        let id = env.id;
        env.leases.into_iter().map(move |lease| {
            let what = format!("{id} {}", lease.purpose);
            CompletionCandidate::new(lease.id).help(Some(what.into()))
        })
    };
    all.into_iter().flat_map(of).collect()
}

/// Branches and tags of the repository that the user stands in.
pub(super) fn revisions() -> Vec<CompletionCandidate> {
    here(&["refs/heads", "refs/remotes", "refs/tags"])
}

/// Branches of that repository.
pub(super) fn branches() -> Vec<CompletionCandidate> {
    here(&["refs/heads", "refs/remotes"])
}

fn here(below: &[&str]) -> Vec<CompletionCandidate> {
    let Ok(place) = std::env::current_dir() else { return Vec::new() };
    refs(&place, below).into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the short names of the refs below these in the repository at a path.
pub(super) fn refs(place: &Path, below: &[&str]) -> Vec<String> {
    let Ok(cancel) = Cancel::new() else { return Vec::new() };
    let git = Git::at(place, None, &cancel).within(LIMIT);
    let list = ["for-each-ref", "--format=%(refname:short)"];
    let found = git.output(list.iter().chain(below)).unwrap_or_default();
    String::from_utf8_lossy(&found).lines().map(str::to_owned).collect()
}

/// Asks a daemon that runs.
fn ask<T: DeserializeOwned>(path: &str) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = async {
        let layout = client::layout(&global()).ok()?;
        let mut client = Client::try_connect(&layout).await.ok()?;
        client.call(Method::GET, path, NOTHING).await.ok()
    };
    runtime.block_on(async { tokio::time::timeout(LIMIT, asked).await.ok().flatten() })
}

/// Returns the flags of the line that is completed, as far as they say which daemon is meant.
fn global() -> Global {
    let words: Vec<_> = std::env::args_os().collect();
    let named = words.windows(2).find(|pair| pair[0] == "--data-dir").map(|pair| pair[1].clone());
    let home = || std::env::var_os("GROUNDSKEEPER_HOME");
    Global {
        data_dir: named.or_else(home).filter(|dir| !dir.is_empty()).map(Into::into),
        json: false,
        no_input: true,
        no_autostart: true,
        quiet: true,
        verbose: 0,
        color: Color::Never,
    }
}
