//! Use cases of the contents of environments: removal evidence, sizes, adoption; and the query of
//! the world that other use cases share.

use std::path::Path;
use std::sync::Arc;

use crate::core::event::Actor;
use crate::core::{Adopt, Command, Environment, EnvironmentId, Fault, Phase, Time, destroyed};
use crate::format::rfc3339;
use crate::service::app::App;
use crate::service::blocking::blocking;
use crate::service::environments::view_of;
use crate::service::outcome::Outcome;
use crate::service::relocation;
use crate::service::requests::{environment_id, invalid};
use crate::service::types::contents::{Adoption, EvidenceView, UsageView};
use crate::service::types::environment::EnvironmentView;
use crate::world::fs::paths;
use crate::world::git::marker::Marker;
use crate::world::process::cancel::Cancel;

/// Returns a copy of an environment that is not tombstoned, for a query outside the state lock.
pub(crate) fn live_environment(app: &App, id: &EnvironmentId) -> Result<Environment, Fault> {
    let found = app.handle.view(|state| match state.environment(id) {
        None => Ok(None),
        Some(e) if e.phase == Phase::Tombstoned => Err(destroyed(id)),
        Some(e) => Ok(Some(e.clone())),
    });
    found?.ok_or_else(|| app.handle.absent(id))
}

/// Runs a query against the world on a thread that may block.
pub(crate) async fn query_world<T: Send + 'static>(
    app: &Arc<App>,
    question: impl FnOnce(&App, &Cancel) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let app = Arc::clone(app);
    blocking(move || {
        let cancel =
            Cancel::new().map_err(paths::failed("watch a process in", app.layout.root()))?;
        question(&app, &cancel)
    })
    .await
}

/// Returns the evidence on whether an environment may be removed. Changes nothing.
///
/// # Errors
/// If it does not exist, is tombstoned, or cannot be inspected.
pub(crate) async fn evidence(
    app: &Arc<App>,
    environment: &EnvironmentId,
    actor: Actor,
) -> Result<EvidenceView, Fault> {
    relocation::update_path_of(app, environment).await?;
    let env = live_environment(app, environment)?;
    let leases: Vec<String> = app.handle.view(|state| {
        let leases = state.leases().filter(|(_, l)| l.environment == *environment);
        leases.map(|(id, l)| format!("lease {id}: {}", l.purpose)).collect()
    });
    if env.adopted {
        return Ok(evidence_of_adopted(&env, leases));
    }
    let (seen, found) = query_world(app, move |app, cancel| {
        // An error fails the request: work that cannot be inspected is never reported as safe.
        let seen = app.world.inspect_work(&env, cancel)?;
        Ok((seen, app.world.processes(&env, actor.pid)?))
    })
    .await?;
    let running = found.inside.iter().map(|p| format!("process {} {} ({})", p.pid, p.name, p.why));
    let in_use: Vec<String> = leases.into_iter().chain(running).collect();
    let safe = seen.unsaved.is_empty() && in_use.is_empty();
    let id = environment.to_string();
    let hint = if seen.unsaved.is_empty() {
        format!("groundskeeper rm {id}")
    } else {
        format!("groundskeeper rm {id} --force")
    };
    let last_change = rfc3339(Time(seen.last_change.saturating_mul(1_000_000_000)));
    let (unsaved, head) = (seen.unsaved, seen.head.unwrap_or_default());
    Ok(EvidenceView { id, safe, adopted: false, unsaved, in_use, head, last_change, hint })
}

/// A removal takes nothing away from an adopted worktree, so nothing in it is at risk.
fn evidence_of_adopted(env: &Environment, in_use: Vec<String>) -> EvidenceView {
    EvidenceView {
        id: env.id.to_string(),
        safe: in_use.is_empty(),
        adopted: true,
        unsaved: Vec::new(),
        in_use,
        head: env.base.as_ref().map(|base| base.commit.clone()).unwrap_or_default(),
        last_change: rfc3339(env.changed_at),
        hint: format!("groundskeeper rm {}", env.id),
    }
}

/// Measures an environment.
///
/// # Errors
/// If it does not exist, is tombstoned, or cannot be read.
pub(crate) async fn usage(app: &Arc<App>, id: &EnvironmentId) -> Result<UsageView, Fault> {
    relocation::update_path_of(app, id).await?;
    let env = live_environment(app, id)?;
    let usage = query_world(app, move |app, cancel| app.world.usage(&env, cancel)).await?;
    let (total, rebuildable) = (usage.total.into(), usage.rebuildable.into());
    Ok(UsageView { id: id.to_string(), total, rebuildable })
}

/// Adopts a worktree that another program made: it is watched and leased, and never deleted.
///
/// # Errors
/// If the request is invalid, or the path is no worktree that can be adopted.
pub(crate) async fn adopt(
    app: &Arc<App>,
    actor: Actor,
    wanted: Adoption,
) -> Result<Outcome<EnvironmentView>, Fault> {
    adopt_if(app, actor, wanted, |app, marker, _| {
        // The log was put back from a backup, and no longer knows a worktree of its own.
        let id = EnvironmentId::parse(&marker.environment).ok();
        let (life, nonce) = (marker.incarnation, marker.nonce.as_deref());
        let knows = |id| app.handle.knows(&id, life, nonce);
        marker.log == app.world.log_id() && !id.is_some_and(knows)
    })
    .await
}

/// Adopts as [`adopt`] does. `is_lost` returns whether the worktree of this marker, at this path,
/// may be adopted although a daemon made it.
///
/// # Errors
/// As [`adopt`].
pub(crate) async fn adopt_if(
    app: &Arc<App>,
    actor: Actor,
    wanted: Adoption,
    is_lost: fn(&App, &Marker, &Path) -> bool,
) -> Result<Outcome<EnvironmentView>, Fault> {
    let path = std::path::PathBuf::from(&wanted.path);
    if !path.is_absolute() {
        return Err(invalid(format!("path must be absolute, not {:?}", wanted.path)));
    }
    let environment = match &wanted.id {
        Some(id) => environment_id(id)?,
        None => relocation::random_id()?,
    };
    let foreign = query_world(app, move |app, cancel| {
        app.world.foreign(&path, &|marker, top| is_lost(app, marker, top), cancel)
    })
    .await?;
    let (plan, worktree) = (foreign.plan, foreign.worktree);
    let head = foreign.head.unwrap_or_default();
    let id = environment.clone();
    let nonce = relocation::new_nonce()?;
    let command = Command::Adopt(Adopt { environment, plan, head, worktree, actor, nonce });
    app.handle.submit(command).await?;
    Ok(Outcome::Created(view_of(app, &id)?))
}
