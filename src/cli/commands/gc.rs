//! `gc`: removes unused environments one by one, each as `rm` without `--force` does.
//!
//! It never decides that work may be lost: what the daemon refuses stays, and the reason is shown.

use std::collections::BTreeSet;
use std::process::ExitCode;

use hyper::Method;
use serde::Serialize;

use crate::api::archives::ArchivedIncarnationView;
use crate::api::contents::EvidenceView;
use crate::api::types::{EnvironmentView, RemoveQuery};
use crate::cli::args::{Gc, Global};
use crate::cli::ask;
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::removal::remove;
use crate::cli::render::{self, table};
use crate::format::seconds_since;

/// Outcome of an environment that was only looked at.
const WOULD_BE_REMOVED: &str = "would be removed";

/// Outcome for one environment.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Settled {
    /// Id of the environment.
    pub(in crate::cli) id: String,
    /// `removed`, `would be removed` or `kept`.
    pub(in crate::cli) outcome: &'static str,
    /// Reason for the outcome, as text for people.
    pub(in crate::cli) why: String,
}

pub(in crate::cli) async fn run(global: &Global, which: &Gc) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let mut only = None;
    if !which.dry_run && ask::is_due(global, which.yes) {
        let preview = Gc { dry_run: true, ..which.clone() };
        let found = pass(global, &mut client, &preview, None).await?;
        let agreed = found.iter().filter(|one| one.outcome == WOULD_BE_REMOVED);
        let agreed: BTreeSet<String> = agreed.map(|one| one.id.clone()).collect();
        render::out(&settled(&found));
        match agreed.len() {
            0 => {
                render::note("nothing to remove");
                return Ok(ExitCode::SUCCESS);
            }
            1 => ask::consent("Remove this environment?")?,
            more => ask::consent(&format!("Remove these {more} environments?"))?,
        }
        only = Some(agreed);
    }
    let done = pass(global, &mut client, which, only.as_ref()).await?;
    if done.is_empty() && !global.json && !global.quiet {
        render::note("no environment was checked");
        return Ok(ExitCode::SUCCESS);
    }
    show_one(global, &done, &settled(&done))
}

/// Checks every environment that is ready, or of those that were agreed to, and removes the unused.
async fn pass(
    global: &Global,
    client: &mut Client,
    which: &Gc,
    only: Option<&BTreeSet<String>>,
) -> Result<Vec<Settled>, CliError> {
    let mut list: Vec<EnvironmentView> =
        client.call(Method::GET, "/v1/environments", NOTHING).await?;
    list.retain(|env| only.is_none_or(|only| only.contains(&env.id)));
    // Oldest first: with `--free` the loop stops early and keeps the newest.
    list.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    let steps = render::Steps::new(global.quiet || global.json);
    let mut settled = Vec::new();
    for env in list.iter().filter(|e| e.phase == "ready" && !e.adopted) {
        if which.free.is_some_and(|wanted| free_gigabytes(global) >= wanted) {
            break;
        }
        steps.step(&format!("checking {}", env.id));
        let (outcome, why) = match unwanted(which, env) {
            Err(why) => ("kept", why),
            Ok(_) if !env.leases.is_empty() => ("kept", "leased".to_owned()),
            Ok(why) => settle(client, which, env, why).await?,
        };
        settled.push(Settled { id: env.id.clone(), outcome, why });
    }
    steps.finish();
    Ok(settled)
}

/// Returns the free space of the data directory in GiB. Returns `u64::MAX` if it cannot be read, so
/// that `gc` then removes nothing for the sake of space.
fn free_gigabytes(global: &Global) -> u64 {
    let root = client::layout(global).map(|l| l.root().to_owned()).unwrap_or_default();
    rustix::fs::statvfs(&root).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize) >> 30)
}

/// Checks that an environment reaches the requested age; both results carry the age as text.
fn unwanted(which: &Gc, env: &EnvironmentView) -> Result<String, String> {
    old_enough(which.age, "created", &env.created_at)
}

fn old_enough(limit: Option<u64>, what: &str, time: &str) -> Result<String, String> {
    let description = format!("{what} {} ago", crate::format::age(time));
    match limit {
        Some(limit) if seconds_since(time) < limit => Err(description),
        Some(_) => Ok(description),
        None => Ok(String::new()),
    }
}

async fn settle(
    client: &mut Client,
    which: &Gc,
    env: &EnvironmentView,
    why: String,
) -> Result<(&'static str, String), CliError> {
    let path = format!("/v1/environments/{}/evidence", encode(&env.id));
    let evidence: Result<EvidenceView, CliError> = client.call(Method::GET, &path, NOTHING).await;
    let evidence = match evidence {
        Ok(evidence) => evidence,
        Err(failed) => return Ok(("kept", format!("cannot inspect it: {}", failed.0.message))),
    };
    if let Some(user) = evidence.in_use.first() {
        return Ok(("kept", format!("in use: {user}")));
    }
    // Idle time counts from the last change of the content, not from the daemon's own steps.
    let idle = match old_enough(which.idle, "last changed", &evidence.last_change) {
        Ok(idle) => idle,
        Err(why) => return Ok(("kept", why)),
    };
    let why = [why, idle].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(", ");
    let why = if why.is_empty() { "no work at risk".to_owned() } else { why };
    if let Some(work) = evidence.unsaved.first() {
        return Ok(("kept", work.clone()));
    }
    if which.dry_run {
        return Ok((WOULD_BE_REMOVED, why));
    }
    match remove(client, &env.id, &RemoveQuery::default()).await {
        Ok(_) => {
            // A removal frees space only when its trash entry is unlinked.
            if which.free.is_some() {
                let id = encode(&env.id);
                let path = format!("/v1/trash?environment={id}&wait={WAIT_SECONDS}");
                let _left: Vec<ArchivedIncarnationView> =
                    client.call(Method::DELETE, &path, NOTHING).await?;
            }
            Ok(("removed", why))
        }
        Err(failed) => Ok(("kept", failed.0.message)),
    }
}

/// Returns the table of `gc`.
#[must_use]
pub(super) fn settled(list: &[Settled]) -> String {
    let rows = list.iter().map(|s| [s.id.clone(), s.outcome.to_owned(), s.why.clone()]);
    table(["ID", "OUTCOME", "REASON"], rows)
}
