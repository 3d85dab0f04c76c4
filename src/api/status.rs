//! Handlers for the status of one environment or all, and for the changes as a patch.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::contents::{live_environment, query_world};
use super::relocation;
use super::types::{Problem, SummaryView, WatchingView};
use crate::api::app::App;
use crate::api::extract::{Answer, Named, Params, Shared, environment_id};
use crate::core::{Environment, Fault, Phase, Time};
use crate::format::rfc3339;
use crate::world::process::cancel::Cancel;
use crate::world::status::parse::Entry;
use crate::world::status::patch::Against;
use crate::world::status::types::Status;

/// Limit of a patch in bytes if the request gives none.
const PATCH_BYTES: u32 = 256 * 1024;
/// Upper bound of the limit that a request may give, in bytes.
const PATCH_BYTES_MAX: u32 = 16 << 20;

/// What an environment looks like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StatusView {
    /// Its name.
    pub id: String,
    /// Which life of it.
    pub incarnation: u32,
    /// Where it stands.
    pub phase: String,
    /// Its directory.
    pub path: String,
    /// The branch; none when HEAD is detached.
    pub branch: Option<String>,
    /// Whether HEAD is detached.
    pub detached: bool,
    /// Whether there is no commit yet.
    pub unborn: bool,
    /// The commit that HEAD is at.
    pub head: Option<String>,
    /// The commit that it was made from.
    pub base: Option<String>,
    /// Commits since then.
    pub ahead_of_base: Option<u64>,
    /// Commits that the base's branch has gained since.
    pub behind_base: Option<u64>,
    /// The upstream of the branch.
    pub upstream: Option<String>,
    /// Commits that the upstream lacks; none without one.
    pub ahead: Option<u64>,
    /// Commits that the branch lacks.
    pub behind: Option<u64>,
    /// Whether there is nothing to commit and nothing untracked.
    pub clean: bool,
    /// The changes in short: `+` new, `~` changed, `>` renamed, `-` deleted, `!` unmerged, `?`
    /// untracked.
    pub changes: String,
    /// Entries with a staged change.
    pub staged: u64,
    /// Entries with a change that is not staged.
    pub unstaged: u64,
    /// New files that git knows of.
    pub added: u64,
    /// Changed files.
    pub modified: u64,
    /// Deleted files.
    pub deleted: u64,
    /// Renamed or copied files.
    pub renamed: u64,
    /// Files that became links, or the other way round.
    pub retyped: u64,
    /// Unmerged paths.
    pub conflicts: u64,
    /// Untracked files, and directories that hold nothing else.
    pub untracked: u64,
    /// Changed submodules.
    pub submodules: u64,
    /// What is in progress: `merge`, `rebase`, `am`, `cherry-pick`, `revert`, `bisect`.
    pub operation: Option<String>,
    /// Lines added in tracked files, staged or not.
    pub insertions: u64,
    /// Lines removed in them.
    pub deletions: u64,
    /// Whether these lines are all: nothing untracked, binary or in conflict.
    pub lines_complete: bool,
    /// Stashes of the repository.
    pub stashes: u64,
    /// The youngest change that was seen, RFC 3339.
    pub last_change: String,
    /// The changed paths, as far as they are listed.
    pub files: Vec<FileView>,
    /// Whether all are listed.
    pub files_complete: bool,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct FileView {
    /// As in git's short format: `M.`, `.D`, `UU`, `??`.
    pub code: String,
    /// From the top of the worktree.
    pub path: String,
    /// Where it was renamed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The status of one environment among others, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StatusEntry {
    /// Its name.
    pub id: String,
    /// What it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusView>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

impl FileView {
    fn of(entry: &Entry) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let from = entry.from.as_deref().map(text);
        Self { code: text(&entry.code), path: text(&entry.path), from }
    }
}

impl StatusView {
    pub(super) fn of(env: &Environment, status: &Status) -> Self {
        let c = &status.changes;
        let base = env.base.as_ref().map(|b| b.commit.clone());
        let nanos = u64::try_from(status.last_change).unwrap_or(0).saturating_mul(1_000_000_000);
        Self {
            id: env.id.to_string(),
            incarnation: env.incarnation,
            phase: env.phase.as_str().to_owned(),
            path: env.plan.path.to_string(),
            branch: c.branch.clone(),
            detached: c.branch.is_none(),
            unborn: c.head.is_empty(),
            head: Some(c.head.clone()).filter(|head| !head.is_empty()),
            base,
            ahead_of_base: status.ahead_of_base,
            behind_base: status.behind_base,
            upstream: c.upstream.clone(),
            ahead: c.distance.map(|d| d.0),
            behind: c.distance.map(|d| d.1),
            clean: c.is_clean(),
            changes: SummaryView::of(status).changes,
            staged: c.staged,
            unstaged: c.unstaged,
            added: c.added,
            modified: c.modified,
            deleted: c.deleted,
            renamed: c.renamed,
            retyped: c.retyped,
            conflicts: c.conflicts,
            untracked: c.untracked,
            submodules: c.submodules,
            operation: status.operation.map(str::to_owned),
            insertions: status.insertions,
            deletions: status.deletions,
            lines_complete: status.lines_complete,
            stashes: c.stashes,
            last_change: rfc3339(Time(nanos)),
            files: c.entries.iter().map(FileView::of).collect(),
            files_complete: c.is_complete(),
        }
    }
}

/// What one environment looks like. Asking starts no watch and brings nothing back: one that is
/// destroyed is answered 410.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/status",
    responses((status = 200, body = StatusView), super::document::Failure),
))]
pub(super) async fn one(State(app): Shared, Named(id): Named) -> Answer<Json<StatusView>> {
    let id = environment_id(&id)?;
    relocation::update_path_of(&app, &id).await?;
    let env = live_environment(&app, &id)?;
    let found = query_world(&app, move |app, cancel| {
        // Changes that the kernel has queued must reach the cache before it is used.
        app.world.catch_up();
        view(app, &env, cancel)
    });
    Ok(Json(found.await?))
}

fn view(app: &App, env: &Environment, cancel: &Cancel) -> Result<StatusView, Fault> {
    app.world.status(env, cancel).map(|status| StatusView::of(env, &status))
}

/// What all living environments look like. One that cannot be looked at holds up no other.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/status",
    responses((status = 200, body = Vec<StatusEntry>), super::document::Failure),
))]
pub(super) async fn all(State(app): Shared) -> Answer<Json<Vec<StatusEntry>>> {
    relocation::update_all_paths(&app).await?;
    let live_environment: Vec<Environment> = app.handle.view(|state| {
        let all = state.environments().filter(|e| e.phase != Phase::Tombstoned);
        // A failed provision may have left no worktree to inspect.
        all.filter(|e| e.worktree.is_some()).cloned().collect()
    });
    Ok(Json(
        query_world(&app, move |app, cancel| Ok(entries(app, &live_environment, cancel))).await?,
    ))
}

fn entries(app: &App, live_environment: &[Environment], cancel: &Cancel) -> Vec<StatusEntry> {
    app.world.catch_up();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    let share = live_environment.len().div_ceil(threads).max(1);
    let one = |env: &Environment| match view(app, env, cancel) {
        Ok(status) => StatusEntry { id: env.id.to_string(), status: Some(status), error: None },
        Err(fault) => {
            let error = Some(Problem::of(&fault));
            StatusEntry { id: env.id.to_string(), status: None, error }
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
pub(super) fn watching(app: &App) -> WatchingView {
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

/// How much of a patch, and against what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// Compare with the last commit instead of the base.
    #[serde(default)]
    pub head: bool,
    /// Most bytes of the patch; 256 KiB if left out, 16 MiB at most.
    pub max_bytes: Option<u32>,
}

/// The changes in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DiffView {
    /// Its name.
    pub id: String,
    /// The commit that the patch applies to.
    pub from: String,
    /// The patch; bytes that are no UTF-8 are replaced.
    pub patch: String,
    /// Whether there is more than was asked for.
    pub truncated: bool,
    /// Untracked files and directories, which are not part of the patch.
    pub untracked: Vec<String>,
}

/// The changes of tracked files since the environment was made, or since the last commit.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/environments/{id}/diff",
    params(DiffQuery),
    responses((status = 200, body = DiffView), super::document::Failure),
))]
pub(super) async fn diff(
    State(app): Shared,
    Named(id): Named,
    Params(query): Params<DiffQuery>,
) -> Answer<Json<DiffView>> {
    let id = environment_id(&id)?;
    relocation::update_path_of(&app, &id).await?;
    let env = live_environment(&app, &id)?;
    let against = if query.head { Against::Head } else { Against::Base };
    let most = query.max_bytes.unwrap_or(PATCH_BYTES).min(PATCH_BYTES_MAX);
    let found = query_world(&app, move |app, cancel| {
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
    Ok(Json(found.await?))
}
