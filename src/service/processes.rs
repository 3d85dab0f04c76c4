//! Use cases of the processes of environments, and of the commands that the user starts in them.

use std::sync::Arc;

use crate::core::event::{Actor, ProcessStarted};
use crate::core::model::environment::Process;
use crate::core::{Command, Environment, EnvironmentId, Fault};
use crate::service::app::App;
use crate::service::contents::{live_environment, query_world};
use crate::service::outcome::Outcome;
use crate::service::types::process::{Launch, ProcessView};
use crate::world::process::table;

/// Lists the processes that a removal would end, and then the bystanders.
///
/// # Errors
/// If the environment does not exist or is tombstoned.
pub(crate) async fn list(
    app: &Arc<App>,
    id: &EnvironmentId,
    actor: Actor,
) -> Result<Vec<ProcessView>, Fault> {
    let env = live_environment(app, id)?;
    let found = query_world(app, move |app, _| app.world.processes(&env, actor.pid)).await?;
    let inside = found.inside.iter().map(|p| ProcessView::of(p, true));
    let others = found.bystanders.iter().map(|p| ProcessView::of(p, false));
    Ok(inside.chain(others).collect())
}

/// Records a command that is about to run in an environment, so that a teardown ends it.
///
/// # Errors
/// If the environment does not exist or is tombstoned, or the process does not run.
pub(crate) async fn launch(
    app: &Arc<App>,
    environment: EnvironmentId,
    actor: Actor,
    wanted: Launch,
) -> Result<Outcome<ProcessView>, Fault> {
    let env = live_environment(app, &environment)?;
    let (pid, requester) = (wanted.pid, actor.pid);
    record_ended_processes(app, &env).await?;
    let mut seen =
        query_world(app, move |app, _| app.world.add_to_cgroup(&env, pid, requester)).await?;
    if !wanted.name.is_empty() {
        seen.name = wanted.name.chars().take(64).collect();
    }
    let (started, name) = (seen.started, seen.name.clone());
    let launch = Command::Launch(ProcessStarted { environment, pid, started, name, actor });
    app.handle.submit(launch).await?;
    Ok(Outcome::Created(ProcessView::of(&seen, true)))
}

/// Records the end of registered processes that no longer run. A killed `exec` cannot report the
/// end of its command itself.
pub(crate) async fn record_ended_processes(app: &App, env: &Environment) -> Result<(), Fault> {
    let over = |(pid, p): (&u32, &Process)| table::has_ended(*pid, p.started).then_some(*pid);
    for pid in env.processes.iter().filter_map(over).collect::<Vec<_>>() {
        app.handle.submit(Command::Exited { environment: env.id.clone(), pid }).await?;
    }
    Ok(())
}

/// Records the end of a command; an unknown one is a success.
///
/// # Errors
/// If the engine does not take the command.
pub(crate) async fn exited(app: &App, environment: EnvironmentId, pid: u32) -> Result<(), Fault> {
    app.handle.submit(Command::Exited { environment, pid }).await?;
    Ok(())
}
