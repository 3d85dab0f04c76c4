//! Use cases that move the rebuildable output of an environment to the trash and put it back.

use std::sync::Arc;

use crate::clock;
use crate::core::event::{Actor, CleanUndone, Cleaned};
use crate::core::{
    CleanedOutput, Code, Command, Environment, EnvironmentId, EnvironmentStep as Step, Fault,
};
use crate::format::rfc3339;
use crate::service::app::{App, wait_until};
use crate::service::contents::{live_environment, query_world};
use crate::service::relocation;
use crate::service::types::clean::{CleanedView, NotMovedView, UndoneView};

/// Seconds to wait for the end of a clean if the request gives no wait.
const WAIT_SECONDS: u64 = 3_600;

async fn ended(app: &App, id: &EnvironmentId, step: Step, wait: Option<u64>) -> Result<(), Fault> {
    let busy = |e: &Environment| e.owed.as_ref().is_some_and(|o| o.step == step);
    let seconds = wait.unwrap_or(WAIT_SECONDS);
    wait_until(app, seconds, |s| !s.environment(id).is_some_and(busy)).await
}

/// Moves the rebuildable output of an environment to the trash, and nothing else; with `now` it is
/// unlinked at once.
///
/// # Errors
/// If the request is refused or replaced, the clean fails, or the wait ends first.
pub(crate) async fn clean(
    app: &App,
    name: &EnvironmentId,
    now: bool,
    actor: Actor,
    wait: Option<u64>,
) -> Result<CleanedView, Fault> {
    app.handle.submit(Command::Clean { environment: name.clone(), now, actor }).await?;
    ended(app, name, Step::Clean, wait).await?;
    // The unlink is a step of its own after the move, and its failure belongs into this answer.
    if now {
        let going = |o: &CleanedOutput| o.now && o.is_being_purged();
        let seconds = wait.unwrap_or(WAIT_SECONDS);
        wait_until(app, seconds, |s| !s.outputs_of(name).any(going)).await?;
    }
    let (cleaned, kept) = app.handle.view(|state| {
        let cleaned = state.environment(name).map(|e| e.cleaned.clone());
        let seconds = state.retention().clean_seconds;
        let trash = cleaned.iter().flatten().find_map(|c| c.trash.clone());
        let kept = state.outputs_of(name).find(|o| trash.is_some() && o.trash == trash);
        (cleaned, kept.map(|o| (o.expires(seconds), o.fault.clone())))
    });
    match (cleaned.ok_or_else(|| app.handle.absent(name))?, kept) {
        (None, _) => Err(interrupted(name, "clean")),
        (Some(Cleaned { fault: Some(fault), .. }), _) => Err(fault),
        (Some(_), Some((_, Some(fault)))) if now => Err(fault),
        (Some(Cleaned { paths, size, left, trash, .. }), kept) => Ok(CleanedView {
            id: name.to_string(),
            paths,
            size: size.into(),
            left: NotMovedView::all(&left),
            trash: trash.filter(|_| kept.is_some()).map(|t| t.to_string()),
            expires_at: kept.map(|(time, _)| rfc3339(time)),
        }),
    }
}

/// Returns what a clean would take. Changes nothing.
///
/// # Errors
/// If there is no such environment, it is adopted, or a clean would be refused.
pub(crate) async fn preview(
    app: &Arc<App>,
    name: &EnvironmentId,
    actor: Actor,
) -> Result<CleanedView, Fault> {
    relocation::update_path_of(app, name).await?;
    let env = live_environment(app, name)?;
    let wanted = Command::Clean { environment: name.clone(), now: false, actor };
    app.handle.view(|state| state.decide(clock::now(), wanted))?;
    let taken = query_world(app, move |app, cancel| app.world.preview_clean(&env, cancel)).await?;
    Ok(CleanedView {
        id: name.to_string(),
        paths: taken.paths,
        size: taken.size.into(),
        left: NotMovedView::all(&taken.left),
        trash: None,
        expires_at: None,
    })
}

/// Puts back what the last clean moved, as far as it is still there and its place is free.
///
/// # Errors
/// If the request is refused or replaced, nothing can be put back, or the wait ends first.
pub(crate) async fn undo(
    app: &App,
    name: &EnvironmentId,
    actor: Actor,
    wait: Option<u64>,
) -> Result<UndoneView, Fault> {
    app.handle.submit(Command::UndoClean { environment: name.clone(), actor }).await?;
    ended(app, name, Step::UndoClean, wait).await?;
    let (undone, trash) = app.handle.view(|state| {
        let undone = state.environment(name).map(|e| e.undone.clone());
        let clean = undone.iter().flatten().map(|u| u.clean).next();
        let output = clean.and_then(|clean| state.output(name, clean));
        (undone, output.and_then(|o| o.trash.as_ref()).map(ToString::to_string))
    });
    match undone.ok_or_else(|| app.handle.absent(name))? {
        None => Err(interrupted(name, "clean --undo")),
        Some(CleanUndone { fault: Some(fault), .. }) => Err(fault),
        Some(undone) if undone.returned.is_empty() => Err(nothing(name, &undone)),
        Some(CleanUndone { returned, left, .. }) => {
            let (id, left) = (name.to_string(), NotMovedView::all(&left));
            Ok(UndoneView { id, returned, left, trash })
        }
    }
}

/// Returns the fault for a clean that another request on the same environment, such as its removal,
/// replaced before it had a result.
fn interrupted(id: &EnvironmentId, what: &str) -> Fault {
    let message = format!("another request on {id} replaced this one before it ended");
    let hint =
        format!("check with `groundskeeper show {id}`, then run `groundskeeper {what} {id}` again");
    Fault::new(Code::EnvironmentBusy, message, hint)
}

/// Returns the fault for an undo that put nothing back; such an undo is not a success.
fn nothing(id: &EnvironmentId, undone: &CleanUndone) -> Fault {
    if undone.left.is_empty() {
        let message = format!("the files of the last clean of {id} are no longer in the trash");
        return Fault::new(Code::NotFound, message, "run `groundskeeper trash ls` to list it");
    }
    let message = format!("cannot put anything back into {id}; the files stay in the trash");
    let hint = format!("free these paths, then run `groundskeeper clean {id} --undo` again");
    let lines = undone.left.iter().map(|left| format!("{}: {}", left.path, left.why));
    Fault::new(Code::PathExists, message, hint).with_evidence(lines)
}
