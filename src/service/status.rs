//! Use cases for the status of one environment or all, and for the changes as a patch.

use std::sync::Arc;

use crate::core::{Code, Environment, EnvironmentId, Fault, Phase};
use crate::service::app::App;
use crate::service::contents::{live_environment, query_world};
use crate::service::relocation;
use crate::service::types::daemon::WatchingView;
use crate::service::types::problem::Problem;
use crate::service::types::status::{DiffView, StatusEntry, StatusView};
use crate::world::process::cancel::Cancel;
use crate::world::status::patch::Against;

/// Limit of a patch in bytes if the request gives none.
const PATCH_BYTES: u32 = 256 * 1024;
/// Upper bound of the limit that a request may give, in bytes.
const PATCH_BYTES_MAX: u32 = 16 << 20;

/// Returns the status of one environment. Starts no watch.
///
/// # Errors
/// If it does not exist, is tombstoned, or cannot be inspected.
pub(crate) async fn one(app: &Arc<App>, id: &EnvironmentId) -> Result<StatusView, Fault> {
    relocation::update_path_of(app, id).await?;
    let env = live_environment(app, id)?;
    let found = query_world(app, move |app, cancel| {
        // Changes that the kernel has queued must reach the cache before it is used.
        app.world.catch_up();
        view(app, &env, cancel)
    });
    found.await
}

fn view(app: &App, env: &Environment, cancel: &Cancel) -> Result<StatusView, Fault> {
    app.world.status(env, cancel).map(|status| StatusView::of(env, &status))
}

/// Returns the status of all live environments. A failed query fails no other.
///
/// # Errors
/// If the path of a repository cannot be updated.
pub(crate) async fn all(app: &Arc<App>) -> Result<Vec<StatusEntry>, Fault> {
    relocation::update_all_paths(app).await?;
    let live_environment: Vec<Environment> = app.handle.view(|state| {
        let all = state.environments().filter(|e| e.phase != Phase::Tombstoned);
        // A failed provision may have left no worktree to inspect.
        all.filter(|e| e.worktree.is_some()).cloned().collect()
    });
    query_world(app, move |app, cancel| Ok(entries(app, &live_environment, cancel))).await
}

fn entries(app: &App, live_environment: &[Environment], cancel: &Cancel) -> Vec<StatusEntry> {
    app.world.catch_up();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    let share = live_environment.len().div_ceil(threads).max(1);
    let one = |env: &Environment| match view(app, env, cancel) {
        Ok(status) => {
            let (id, status) = (env.id.to_string(), Some(status));
            StatusEntry { id, status, error: None, missing: false }
        }
        Err(fault) => {
            let (id, error) = (env.id.to_string(), Some(Problem::of(&fault)));
            let missing = fault.code == Code::PathNotFound && env.is_served();
            StatusEntry { id, status: None, error, missing }
        }
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = live_environment
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

/// Returns the counters of watching and of status queries.
pub(crate) fn watching(app: &App) -> WatchingView {
    let (metrics, status_cache) = (app.watching.metrics(), app.world.status_cache().counts());
    let watch_tracker = app.world.watch_tracker();
    let (counts, budget) = (watch_tracker.map(|h| h.counts()), watch_tracker.map(|h| h.budget()));
    let counts = counts.unwrap_or_default();
    WatchingView {
        backend: watch_tracker.map_or("", |watch_tracker| watch_tracker.backend()).to_owned(),
        worktrees: counts.worktrees,
        watches: counts.watches,
        budget: budget.map_or(0, |b| b.host),
        limit: budget.map_or(0, |b| b.system),
        instances: counts.instances,
        followers: metrics.subscriptions,
        stages: metrics.stages.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        begun: counts.begun,
        overflows: counts.overflows,
        polls: metrics.polls,
        degraded: metrics.degraded,
        give_ups: metrics.give_ups,
        statuses_computed: status_cache.computed,
        statuses_partial: status_cache.partial,
        statuses_shared: status_cache.shared,
    }
}

/// Returns the changes of tracked files since the last commit with `head`, else since the base;
/// `most` bounds the patch in bytes.
///
/// # Errors
/// If the environment does not exist, is tombstoned, or cannot be inspected.
pub(crate) async fn diff(
    app: &Arc<App>,
    id: &EnvironmentId,
    head: bool,
    most: Option<u32>,
) -> Result<DiffView, Fault> {
    relocation::update_path_of(app, id).await?;
    let env = live_environment(app, id)?;
    let against = if head { Against::Head } else { Against::Base };
    let most = most.unwrap_or(PATCH_BYTES).min(PATCH_BYTES_MAX);
    let found = query_world(app, move |app, cancel| {
        app.world.catch_up();
        let patch = app.world.patch(&env, against, most as usize, cancel)?;
        let status = app.world.status(&env, cancel)?;
        let untracked = status.changes.entries.iter().filter(|e| e.code == *b"??");
        Ok(DiffView {
            id: env.id.to_string(),
            from: patch.from,
            patch: String::from_utf8_lossy(&patch.bytes).into_owned(),
            truncated: patch.truncated,
            untracked: untracked.map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect(),
        })
    });
    found.await
}
