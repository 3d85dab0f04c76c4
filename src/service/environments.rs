//! Use cases that list, provision, remove and cancel environments.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::core::event::{
    Actor, EnvironmentLabeled, Origin, Plan, Repository, TeardownOptions, TeardownReason,
};
use crate::core::policy::BranchPolicy;
use crate::core::{
    Code, Command, Environment, EnvironmentId, Fault, Label, Phase, Provision, RequestId, destroyed,
};
use crate::service::app::{App, discover, wait_until};
use crate::service::blocking::blocking;
use crate::service::outcome::Outcome;
use crate::service::requests::{environment_id, invalid};
use crate::service::types::environment::{EnvironmentView, NewEnvironment, NewLabel};
use crate::service::types::removal::{RemoveQuery, RemovedView};
use crate::service::{changes, presence, relocation};
use crate::world::fs::paths;

/// Returns one environment, with what its worktree is now, and with `changes` what has changed in
/// it.
///
/// # Errors
/// If it does not exist or is tombstoned.
pub(crate) async fn show(
    app: &Arc<App>,
    id: &EnvironmentId,
    changes: bool,
) -> Result<EnvironmentView, Fault> {
    let mut views = [view_of(app, id)?];
    let question = app.handle.view(|state| state.environment(id).and_then(presence::question));
    let found_out = async {
        if changes {
            changes::find_out(app, &BTreeSet::from([id.to_string()])).await;
        }
    };
    let look = presence::look(app, question.into_iter().collect(), false);
    let (looks, ()) = tokio::join!(look, found_out);
    presence::add(&mut views, looks);
    if changes {
        changes::add(app, &mut views);
    }
    let [view] = views;
    Ok(view)
}

/// Returns the last life of an environment, also one that is over.
///
/// # Errors
/// If it never existed, or the log cannot be read.
pub(crate) async fn show_last(app: &Arc<App>, id: EnvironmentId) -> Result<EnvironmentView, Fault> {
    let there = Arc::clone(app);
    blocking(move || {
        let found = there.handle.environment(&id)?;
        let env = found.ok_or_else(|| there.handle.absent(&id))?;
        Ok(there.handle.view(|state| EnvironmentView::of(state, &env)))
    })
    .await
}

/// Returns one environment, as the log describes it.
///
/// # Errors
/// If it does not exist or is tombstoned.
pub(crate) fn view_of(app: &App, id: &EnvironmentId) -> Result<EnvironmentView, Fault> {
    let found = app.handle.view(|state| match state.environment(id) {
        None => Ok(None),
        Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(id)),
        Some(e) => Ok(Some(EnvironmentView::of(state, e))),
    });
    found?.ok_or_else(|| app.handle.absent(id))
}

/// Returns an environment with the outcome of its provision.
fn provisioned(view: EnvironmentView) -> Outcome<EnvironmentView> {
    let underway = view.phase == Phase::Provisioning.as_str();
    if underway { Outcome::Started(view) } else { Outcome::Done(view) }
}

/// Waits until no provision of an environment is in progress, and returns the environment.
pub(crate) async fn after_provision(
    app: &App,
    id: &EnvironmentId,
    wait: Option<u64>,
) -> Result<Outcome<EnvironmentView>, Fault> {
    if let Some(seconds) = wait {
        let over = |e: &Environment| e.phase != Phase::Provisioning;
        wait_until(app, seconds, |s| s.environment(id).is_none_or(over)).await?;
    }
    let found = app.handle.view(|s| s.environment(id).map(|e| EnvironmentView::of(s, e)));
    found.map(provisioned).ok_or_else(|| app.handle.absent(id))
}

/// Provisions an environment. Returns when the request is durable, or with `wait` when the
/// environment is ready or has failed. A repeated request returns the environment of the first.
///
/// # Errors
/// If the request is invalid or refused, or the wait ends first.
pub(crate) async fn provision(
    app: &Arc<App>,
    actor: Actor,
    request: Option<RequestId>,
    wanted: NewEnvironment,
    wait: Option<u64>,
) -> Result<Outcome<EnvironmentView>, Fault> {
    let environment = match &wanted.id {
        Some(id) => environment_id(id)?,
        None => relocation::random_id()?,
    };
    let plan = plan(app, &environment, &wanted).await?;
    if actor.origin == Origin::Session {
        for_servers(app, &plan.repository).await?;
    }
    relocation::update_other_paths(app, &plan.repository.common_dir).await?;
    let command = Command::Provision(Provision {
        environment: environment.clone(),
        plan,
        actor,
        request: request.clone(),
        nonce: relocation::new_nonce()?,
        attributes: wanted.attributes.filter(|tree| !tree.is_empty()),
    });
    app.handle.submit(command).await?;
    // A repeated idempotency key answers with the environment that the first request created. The
    // id from above is then unused.
    let first = request.and_then(|key| {
        app.handle.view(|state| state.request(&key).map(|r| r.environment.clone()))
    });
    let id = first.unwrap_or(environment);
    match after_provision(app, &id, wait).await? {
        Outcome::Done(view) => Ok(Outcome::Done(relocation::present(view).await?)),
        underway => Ok(underway),
    }
}

async fn plan(app: &Arc<App>, id: &EnvironmentId, wanted: &NewEnvironment) -> Result<Plan, Fault> {
    if wanted.branch.is_some() && wanted.new_branch.is_some() {
        return Err(invalid("a new branch and an existing one exclude each other".to_owned()));
    }
    let branch = match wanted.branch.as_ref().or(wanted.new_branch.as_ref()) {
        Some(branch) if branch.is_empty() || branch.starts_with('-') => {
            return Err(invalid(format!("{branch:?} is not a valid branch name")));
        }
        Some(branch) => branch.clone(),
        None => format!("{}{id}", app.config.branch_prefix),
    };
    let repository = discover(app, &wanted.repo).await?;
    for place in repository.source.iter().chain([&repository.common_dir]) {
        if app.layout.root().starts_with(paths::from_host(place)) {
            let message = format!("the data directory lies inside the repository {place}");
            return Err(Fault::new(Code::InvalidConfig, message, "choose a --data-dir outside it"));
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
        setup_path: (!wanted.no_setup).then(|| app.config.setup_path.clone()),
        setup_limit_ms: app.config.setup_limit_seconds.saturating_mul(1_000),
    })
}

/// Checks that a control server may use a repository: the resolved paths must belong to this user
/// and lie where `server_repositories` allows (anywhere if that list is empty).
async fn for_servers(app: &Arc<App>, repository: &Repository) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let places = [Some(repository.common_dir.clone()), repository.source.clone()];
    let allowed = app.config.server_repositories.clone();
    blocking(move || {
        for place in places.iter().flatten() {
            let path = paths::from_host(place);
            let found = path.metadata().map_err(paths::failed("inspect", &path))?;
            let inside = allowed.is_empty() || allowed.iter().any(|dir| path.starts_with(dir));
            if found.uid() == rustix::process::geteuid().as_raw() && inside {
                continue;
            }
            let message = format!("a control server may not use {place}");
            let hint = "list it in `server_repositories` in the configuration of this host, and \
                        make sure that the daemon's user owns it";
            return Err(Fault::new(Code::PermissionDenied, message, hint));
        }
        Ok(())
    })
    .await
}

/// Removes an environment. Unknown and tombstoned ones are a success. With `wait` it returns when
/// the environment is tombstoned or the removal was refused.
///
/// # Errors
/// If the request is invalid or the removal is refused, or the wait ends first.
pub(crate) async fn remove(
    app: &Arc<App>,
    id: EnvironmentId,
    actor: Actor,
    request: Option<RequestId>,
    query: RemoveQuery,
) -> Result<Outcome<RemovedView>, Fault> {
    let by_server = actor.origin == Origin::Session;
    let reason = match (query.retire, by_server) {
        (true, _) => TeardownReason::Reconcile,
        (false, true) => TeardownReason::Server,
        (false, false) => TeardownReason::Request,
    };
    let options = teardown_options(&app.config, &query, reason)?;
    relocation::update_path_of(app, &id).await?;
    let force = query.force;
    let (environment, incarnation) = (id.clone(), query.incarnation);
    let command = Command::Destroy { environment, incarnation, force, options, actor, request };
    let now = app.handle.view(|state| state.environment(&id).map(|e| e.incarnation));
    let receipt = app.handle.submit(command).await?;
    // A later incarnation, started by another request, says nothing about the one to be removed.
    let meant = |e: &Environment| now.is_none_or(|life| life == e.incarnation);
    if let Some(seconds) = query.wait {
        let served = |e: &Environment| matches!(e.phase, Phase::Ready | Phase::Retiring);
        let over = |e: &Environment| e.owed.is_none() || served(e) || !meant(e);
        wait_until(app, seconds, |s| s.environment(&id).is_none_or(over)).await?;
    }
    let former = app.handle.environment(&id)?;
    let (found, refused) = app.handle.view(|state| {
        let env = state.environment(&id).or(former.as_ref()).filter(|e| meant(e));
        let alive = env.filter(|e| !matches!(e.phase, Phase::Tombstoned | Phase::TearingDown));
        let back = alive.filter(|_| query.wait.is_some_and(|seconds| seconds > 0));
        // Without an `env` the id is unknown or a newer incarnation began. The requested one has
        // ended by the current record, but perhaps not yet at the record of this request.
        let at = if env.is_none() { state.seq() } else { receipt.seq };
        let mut view = RemovedView::of(id.as_str(), env, at);
        if env.is_none() {
            view.incarnation = now.unwrap_or_default();
        }
        (view, back.and_then(|e| e.refusal.clone()))
    });
    if let Some(fault) = refused {
        return Err(fault);
    }
    let done = found.phase == Phase::Tombstoned.as_str();
    Ok(if done { Outcome::Done(found) } else { Outcome::Started(found) })
}

/// Returns the options of a teardown: those of the request, else the configured ones.
///
/// # Errors
/// `Code::InvalidRequest` for an unknown branch policy.
pub(crate) fn teardown_options(
    config: &Config,
    query: &RemoveQuery,
    reason: TeardownReason,
) -> Result<TeardownOptions, Fault> {
    let branch = match &query.branch {
        None => config.branch_policy,
        Some(name) => BranchPolicy::parse(name).ok_or_else(|| {
            invalid(format!("branch {name:?} is not one of keep, delete-if-merged, delete"))
        })?,
    };
    let hook_path = (!query.no_teardown).then(|| config.teardown_path.clone());
    Ok(TeardownOptions {
        branch,
        hook_path,
        hook_limit_ms: config.teardown_limit_seconds.saturating_mul(1_000),
        grace_ms: config.grace_milliseconds,
        end_bystanders: query.end_bystanders,
        no_rescue: query.no_rescue && query.force,
        reason,
    })
}

/// Cancels the provision of an environment, or the removal of one that is retired.
///
/// # Errors
/// If there is nothing to cancel.
pub(crate) async fn cancel(
    app: &App,
    id: EnvironmentId,
    actor: Actor,
) -> Result<Outcome<EnvironmentView>, Fault> {
    app.handle.submit(Command::Cancel { environment: id.clone(), actor }).await?;
    Ok(Outcome::Started(view_of(app, &id)?))
}

/// Gives an environment a label, or takes it away.
///
/// # Errors
/// If the text cannot be a label, or the environment does not exist.
pub(crate) async fn label(
    app: &App,
    id: EnvironmentId,
    actor: Actor,
    wanted: NewLabel,
) -> Result<EnvironmentView, Fault> {
    let label = wanted.label.as_deref().map(Label::parse).transpose();
    let label = label.map_err(|why| invalid(format!("this cannot be a label: {why}")))?;
    let environment = id.clone();
    app.handle.submit(Command::Label(EnvironmentLabeled { environment, label, actor })).await?;
    view_of(app, &id)
}
