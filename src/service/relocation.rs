//! Inputs of commands that start or change an incarnation: ids, nonces, and the current path of its
//! repository.
//!
//! A repository that is not at the path in the log is searched for before a command needs it, and
//! its new path is appended to the log first. A repository at its recorded path costs no search.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::core::{
    ArchivedIncarnation, Code, Command, Environment, EnvironmentId, Fault, HostPath, Nonce, Phase,
    State,
};
use crate::service::app::App;
use crate::service::blocking::blocking;
use crate::service::requests::{environment_id, invalid};
use crate::service::types::environment::EnvironmentView;
use crate::world::fs::paths;

/// Returns a random nonce, which distinguishes a new incarnation from all others.
pub(crate) fn new_nonce() -> Result<Nonce, Fault> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| {
        let hint = "check the system's random number generator";
        Fault::new(Code::Io, "cannot get random bytes", hint).because(e)
    })?;
    Nonce::parse(&crate::format::hex(&random)).map_err(|e| invalid(e.to_string()))
}

pub(crate) fn random_id() -> Result<EnvironmentId, Fault> {
    // No characters that resemble each other. 32 divides 256, so the remainder of a byte has no
    // bias.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|e| Fault::new(Code::Io, "cannot get random bytes", "give an id").because(e))?;
    let text: String =
        random.iter().map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect();
    environment_id(&format!("env-{text}"))
}

/// Returns the view of an existing environment that was requested again. Fails if it is ready but
/// its directory is missing.
pub(crate) async fn present(view: EnvironmentView) -> Result<EnvironmentView, Fault> {
    if view.phase != Phase::Ready.as_str() {
        return Ok(view);
    }
    blocking(move || {
        let path = Path::new(&view.path);
        if paths::exists(path).map_err(paths::failed("inspect", path))? {
            return Ok(view);
        }
        let message = format!(
            "environment {} is ready, but its directory {} does not exist",
            view.id, view.path
        );
        let hint = format!(
            "run `groundskeeper rm {0} --force` to record that, then `groundskeeper new {0}` to \
             create it anew or `groundskeeper restore {0}` to bring back what was saved",
            view.id
        );
        Err(Fault::new(Code::PathNotFound, message, hint))
    })
    .await
}

/// Finds a repository that is not at the path in the log, and appends its new path. `hint` is a
/// repository that the request named. Then repairs the worktree links of its environments.
pub(crate) async fn update_path(
    app: &Arc<App>,
    from: HostPath,
    hint: Option<HostPath>,
) -> Result<(), Fault> {
    let there = Arc::clone(app);
    let (place, named) = (from.clone(), hint);
    let found = blocking(move || {
        let state = || there.handle.view(State::clone);
        // A repository that is reachable only through a link at the old path has moved as well.
        let real = paths::from_host(&place);
        if real.canonicalize().is_ok_and(|found| found == real) {
            return Ok(None);
        }
        Ok(there.world.moved_repository(&state(), &place, named.as_ref()))
    })
    .await?;
    let Some(to) = found else { return Ok(()) };
    tracing::warn!(%from, %to, "a repository has moved");
    app.handle.submit(Command::MoveRepository { from, to: to.clone() }).await?;
    let there = Arc::clone(app);
    blocking(move || {
        let in_it = |e: &&Environment| e.is_live() && e.plan.repository.common_dir == to;
        let all = |s: &State| s.environments().filter(in_it).cloned().collect::<Vec<_>>();
        there.handle.view(all).iter().try_for_each(|env| there.world.repair(env))
    })
    .await
}

/// Checks every other known repository: each one that is not at its recorded path may be the
/// repository that the request names.
pub(crate) async fn update_other_paths(app: &Arc<App>, named: &HostPath) -> Result<(), Fault> {
    let known = app.handle.view(|state| {
        let live = state.environments().filter(|e| e.is_live()).map(|e| &e.plan);
        let plans = live.chain(state.archives().map(|r| &r.plan));
        let all = plans.map(|plan| plan.repository.common_dir.clone());
        all.filter(|dir| dir != named).collect::<BTreeSet<_>>()
    });
    let hint = Some(named).filter(|named| !named.0.is_empty());
    for from in known {
        update_path(app, from, hint.cloned()).await?;
    }
    Ok(())
}

/// Updates the path of the repository of an environment and of its archived incarnations.
pub(crate) async fn update_path_of(app: &Arc<App>, id: &EnvironmentId) -> Result<(), Fault> {
    let known = app.handle.view(|state| {
        let live = state.environment(id).filter(|e| e.is_live()).map(|e| &e.plan);
        let left = state.archives().filter(|r| r.id == *id).map(|r| &r.plan);
        let all = live.into_iter().chain(left).map(|plan| plan.repository.common_dir.clone());
        all.collect::<BTreeSet<_>>()
    });
    for from in known {
        update_path(app, from, None).await?;
    }
    Ok(())
}

/// Updates the paths of all repositories that have a live environment or an archived incarnation.
pub(crate) async fn update_all_paths(app: &Arc<App>) -> Result<(), Fault> {
    update_other_paths(app, &HostPath::default()).await
}

/// Returns the branch for a restore from a rescue ref, and whether it exists. This is the branch
/// that was checked out, if the name is free or still points to the same commit and is not checked
/// out elsewhere; else a name derived from it.
pub(crate) async fn branch_for(
    app: &Arc<App>,
    id: &EnvironmentId,
    incarnation: Option<u32>,
) -> Result<(Option<String>, bool), Fault> {
    let last = app.handle.environment(id)?.map_or(0, |env| env.incarnation);
    let next = last.saturating_add(1);
    let found = app.handle.view(|state| {
        let mut left = state.archives().filter(|r| r.id == *id);
        match incarnation {
            Some(n) => left.find(|r| r.incarnation == n).cloned(),
            None => left.last().cloned(),
        }
    });
    let Some(archive): Option<ArchivedIncarnation> = found else { return Ok((None, false)) };
    let app = Arc::clone(app);
    blocking(move || {
        let plan = &archive.plan;
        let name = archive.on_branch.as_ref().unwrap_or(&plan.branch).clone();
        let head = archive.head.as_deref().unwrap_or_default();
        let others = std::iter::once(next).chain(next + 1..next + 100);
        let others = others.map(|n| format!("{name}-restored-{n}"));
        for name in std::iter::once(name.clone()).chain(others) {
            if let Some(is_there) = app.world.is_free(plan, &name, head) {
                return Ok((Some(name), is_there));
            }
        }
        Ok((Some(name), false))
    })
    .await
}
