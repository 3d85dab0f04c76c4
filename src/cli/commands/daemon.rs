//! `daemon` runs a daemon in the foreground or detached; `stop` ends a running one and waits.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use crate::cli::args::{Global, Start};
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, NOTHING, log_to_stderr, show_one};
use crate::core::{Code, Fault};
use crate::daemon::info::read_info;
use crate::daemon::run::StartOptions;
use crate::daemon::running;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

pub(in crate::cli) const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Longest time that a daemon takes to answer that it will end; then it gets a signal.
const ASK_LIMIT: Duration = Duration::from_secs(5);

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
        ..StartOptions::default()
    };
    crate::daemon::run::run(client::layout(global)?.root(), extra)?;
    Ok(ExitCode::SUCCESS)
}

pub(in crate::cli) async fn stop(global: &Global) -> CommandResult {
    let layout = client::layout(global)?;
    let before = read_info(&layout);
    let pid = match tokio::time::timeout(ASK_LIMIT, ask(&layout)).await {
        Ok(Ok(())) => before.map(|info| info.pid),
        // It answered, and refuses.
        Ok(Err(CliError(problem))) if problem.code != Code::DaemonUnreachable.as_str() => {
            return Err(CliError(problem));
        }
        Ok(Err(_)) | Err(_) => {
            let Some(info) = running::find_patiently(&layout) else {
                if running::is_locked(&layout) {
                    return Err(unidentified(&layout).into());
                }
                return show_one(global, &json!({ "stopped": false }), "no daemon is running\n");
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
            return show_one(global, &json!({ "stopped": true, "pid": pid }), "stopped\n");
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
