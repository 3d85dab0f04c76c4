//! Parses the command line, runs the command, and turns its result into output and an exit code.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::Parser as _;
use clap_complete::CompleteEnv;

use crate::api::types::NewLease;
use crate::cli::args::{Arguments, Global, Verb};
use crate::cli::client::{self, Client};
use crate::cli::commands::{
    adopt, backup, clean, config, daemon, df, doctor, events, exec, gc, init, lease, logs, ls, man,
    migrate, new, ps, reconcile, rename, rescue, restore, rm, server, service, status,
    status_watch, sweep, trash, trust,
};
use crate::cli::error::usage_code;
use crate::cli::failure;
use crate::cli::named;
use crate::cli::output::CommandResult;
use crate::core::{Code, Fault};

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let completed = CompleteEnv::with_factory(Arguments::command).var(init::COMPLETE);
    if let Some(code) = complete(completed) {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            failure::report_usage(&e, &std::env::args_os().collect::<Vec<_>>());
            return usage_code(&e);
        }
    };
    let (as_json, log_format) = (arguments.global.json, failure::log_format(&arguments.verb));
    run(arguments).unwrap_or_else(|e| {
        failure::report(&e.0, as_json, log_format);
        e.exit_code()
    })
}

/// Prints completions if a shell asks for them, and returns the exit code then.
fn complete<F: Fn() -> clap::Command>(env: CompleteEnv<'_, F>) -> Option<ExitCode> {
    let place = std::env::current_dir().ok();
    match env.try_complete(std::env::args_os(), place.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(error) => {
            failure::report_usage(&error, &std::env::args_os().collect::<Vec<_>>());
            Some(usage_code(&error))
        }
    }
}

pub(super) fn run(arguments: Arguments) -> CommandResult {
    let global = &arguments.global;
    match arguments.verb {
        Verb::Daemon { what: None, detach, how } => return daemon::daemon(global, detach, &how),
        Verb::Config(what) => return config::config(global, what),
        Verb::Server(wanted) => return server::server(global, &wanted),
        Verb::Up(wanted) => return server::up(global, &wanted),
        Verb::Completions { shell } => return init::completions(shell),
        Verb::Init { shell } => return init::init(shell),
        Verb::Man { verb, dir } => return man::man(&verb, dir.as_deref()),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Fault::new(Code::Io, "cannot start the runtime", "free some memory").because(e)
    })?;
    runtime.block_on(guided(global, arguments.verb))
}

/// Runs a command, and adds to its result what only the daemon knows: the way out of a directory
/// that was removed, and the ids that a misspelt one is near to.
async fn guided(global: &Global, verb: Verb) -> CommandResult {
    if named::is_gone(global)
        && !global.quiet
        && let Some(mut client) = running(global).await
    {
        named::note_way_out(&mut client).await;
    }
    let typed = verb.environment().map(str::to_owned);
    match (ask(global, verb).await, typed) {
        (Err(failed), Some(typed)) if named::is_unknown(&failed) => match running(global).await {
            Some(mut client) => Err(named::suggest(&mut client, failed, &typed).await),
            None => Err(failed),
        },
        (done, _) => done,
    }
}

/// Connects to a daemon that runs. None is started or waited for, for the sake of a better message.
async fn running(global: &Global) -> Option<Client> {
    let layout = client::layout(global).ok()?;
    Client::try_connect(&layout).await.ok()
}

async fn ask(global: &Global, verb: Verb) -> CommandResult {
    match verb {
        Verb::New(wanted) => new::new(global, wanted).await,
        Verb::Ls { all, repo, filters, format } => {
            ls::ls(global, &ls::Wanted { all, repo, filters, format }).await
        }
        Verb::Show { id } => ls::show_one_environment(global, id.as_deref()).await,
        Verb::Status { id, watch: true } => status_watch::watch(global, id.as_deref()).await,
        Verb::Status { id, .. } => status::status(global, id.as_deref()).await,
        Verb::Diff { id, head, bytes } => status::diff(global, id.as_deref(), head, bytes).await,
        Verb::Rm(wanted) => rm::rm(global, &wanted).await,
        Verb::Restore { id, incarnation } => {
            restore::restore(global, id.as_deref(), incarnation).await
        }
        Verb::Exec { id, command } => exec::run(global, &id, &command).await,
        Verb::Ps { id } => ps::ps(global, id.as_deref()).await,
        Verb::Adopt { path, id } => adopt::adopt(global, &path, id).await,
        Verb::Trash(what) => trash::trash(global, what).await,
        Verb::Rescue(what) => rescue::rescue(global, what).await,
        Verb::Sweep { apply, limit, yes, .. } => sweep::sweep(global, apply, limit, yes).await,
        Verb::Gc(which) => gc::run(global, &which).await,
        Verb::Df => df::df(global).await,
        Verb::Host { what, server_dir } => server::host(global, what, server_dir.as_deref()).await,
        Verb::Reconcile { confirm: Some(epoch), .. } => reconcile::confirm(global, epoch).await,
        Verb::Reconcile { live, epoch, .. } => {
            reconcile::reconcile(global, live, epoch.unwrap_or(0)).await
        }
        Verb::Migrate(what) => migrate::run(global, what).await,
        Verb::Clean { id, undo: true, .. } => clean::undo_clean(global, &id).await,
        Verb::Clean { id, dry_run: true, .. } => clean::preview(global, &id).await,
        Verb::Clean { id, now, .. } => clean::clean(global, &id, now).await,
        Verb::Rename { id, label, .. } => rename::rename(global, &id, label).await,
        Verb::Cancel { id } => lease::cancel(global, &id).await,
        Verb::Lease { id, duration, purpose, lease } => {
            lease::lease(global, &id, NewLease { seconds: duration, purpose, id: lease }).await
        }
        Verb::Release { lease } => lease::release(global, &lease).await,
        Verb::Backup { file } => backup::backup(global, &file).await,
        Verb::Cd { id } => init::cd(global, id.as_deref()).await,
        Verb::Logs { id, incarnation } => logs::logs(global, id.as_deref(), incarnation).await,
        Verb::Events { since, last, follow, env } => {
            events::events(global, &events::Wanted { since, last, follow, env }).await
        }
        Verb::Trust { repo, hash, show, revoke } => {
            trust::trust(global, &repo, hash, show, revoke).await
        }
        Verb::Daemon { what: Some(what), .. } => daemon::ask_about(global, what).await,
        Verb::Service(what) => service::service(global, what).await,
        Verb::Stop => daemon::stop(global).await,
        Verb::Doctor => Ok(doctor::run(global).await),
        // `run` handles these before it creates the runtime.
        Verb::Daemon { what: None, .. }
        | Verb::Config(_)
        | Verb::Server(_)
        | Verb::Up(_)
        | Verb::Init { .. }
        | Verb::Completions { .. }
        | Verb::Man { .. } => Ok(ExitCode::SUCCESS),
    }
}
