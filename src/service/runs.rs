//! Runs a command in an environment for a remote client, at most once for each request.
//!
//! A user at a terminal uses `exec`, which starts the command itself. Here the daemon starts it,
//! and the log records the start and the result of each request, so that no request runs twice.
//! The output goes to the client once and is stored nowhere: it may contain secrets.

use std::io::Write as _;
use std::process::Command as Process;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::core::empty_is_none::non_empty;
use crate::core::event::{Actor, ProcessStarted};
use crate::core::model::run::{Run, RunEnd};
use crate::core::{Code, Command, EnvironmentId, Fault, LeaseId, RequestId};
use crate::service::app::App;
use crate::service::contents::live_environment;
use crate::service::relocation;
use crate::service::requests::invalid;
use crate::service::types::run::{RunRequest, RunView};
use crate::world::fs::paths;
use crate::world::process;
use crate::world::process::cancel::Cancel;
use crate::world::process::git_env;
use crate::world::process::scope::RUN;
use crate::world::process::subprocess::{Bounds, Running, Stream, gate};

/// Limit of the returned output in bytes, for each of stdout and stderr; the end is returned.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Limit of concurrent commands.
pub const RUNS_MAX: usize = 64;
/// Timeout of a command in seconds if the request gives none.
const LIMIT_SECONDS: u64 = 600;
/// Upper bound of the timeout in seconds that a request may give.
const LIMIT_SECONDS_MAX: u64 = 24 * 3_600;
/// Script that becomes the command after it reads `go`, and ends if the other end of its stdin
/// closes first. The text is constant: arguments are never part of it.
const GATE: &str = r#"read -r go && [ "$go" = go ] && exec "$@" </dev/null"#;

/// Runs a command in an environment and returns when it has ended. A repeated request runs nothing
/// and returns the result of the first.
///
/// # Errors
/// If the request is invalid or refused, or the command of a repeated request still runs.
pub(crate) async fn run(
    app: &Arc<App>,
    environment: EnvironmentId,
    actor: Actor,
    request: Option<RequestId>,
    wanted: RunRequest,
) -> Result<RunView, Fault> {
    let request = match request {
        Some(request) => request,
        None => RequestId::parse(relocation::random_id()?.as_str())
            .map_err(|e| invalid(e.to_string()))?,
    };
    let limit = wanted.timeout_seconds.unwrap_or(LIMIT_SECONDS);
    let Some(program) = wanted.argv.first().filter(|p| !p.is_empty()) else {
        return Err(invalid("argv names no program"));
    };
    if limit == 0 || limit > LIMIT_SECONDS_MAX {
        return Err(invalid(format!("timeout_seconds is not from 1 to {LIMIT_SECONDS_MAX}")));
    }
    let name: String = program.rsplit('/').next().unwrap_or_default().chars().take(64).collect();
    let lease = wanted.lease.as_deref().map(LeaseId::parse).transpose();
    let lease = lease.map_err(|e| invalid(format!("lease: {e}")))?;
    let slot = Arc::clone(&app.runs).try_acquire_owned().map_err(|_| {
        let message = format!("{RUNS_MAX} commands are already running");
        Fault::new(Code::LimitReached, message, "retry when one has ended").transient()
    })?;
    let begin = Command::BeginRun {
        environment: environment.clone(),
        request: request.clone(),
        lease,
        name: name.clone(),
        actor,
    };
    // No new record: the log has this request already, and it must not run again.
    if !app.handle.submit(begin).await?.changed {
        return earlier_result(app, &request);
    }
    let limit = Duration::from_secs(limit);
    let wanted = RunCommand { environment, request, argv: wanted.argv, name, limit };
    // On a task of its own: a client that disconnects ends this one, and the command and its record
    // go on.
    let ended = tokio::spawn(run_and_record(Arc::clone(app), wanted, slot)).await;
    let panicked = || Fault::new(Code::Defect, "a command task panicked", "please report this");
    ended.map_err(|_| panicked())?
}

/// Runs a command whose start is in the log, and records its end. A failed start is recorded as a
/// result as well: without an end the request would stay open.
async fn run_and_record(
    app: Arc<App>,
    wanted: RunCommand,
    slot: OwnedSemaphorePermit,
) -> Result<RunView, Fault> {
    let request = wanted.request.clone();
    let mut view = run_on_thread(&app, wanted)
        .await
        .unwrap_or_else(|fault| RunView { why: fault.to_string(), ..RunView::default() });
    drop(slot);
    view.request = request.to_string();
    let (code, why) = (view.code, non_empty(view.why.clone()));
    app.handle.submit(Command::EndRun { request, code, why }).await?;
    Ok(view)
}

/// A command with the environment it runs in; `limit` is its timeout.
struct RunCommand {
    environment: EnvironmentId,
    request: RequestId,
    argv: Vec<String>,
    name: String,
    limit: Duration,
}

/// Runs a command on its own thread. Commands may run for hours and would use up the pool of
/// blocking threads that short queries share.
async fn run_on_thread(app: &Arc<App>, wanted: RunCommand) -> Result<RunView, Fault> {
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let cancel = Cancel::new().map_err(paths::failed("watch a process in", app.layout.root()))?;
    let cancel = Arc::new(cancel);
    let (here, stopper) = (Arc::clone(app), Arc::clone(&cancel));
    let run = move || {
        // The receiver is gone if the client has disconnected.
        drop(sender.send(run_behind_gate(&here, wanted, &cancel)));
    };
    let started = std::thread::Builder::new().name("gk-run".to_owned()).spawn(run);
    started.map_err(|e| {
        Fault::new(Code::Io, "cannot start a thread", "free some memory").because(e)
    })?;
    let mut stop = app.stop.clone();
    let ended = tokio::select! {
        ended = &mut receiver => ended,
        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
            // A daemon that stops ends the commands that it runs.
            stopper.cancel();
            receiver.await
        }
    };
    ended.unwrap_or_else(|_| {
        Err(Fault::new(Code::Defect, "a command thread panicked", "please report this"))
    })
}

/// Returns the result of an earlier request with this key; a transient fault while it still runs.
fn earlier_result(app: &App, request: &RequestId) -> Result<RunView, Fault> {
    if let Some(Run { ended: Some(RunEnd { code, why }), .. }) =
        app.handle.view(|state| state.run(request).cloned())
    {
        return Ok(RunView::earlier_result(request, code, why.as_deref()));
    }
    let message = "the command of this request is still running";
    Err(Fault::new(Code::LimitReached, message, "retry when it has ended").transient())
}

/// Starts the command behind a gate, records it, opens the gate, and waits for its end. A teardown
/// therefore knows every command that runs.
fn run_behind_gate(app: &App, wanted: RunCommand, cancel: &Cancel) -> Result<RunView, Fault> {
    let RunCommand { environment, request, argv, name, limit } = wanted;
    let env = live_environment(app, &environment)?;
    let (mut gate, theirs) = gate().map_err(paths::failed("open a pipe in", app.layout.root()))?;
    let place = paths::from_host(&env.plan.path);
    let mut held = Process::new("/bin/sh");
    git_env::isolate(&mut held);
    held.arg("-c").arg(GATE).arg("groundskeeper-gate").args(argv);
    held.current_dir(&place)
        .env("GROUNDSKEEPER_ENV", env.id.as_str())
        .env("GROUNDSKEEPER_INCARNATION", env.incarnation.to_string())
        .env("GROUNDSKEEPER_PATH", &place)
        .env("GROUNDSKEEPER_BRANCH", &env.plan.branch)
        .env("PWD", &place)
        .env(RUN, request.as_str())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::spawn(held, &name)?;
    let pid = running.pid();
    let seen = app.world.add_to_cgroup(&env, pid, std::process::id())?;
    let environment = env.id.clone();
    let started = seen.started;
    app.handle.submit_blocking(Command::Launch(ProcessStarted {
        environment: environment.clone(),
        pid,
        started,
        name,
        actor: Actor::daemon(),
    }))?;
    gate.write_all(b"go\n").map_err(paths::failed("start the command in", &place))?;
    drop(gate);
    let (mut out, mut err) = (Tail::default(), Tail::default());
    let bounds = Bounds {
        time: limit,
        output_bytes: OUTPUT_BYTES_MAX,
        cancel,
        cancel_grace: Duration::ZERO,
    };
    let ended = running.wait(bounds, &mut |stream, bytes| {
        let tail = if stream == Stream::Out { &mut out } else { &mut err };
        tail.push(bytes);
        Ok(())
    });
    drop(app.handle.submit_blocking(Command::Exited { environment, pid }));
    let (code, why) = outcome(ended)?;
    Ok(RunView {
        request: String::new(),
        code,
        why,
        truncated: out.cut || err.cut,
        stdout: Some(out.text()),
        stderr: Some(err.text()),
    })
}

fn outcome(
    ended: Result<std::process::ExitStatus, process::Error>,
) -> Result<(Option<i32>, String), Fault> {
    use std::os::unix::process::ExitStatusExt as _;
    match ended {
        Ok(status) => {
            let why = status.signal().map(|n| format!("signal {n}")).unwrap_or_default();
            Ok((status.code(), why))
        }
        Err(process::Error::Timeout { .. }) => Ok((None, "timeout".to_owned())),
        Err(process::Error::Cancelled) => Ok((None, "interrupted".to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// The last [`OUTPUT_BYTES_MAX`] bytes of a stream; `cut` is true if there were more.
#[derive(Default)]
struct Tail {
    bytes: std::collections::VecDeque<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.cut |= excess > 0;
        self.bytes.drain(..excess);
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&Vec::from(self.bytes)).into_owned()
    }
}
