//! `daemon` runs a daemon in the foreground or detached, and tells about a running one; `stop` ends
//! that and waits.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use crate::api::types::DaemonView;
use crate::cli::args::{DaemonVerb, Global, Start};
use crate::cli::client::{self, Client};
use crate::cli::commands::daemon_log;
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, log_to_stderr, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::daemon::info::read_info;
use crate::daemon::options::StartOptions;
use crate::daemon::running;
use crate::format::{age, count};
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

pub(in crate::cli) const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Longest time that a daemon takes to answer that it will end; then it gets a signal.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Time in which a daemon that starts or reloads answers.
const STARTING: Duration = Duration::from_secs(3);
/// Interval at which a daemon that starts is asked again.
const AGAIN: Duration = Duration::from_millis(10);

pub(in crate::cli) fn daemon(global: &Global, detach: bool, how: &Start) -> CommandResult {
    if detach {
        // Fails only for the leader of a process group, which needs no new session.
        let _led = rustix::process::setsid();
    }
    log_to_stderr(global, how.logging);
    let extra = StartOptions {
        databases: crate::cli::commands::migrate::at_start(how)?,
        ready: how.ready_format,
        listen: how.listen,
        start_over: how.start_over,
        reloads: true,
        ..StartOptions::default()
    };
    crate::daemon::run::run(client::layout(global)?.root(), extra)?;
    Ok(ExitCode::SUCCESS)
}

pub(in crate::cli) async fn ask_about(global: &Global, what: DaemonVerb) -> CommandResult {
    let layout = client::layout(global)?;
    match what {
        DaemonVerb::Status => status(global, &layout).await,
        DaemonVerb::Logs { lines, follow } => {
            daemon_log::print(global, &layout, lines, follow).await
        }
        DaemonVerb::Reload => reload(global, &layout).await,
    }
}

async fn status(global: &Global, layout: &Layout) -> CommandResult {
    let (_, found) = describe(layout, Instant::now() + STARTING).await?;
    let phases = found.environments.iter().map(|(phase, count)| format!("{count} {phase}"));
    let phases: Vec<String> = phases.collect();
    let rows = [
        ("version", found.version.clone()),
        ("pid", found.pid.to_string()),
        ("started", format!("{} ({} ago)", found.started_at, age(&found.started_at))),
        ("data", found.data_dir.clone()),
        ("records", found.seq.to_string()),
        ("environments", if phases.is_empty() { "none".to_owned() } else { phases.join(", ") }),
        ("in progress", count(found.owed as u64, "step", "steps")),
    ];
    show_one(global, &found, &render::facts(&rows))
}

fn not_running(layout: &Layout) -> Fault {
    let message = format!("no daemon runs for {}", layout.root().display());
    let hint = "every command that needs one starts it; `groundskeeper daemon` runs it here";
    Fault::new(Code::NotFound, message, hint)
}

/// Asks the daemon to start again, and waits until it has.
async fn reload(global: &Global, layout: &Layout) -> CommandResult {
    let until = Instant::now() + STOP_LIMIT;
    let (mut client, before) = describe(layout, until).await?;
    let asked: Result<(), CliError> = client.call(Method::POST, "/v1/reload", NOTHING).await;
    // Where it is ending already, another request was first, and will do.
    let is_ending = [Code::DaemonUnreachable.as_str(), Code::ShuttingDown.as_str()];
    asked.or_else(|error| if is_ending.contains(&&*error.0.code) { Ok(()) } else { Err(error) })?;
    while Instant::now() < until {
        let (_, now) = describe(layout, until).await?;
        if now.pid != before.pid {
            break;
        }
        if now.boot > before.boot {
            let value = json!({ "reloaded": true, "pid": now.pid });
            return show_one(global, &value, "reloaded\n");
        }
        tokio::time::sleep(AGAIN).await;
    }
    let message = format!("the daemon (pid {}) has not started again", before.pid);
    let hint = "`groundskeeper daemon status` shows what runs now";
    Err(Fault::new(Code::Timeout, message, hint).into())
}

/// Asks the daemon for its description. One that starts or reloads at the moment is waited for.
async fn describe(layout: &Layout, until: Instant) -> Result<(Client, DaemonView), CliError> {
    if !may_run(layout) {
        return Err(not_running(layout).into());
    }
    loop {
        let failed = match Client::try_connect(layout).await {
            Ok(mut client) => match client.call(Method::GET, "/v1/daemon", NOTHING).await {
                Ok(found) => return Ok((client, found)),
                Err(failed) => failed,
            },
            Err(error) => match running::find(layout) {
                Some(info) => client::hidden(&info, &error).into(),
                None => not_running(layout).into(),
            },
        };
        if !running::is_locked(layout) || Instant::now() > until {
            return Err(failed);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

pub(in crate::cli) async fn stop(global: &Global) -> CommandResult {
    match end(&client::layout(global)?).await? {
        Ended::Nothing => show_one(global, &json!({ "stopped": false }), "no daemon is running\n"),
        Ended::Daemon(pid) => {
            show_one(global, &json!({ "stopped": true, "pid": pid }), "stopped\n")
        }
    }
}

/// What [`end`] has ended.
pub(in crate::cli) enum Ended {
    /// No daemon was running.
    Nothing,
    /// A daemon, with this pid if it is known.
    Daemon(Option<u32>),
}

/// Ends the daemon of a data directory, and waits until its process is gone.
///
/// # Errors
/// If it refuses, cannot be identified, or does not end in time.
pub(in crate::cli) async fn end(layout: &Layout) -> Result<Ended, CliError> {
    if !may_run(layout) {
        return Ok(Ended::Nothing);
    }
    let before = read_info(layout);
    let pid = match tokio::time::timeout(ASK_LIMIT, ask(layout)).await {
        Ok(Ok(())) => before.map(|info| info.pid),
        // It answered, and refuses.
        Ok(Err(CliError(problem))) if problem.code != Code::DaemonUnreachable.as_str() => {
            return Err(CliError(problem));
        }
        Ok(Err(_)) | Err(_) => {
            let Some(info) = running::find_patiently(layout) else {
                if running::is_locked(layout) {
                    return Err(unidentified(layout).into());
                }
                return Ok(Ended::Nothing);
            };
            running::terminate(&info)?;
            Some(info.pid)
        }
    };
    let started = started(pid)?;
    let until = Instant::now() + STOP_LIMIT;
    loop {
        // Checked by process id and start time: to take the daemon's lock, even briefly, could make
        // a new daemon fail to start.
        if started.is_none() || self::started(pid)? != started {
            return Ok(Ended::Daemon(pid));
        }
        if Instant::now() > until {
            let message = format!("the daemon is still running after {} s", STOP_LIMIT.as_secs());
            let log = layout.daemon_log();
            let hint =
                format!("read its log {}, or end it with SIGKILL, which is safe", log.display());
            return Err(Fault::new(Code::Timeout, message, hint).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns whether a daemon may run. Asked before a connection is made, which starts one where a
/// service manager listens.
pub(in crate::cli) fn may_run(layout: &Layout) -> bool {
    running::is_locked(layout) || read_info(layout).is_some_and(|info| info.may_be_alive())
}

/// Returns the fault for a lock whose holder has not described itself.
fn unidentified(layout: &Layout) -> Fault {
    let lock = layout.daemon_lock();
    let message = format!("a process holds {} and does not say which it is", lock.display());
    let hint = format!("find it with `fuser {}`, and end it", paths::as_argument(&lock));
    Fault::new(Code::DaemonUnreachable, message, hint)
}

/// Asks the daemon over its socket to end.
async fn ask(layout: &Layout) -> Result<(), CliError> {
    let connected = Client::try_connect(layout).await;
    let mut client = connected.map_err(|e| {
        let message = "no daemon answers";
        Fault::new(Code::DaemonUnreachable, message, "run `groundskeeper doctor`").because(e)
    })?;
    // The daemon waits for open connections before it ends, so this one is dropped with the answer.
    client.call(Method::POST, "/v1/shutdown", NOTHING).await
}

/// Returns the start time of the daemon's process, if it still runs. Where processes cannot be
/// seen, it is not reported as stopped.
fn started(pid: Option<u32>) -> Result<Option<u64>, Fault> {
    Ok(pid.map(crate::world::process::table::start_time).transpose()?.flatten())
}
