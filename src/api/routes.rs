//! The resources of the API: each handler parses, submits a command or reads the state, answers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{
    DefaultBodyLimit, Extension, FromRequest, FromRequestParts, Path as UrlPath, Query, Request,
    State,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use utoipa::OpenApi;

use super::problem::{Refusal, invalid, nowhere};
use super::types::{
    DaemonView, EnvironmentView, ListQuery, NewEnvironment, Problem, RemoveQuery, RemovedView,
    SessionView, SummaryView, WaitQuery,
};
use super::{document, inside, kept, leases, live, locks, migrations, moved, status};
use crate::config::Config;
use crate::core::event::{Actor, Plan, Repository, TeardownOptions};
use crate::core::policy::BranchPolicy;
use crate::core::reconcile;
use crate::core::{
    Code, Command, Environment, EnvironmentId, Fault, Phase, RequestId, Seq, Time, destroyed,
    not_found,
};
use crate::engine::{Handle, Watching};
use crate::format::rfc3339;
use crate::migrate::Desk;
use crate::world::World;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::discover::Known;
use crate::world::process::cancel::Cancel;

/// Largest request body in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Time that a client has to send a request body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait that a request may ask for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the handlers share.
pub struct App {
    /// The engine.
    pub handle: Handle,
    /// Where things are.
    pub layout: Layout,
    /// The outside, for questions that change nothing in it.
    pub world: Arc<World>,
    /// Where migrations are worked on.
    pub desk: Arc<Desk>,
    /// What sees changes of the worktrees.
    pub watching: Arc<Watching>,
    /// Repositories that were asked about before.
    pub repositories: Arc<Known>,
    /// Settings.
    pub config: Config,
    /// Bound on open event streams.
    pub streams: Arc<Semaphore>,
    /// Bound on commands that run for those who are not there.
    pub runs: Arc<Semaphore>,
    /// True once the daemon is stopping.
    pub stop: watch::Receiver<bool>,
    /// Asks the daemon to stop.
    pub stopper: watch::Sender<bool>,
    /// Fixed facts about this daemon.
    pub about: About,
    /// The session with a control server, where there is to be one.
    pub session: OnceLock<watch::Receiver<SessionView>>,
}

/// Fixed facts about a daemon.
#[derive(Debug, Clone)]
pub struct About {
    /// The git it uses.
    pub git: String,
    /// Identity of its log, in hex.
    pub log_id: String,
    /// When it started.
    pub started: Time,
    /// Scheduling of the log writer.
    pub priority: String,
}

pub(super) type Answer<T> = Result<T, Refusal>;
pub(super) type Shared = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "groundskeeper",
        description = "Life cycle of git worktree environments. Additive changes only within v1.",
        version = "1",
    ),
    paths(
        list,
        create,
        show,
        remove,
        cancel,
        super::log::records,
        super::log::state,
        leases::lease,
        leases::release,
        super::trust::show,
        super::trust::set,
        daemon,
        shutdown,
        super::events::events,
        kept::restore,
        kept::trash,
        locks::locks,
        kept::empty,
        kept::rescues,
        kept::drop_rescue,
        kept::sweep,
        inside::processes,
        inside::launch,
        inside::exited,
        inside::evidence,
        inside::usage,
        super::clean::clean,
        super::clean::undo,
        inside::adopt,
        status::one,
        status::all,
        status::diff,
        live::reconcile,
        live::confirm,
        migrations::create,
        migrations::list,
        migrations::show,
        migrations::undo,
        super::run::run
    ),
    components(schemas(Problem))
)]
struct Document;

/// The `OpenAPI` document, as it is committed in `schema/openapi.json`.
#[must_use]
pub fn openapi() -> String {
    document::text(Document::openapi())
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/environments", get(list).post(create))
        .route("/v1/environments/{id}", get(show).delete(remove))
        .route("/v1/environments/{id}/cancel", post(cancel))
        .route("/v1/environments/{id}/leases", post(leases::lease))
        .route("/v1/environments/{id}/restore", post(kept::restore))
        .route("/v1/environments/{id}/processes", get(inside::processes).post(inside::launch))
        .route("/v1/environments/{id}/processes/{pid}", delete(inside::exited))
        .route("/v1/environments/{id}/evidence", get(inside::evidence))
        .route("/v1/environments/{id}/usage", get(inside::usage))
        .merge(super::clean::routes())
        .route("/v1/environments/{id}/run", post(super::run::run))
        .route("/v1/environments/{id}/status", get(status::one))
        .route("/v1/environments/{id}/diff", get(status::diff))
        .route("/v1/status", get(status::all))
        .route("/v1/adopt", post(inside::adopt))
        .route(
            "/v1/reconcile",
            post(live::reconcile).layer(DefaultBodyLimit::max(live::LIVE_BYTES_MAX)),
        )
        .route("/v1/reconcile/confirm", post(live::confirm))
        .route("/v1/migrations", get(migrations::list).post(migrations::create))
        .route("/v1/migrations/{id}", get(migrations::show))
        .route("/v1/migrations/{id}/undo", post(migrations::undo))
        .route("/v1/locks", get(locks::locks))
        .route("/v1/trash", get(kept::trash).delete(kept::empty))
        .route("/v1/rescues", get(kept::rescues))
        .route("/v1/rescues/{id}/{incarnation}", delete(kept::drop_rescue))
        .route("/v1/sweep", post(kept::sweep))
        .route("/v1/leases/{id}", delete(leases::release))
        .route("/v1/trust", get(super::trust::show).put(super::trust::set))
        .route("/v1/events", get(super::events::events))
        .merge(super::log::routes())
        .route("/v1/daemon", get(daemon))
        .route("/v1/shutdown", post(shutdown))
        .route("/v1/openapi.json", get(|| async { json_text(openapi()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal(nowhere()) })
        .method_not_allowed_fallback(|| async { Refusal(invalid("no such method here")) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

fn json_text(text: String) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Query parameters, with refusals of ours.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|e| invalid(format!("the query does not fit: {}", e.body_text())))?;
        Ok(Self(value))
    }
}

/// A path parameter, with refusals of ours.
pub struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let UrlPath(name) = UrlPath::from_request_parts(parts, state)
            .await
            .map_err(|e| invalid(format!("the address does not fit: {}", e.body_text())))?;
        Ok(Self(name))
    }
}

/// A JSON body, with refusals of ours.
pub struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, state)).await;
        let read = read.map_err(|_| {
            let message = format!("the body did not arrive within {} s", BODY_LIMIT.as_secs());
            Fault::new(Code::Timeout, message, "send it at once")
        })?;
        let bytes = read.map_err(|e| {
            if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message = format!("the request is larger than {BODY_BYTES_MAX} bytes");
                return Fault::new(Code::RequestTooLarge, message, "send less");
            }
            invalid(format!("the body cannot be read: {}", e.body_text()))
        })?;
        let value = serde_json::from_slice(&bytes);
        Ok(Self(value.map_err(|e| invalid(format!("the body does not fit: {e}")))?))
    }
}

pub(crate) fn environment_id(text: &str) -> Result<EnvironmentId, Fault> {
    EnvironmentId::parse(text)
        .map_err(|e| invalid(format!("{text:?} cannot name an environment: {e}")))
}

pub(super) fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Fault> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid("Idempotency-Key is not text"))?;
    RequestId::parse(text).map(Some).map_err(|e| invalid(format!("Idempotency-Key: {e}")))
}

/// All environments, by id.
#[utoipa::path(get, path = "/v1/environments", params(ListQuery), responses(
    (status = 200, body = Vec<EnvironmentView>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn list(State(app): Shared, Params(query): Params<ListQuery>) -> Json<Vec<EnvironmentView>> {
    let known = |e: &Environment| {
        let status = app.world.book().last(&e.id, e.incarnation)?;
        Some(SummaryView::of(&status))
    };
    let found = app.handle.view(|state| {
        let all = state.environments().filter(|e| query.all || e.phase != Phase::Tombstoned);
        all.map(|e| EnvironmentView { known: known(e), ..EnvironmentView::of(state, e) }).collect()
    });
    Json(found)
}

/// One environment. One that is destroyed is answered 410, one that never was 404.
#[utoipa::path(get, path = "/v1/environments/{id}", responses(
    (status = 200, body = EnvironmentView),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn show(State(app): Shared, Named(id): Named) -> Answer<Json<EnvironmentView>> {
    let id = environment_id(&id)?;
    Ok(Json(view_of(&app, &id)?))
}

pub(super) fn view_of(app: &App, id: &EnvironmentId) -> Result<EnvironmentView, Fault> {
    app.handle.view(|state| match state.environment(id) {
        None => Err(not_found(id)),
        Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(id)),
        Some(e) => Ok(EnvironmentView::of(state, e)),
    })
}

/// Makes an environment. The answer comes when the request is durable, or with `wait` when the
/// environment is ready or has failed.
#[utoipa::path(post, path = "/v1/environments", params(WaitQuery), request_body = NewEnvironment,
    responses(
    (status = 200, body = EnvironmentView, description = "ready, failed, or there already"),
    (status = 202, body = EnvironmentView, description = "being made"),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Params(query): Params<WaitQuery>,
    Body(wanted): Body<NewEnvironment>,
) -> Answer<Response> {
    let request = request_id(&headers)?;
    let environment = match &wanted.id {
        Some(id) => environment_id(id)?,
        None => moved::made_up_id()?,
    };
    let plan = plan(&app, &environment, &wanted).await?;
    if actor.door == super::door::BY_SESSION {
        for_servers(&app, &plan.repository).await?;
    }
    moved::follow_all(&app, &plan.repository.common_dir).await?;
    let command = Command::Provision {
        environment: environment.clone(),
        plan,
        actor,
        request: request.clone(),
        nonce: moved::new_nonce()?,
        attributes: wanted.attributes.filter(|tree| !tree.is_empty()),
    };
    app.handle.submit(command).await?;
    // A repeated request is about the environment that the first one made.
    let first = request.and_then(|key| {
        app.handle.view(|state| state.request(&key).map(|r| r.environment.clone()))
    });
    let id = first.unwrap_or(environment);
    if let Some(seconds) = query.wait {
        wait_until(&app, seconds, |state| {
            state.environment(&id).is_none_or(|e| e.phase != Phase::Provisioning)
        })
        .await?;
    }
    let found = app.handle.view(|s| s.environment(&id).map(|e| EnvironmentView::of(s, e)));
    let found = moved::present(found.ok_or_else(|| not_found(&id))?).await?;
    let underway = found.phase == Phase::Provisioning.as_str();
    let status = if underway { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = format!("/v1/environments/{id}");
    Ok((status, [(header::LOCATION, location)], Json(found)).into_response())
}

async fn plan(app: &Arc<App>, id: &EnvironmentId, wanted: &NewEnvironment) -> Result<Plan, Fault> {
    let branch = match &wanted.branch {
        Some(branch) if branch.is_empty() || branch.starts_with('-') => {
            return Err(invalid(format!("{branch:?} cannot name a branch")));
        }
        Some(branch) => branch.clone(),
        None => format!("{}{id}", app.config.branch_prefix),
    };
    let repository = discover(app, &wanted.repo).await?;
    for place in [&repository.source, &repository.common_dir] {
        if !place.0.is_empty() && app.layout.root().starts_with(paths::from_host(place)) {
            let message = format!("the data directory lies inside the repository {place}");
            return Err(Fault::new(Code::InvalidConfig, message, "choose another --data-dir"));
        }
    }
    let path = app.layout.place_of(id).join(&repository.name);
    Ok(Plan {
        repository,
        path: paths::to_host(&path),
        base: wanted.base.clone(),
        reuse_branch: wanted.branch.is_some(),
        branch,
        fetch: wanted.fetch,
        fetch_limit_ms: app.config.fetch_limit_seconds.saturating_mul(1_000),
        keep_failed: wanted.keep_failed,
        setup_path: if wanted.no_setup { String::new() } else { app.config.setup_path.clone() },
        setup_limit_ms: app.config.setup_limit_seconds.saturating_mul(1_000),
    })
}

/// A control server may use repositories of this user only, and only where the user lets it:
/// wherever the path led that it named.
async fn for_servers(app: &Arc<App>, repository: &Repository) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let places = [repository.common_dir.clone(), repository.source.clone()];
    let allowed = app.config.server_repositories.clone();
    blocking(move || {
        for place in places.iter().filter(|place| !place.0.is_empty()) {
            let path = paths::from_host(place);
            let found = path.metadata().map_err(paths::failed("look at", &path))?;
            let inside = allowed.is_empty() || allowed.iter().any(|dir| path.starts_with(dir));
            if found.uid() == rustix::process::geteuid().as_raw() && inside {
                continue;
            }
            let message = format!("a control server may not use {place}");
            let hint = "`server_repositories` in the configuration of this host says what it may \
                        use; others' directories it may never";
            return Err(Fault::new(Code::PermissionDenied, message, hint));
        }
        Ok(())
    })
    .await
}

pub(super) async fn discover(app: &Arc<App>, repo: &str) -> Result<Repository, Fault> {
    let path = PathBuf::from(repo);
    if !path.is_absolute() {
        return Err(invalid(format!("repo must be an absolute path, not {repo:?}")));
    }
    let known = Arc::clone(&app.repositories);
    blocking(move || {
        let cancel = Cancel::new().map_err(paths::failed("watch a process in", &path))?;
        known.find(&path, &cancel)
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Fault::new(Code::Defect, "a task of the API panicked", "please report this").because(e))
    })
}

/// Waits until the published state fulfils a condition.
pub(super) async fn wait_until(
    app: &App,
    seconds: u64,
    mut done: impl FnMut(&crate::core::State) -> bool,
) -> Result<(), Fault> {
    let limit = Duration::from_secs(seconds).min(WAIT_MAX);
    let mut head = app.handle.head();
    let mut stop = app.stop.clone();
    let wait = async {
        loop {
            head.borrow_and_update();
            if app.handle.view(&mut done) {
                return Ok(());
            }
            let moved = tokio::select! {
                moved = head.changed() => moved.is_ok(),
                _ = stop.wait_for(|stop| *stop) => false,
            };
            if !moved {
                let hint = "the operation goes on after the next start";
                return Err(Fault::new(Code::ShuttingDown, "the daemon is shutting down", hint));
            }
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
        let message = format!("not done after {} seconds", limit.as_secs());
        Err(Fault::new(Code::Timeout, message, "it goes on; look with `groundskeeper show`"))
    })
}

/// Removes an environment. Unknown and tombstoned ones are a success. With `wait` the answer comes
/// when it is gone or the removal was refused.
#[utoipa::path(delete, path = "/v1/environments/{id}", params(RemoveQuery), responses(
    (status = 200, body = RemovedView),
    (status = 202, body = RemovedView, description = "under way"),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Named(id): Named,
    Params(query): Params<RemoveQuery>,
) -> Answer<Response> {
    let id = environment_id(&id)?;
    let request = request_id(&headers)?;
    let by_server = actor.door == super::door::BY_SESSION;
    let reason = match (query.retire, by_server) {
        (true, _) => reconcile::REASON,
        (false, true) => reconcile::REASON_SERVER,
        (false, false) => "request",
    };
    let options = teardown_options(&app.config, &query, reason)?;
    moved::follow_of(&app, &id).await?;
    let force = query.force;
    let (environment, incarnation) = (id.clone(), query.incarnation);
    let command = Command::Destroy { environment, incarnation, force, options, actor, request };
    let now = app.handle.view(|state| state.environment(&id).map(|e| e.incarnation));
    let receipt = app.handle.submit(command).await?;
    // A life that began meanwhile, by somebody else's wish, says nothing of the one that was meant.
    let meant = |e: &Environment| now.is_none_or(|life| life == e.incarnation);
    if let Some(seconds) = query.wait {
        let served = |e: &Environment| matches!(e.phase, Phase::Ready | Phase::Retiring);
        let over = |e: &Environment| e.owed.is_none() || served(e) || !meant(e);
        wait_until(&app, seconds, |s| s.environment(&id).is_none_or(over)).await?;
    }
    let (found, refused) = app.handle.view(|state| {
        let env = state.environment(&id).filter(|e| meant(e));
        let alive = env.filter(|e| !matches!(e.phase, Phase::Tombstoned | Phase::TearingDown));
        let back = alive.filter(|_| query.wait.is_some());
        // Another life has begun: this one was over by now, and not yet when it was asked for.
        let at = if env.is_none() { state.seq() } else { receipt.seq };
        let mut view = RemovedView::of(id.as_str(), env, at);
        if env.is_none() {
            view.incarnation = now.unwrap_or_default();
        }
        (view, back.and_then(|e| e.refusal.clone()))
    });
    if let Some(fault) = refused {
        return Err(fault.into());
    }
    let done = found.phase == Phase::Tombstoned.as_str();
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(found)).into_response())
}

pub(super) fn teardown_options(
    config: &Config,
    query: &RemoveQuery,
    reason: &str,
) -> Result<TeardownOptions, Fault> {
    let branch = match &query.branch {
        None => config.branch_policy,
        Some(name) => BranchPolicy::parse(name).ok_or_else(|| {
            invalid(format!("branch {name:?} is none of keep, delete-if-merged, delete"))
        })?,
    };
    let hook_path = if query.no_teardown { String::new() } else { config.teardown_path.clone() };
    Ok(TeardownOptions {
        branch,
        hook_path,
        hook_limit_ms: config.teardown_limit_seconds.saturating_mul(1_000),
        grace_ms: config.grace_milliseconds,
        end_bystanders: query.end_bystanders,
        no_rescue: query.no_rescue && query.force,
        reason: reason.to_owned(),
    })
}

/// Stops making an environment; what was made so far is taken back. Of one whose removal was put
/// off, the removal is called off.
#[utoipa::path(post, path = "/v1/environments/{id}/cancel", responses(
    (status = 202, body = EnvironmentView),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn cancel(
    State(app): Shared,
    Extension(actor): Extension<Actor>,
    Named(id): Named,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let id = environment_id(&id)?;
    app.handle.submit(Command::Cancel { environment: id.clone(), actor }).await?;
    Ok((StatusCode::ACCEPTED, Json(view_of(&app, &id)?)))
}

/// What the daemon says of itself.
#[utoipa::path(get, path = "/v1/daemon", responses((status = 200, body = DaemonView)))]
async fn daemon(State(app): Shared) -> Json<DaemonView> {
    let watching = status::watching(&app);
    let session = app.session.get().map(|standing| standing.borrow().clone());
    let view = app.handle.view(|state| {
        let mut environments = std::collections::BTreeMap::new();
        for e in state.environments() {
            *environments.entry(e.phase.as_str().to_owned()).or_default() += 1;
        }
        let Seq(seq) = state.seq();
        DaemonView {
            log_had: state.found_older().map(|seq| seq.0),
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            boot: state.boot(),
            data_dir: show_path(app.layout.root()),
            log_id: app.about.log_id.clone(),
            seq,
            git: app.about.git.clone(),
            started_at: rfc3339(app.about.started),
            environments,
            owed: state.environments().filter(|e| e.owed.is_some()).count(),
            priority: app.about.priority.clone(),
            processes_started: crate::world::process::subprocess::started(),
            watching: watching.clone(),
            session: session.clone(),
        }
    });
    Json(view)
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}

/// Asks the daemon to come to rest and end.
#[utoipa::path(post, path = "/v1/shutdown", responses((status = 202)))]
async fn shutdown(State(app): Shared) -> StatusCode {
    app.stopper.send_replace(true);
    StatusCode::ACCEPTED
}

/// The wall clock.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
