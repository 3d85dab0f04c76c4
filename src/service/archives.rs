//! Use cases of archives, which outlive an incarnation: restore, trash, rescue refs.

use std::sync::Arc;

use crate::core::event::Actor;
use crate::core::{
    ArchivedIncarnation, CleanedOutput, Command, EnvironmentId, Fault, RequestId, Restore,
};
use crate::service::app::{App, wait_until};
use crate::service::environments::after_provision;
use crate::service::outcome::Outcome;
use crate::service::relocation;
use crate::service::types::archive::{ArchivedIncarnationView, RestoreRequest};
use crate::service::types::environment::EnvironmentView;

/// Restores a tombstoned environment as a new incarnation. Returns when the request is durable, or
/// with `wait` when the environment is ready or has failed.
///
/// # Errors
/// If the request is refused, or the wait ends first.
pub(crate) async fn restore(
    app: &Arc<App>,
    environment: EnvironmentId,
    actor: Actor,
    request: Option<RequestId>,
    wanted: RestoreRequest,
    wait: Option<u64>,
) -> Result<Outcome<EnvironmentView>, Fault> {
    let incarnation = wanted.incarnation;
    let id = environment.clone();
    relocation::update_path_of(app, &environment).await?;
    let (branch, reuse_branch) = relocation::branch_for(app, &environment, incarnation).await?;
    let nonce = relocation::new_nonce()?;
    let wanted = Restore { environment, incarnation, branch, reuse_branch, actor, request, nonce };
    app.handle.submit(Command::Restore(wanted)).await?;
    after_provision(app, &id, wait).await
}

fn archives(
    app: &App,
    wanted: impl Fn(&ArchivedIncarnation) -> bool,
) -> Vec<ArchivedIncarnationView> {
    app.handle.view(|state| {
        let found = state.archives().filter(|r| wanted(r));
        found.map(|r| ArchivedIncarnationView::of(r, state)).collect()
    })
}

/// Lists the trash entries of all environments or of one, outputs of `clean` included.
pub(crate) fn trash_entries(
    app: &App,
    only: Option<&EnvironmentId>,
) -> Vec<ArchivedIncarnationView> {
    let wanted = |id: &EnvironmentId| only.is_none_or(|only| only == id);
    let mut list = archives(app, |r| wanted(&r.id) && r.trash.is_some());
    list.extend(app.handle.view(|state| {
        let seconds = state.retention().clean_seconds;
        let kept = state.outputs().filter(|o| wanted(&o.id) && o.is_listed());
        kept.map(|o| ArchivedIncarnationView::of_clean(o, seconds)).collect::<Vec<_>>()
    }));
    list
}

/// Unlinks trash entries, and returns those that are still there. `lose` includes an entry that
/// holds the only copy of something. With `wait` it returns when they are unlinked.
///
/// # Errors
/// If the request is refused, or the wait ends first.
pub(crate) async fn empty_trash(
    app: &Arc<App>,
    environment: Option<EnvironmentId>,
    lose: bool,
    actor: Actor,
    wait: Option<u64>,
) -> Result<Vec<ArchivedIncarnationView>, Fault> {
    let only = environment.clone();
    if let Some(id) = &environment {
        relocation::update_path_of(app, id).await?;
    }
    app.handle.submit(Command::EmptyTrash { environment, lose, actor }).await?;
    let wanted = |r: &ArchivedIncarnation| only.as_ref().is_none_or(|id| *id == r.id);
    if let Some(seconds) = wait {
        // An entry whose unlink failed is retried later. Waiting for it could take the whole limit.
        let going = |r: &ArchivedIncarnation| wanted(r) && r.purge.is_some() && r.fault.is_none();
        let leaving =
            |o: &CleanedOutput| only.as_ref().is_none_or(|id| *id == o.id) && o.is_being_purged();
        let gone = |s: &crate::core::State| !s.archives().any(going) && !s.outputs().any(leaving);
        wait_until(app, seconds, gone).await?;
    }
    Ok(trash_entries(app, only.as_ref()))
}

/// Lists the archives that have a rescue ref.
pub(crate) fn rescues(app: &App) -> Vec<ArchivedIncarnationView> {
    archives(app, |r| r.rescue.is_some())
}

/// Deletes the rescue refs of one incarnation, and returns the archives that have one. With `wait`
/// it returns when the refs are deleted.
///
/// # Errors
/// If the request is refused, the refs cannot be deleted, or the wait ends first.
pub(crate) async fn drop_rescue(
    app: &Arc<App>,
    environment: EnvironmentId,
    incarnation: u32,
    actor: Actor,
    wait: Option<u64>,
) -> Result<Vec<ArchivedIncarnationView>, Fault> {
    let id = environment.clone();
    relocation::update_path_of(app, &id).await?;
    app.handle.submit(Command::DropRescue { environment, incarnation, actor }).await?;
    if let Some(seconds) = wait {
        let gone = |r: &ArchivedIncarnation| r.rescue.is_none();
        // A permanent fault may last for days: the drop is retried, but not waited for.
        let stuck =
            |r: &ArchivedIncarnation| r.fault.as_ref().is_some_and(|fault| !fault.transient);
        let over = |r: &ArchivedIncarnation| gone(r) || stuck(r);
        wait_until(app, seconds, |s| s.archive_of(&id, incarnation).is_none_or(over)).await?;
        let kept = app.handle.view(|s| {
            let archive = s.archive_of(&id, incarnation).filter(|r| !gone(r))?;
            archive.fault.clone().filter(|fault| !fault.transient)
        });
        if let Some(fault) = kept {
            return Err(fault);
        }
    }
    Ok(rescues(app))
}
