//! `exec`: runs a command in an environment under a lease; the command ends with the environment.
//!
//! The command is held at its start until the daemon has recorded it and put it into the cgroup of
//! the environment, so that a teardown finds every command that runs there. It gets its own process
//! group, except at a terminal, where it stays in the shell's job. TERM, INT and HUP are passed on;
//! the exit code is the command's.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use hyper::Method;
use rustix::fs::{Access, access};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::processes::Launch;
use crate::api::types::{EnvironmentView, LeaseView, NewLease, ProcessView};
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::failure;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode};
use crate::cli::{render, shell};
use crate::core::{Code, Fault};
use crate::world::fs::paths;
use crate::world::process::git_env;

/// Exit codes of a shell for a command that does not exist, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// Duration of the lease in seconds; it ends this long after the last renewal.
const LEASE_SECONDS: u64 = 60;
/// Interval of the renewal of the lease.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// Script that stops itself and becomes the command after `SIGCONT`. The text is constant:
/// arguments are never part of it.
const GATE: &str = r#"kill -STOP $$; exec "$@""#;

pub(in crate::cli) async fn run(
    global: &Global,
    typed: &str,
    command: &[OsString],
) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = &named::whole(&mut client, typed).await?;
    let path = format!("/v1/environments/{}", encode(id));
    let env: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    let program = command.first().map(OsString::as_os_str).unwrap_or_default();
    if let Err(missing) = found(program, Path::new(&env.path)) {
        // As a shell does, so that a script can tell this from an exit of the command.
        let code = if missing.code == Code::PathNotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        failure::report(&CliError::from(missing).0, global.json, None);
        return Ok(ExitCode::from(code));
    }
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
    let lease = lease(&mut client, id, &name, None).await?;
    let ended = run_leased(&mut client, &env, command, &name, &lease.id).await;
    let path = format!("/v1/leases/{}", encode(&lease.id));
    // The release may fail: the environment may have been removed, and the lease with it.
    let released: Result<Option<()>, CliError> = client.call(Method::DELETE, &path, NOTHING).await;
    drop(released);
    let status = ended?;
    // 128 plus the signal is what a shell reports for a killed command.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

async fn lease(
    client: &mut Client,
    id: &str,
    name: &str,
    again: Option<String>,
) -> Result<LeaseView, CliError> {
    let path = format!("/v1/environments/{}/leases", encode(id));
    let wanted = NewLease { seconds: LEASE_SECONDS, purpose: format!("exec {name}"), id: again };
    client.call(Method::POST, &path, Some(&wanted)).await
}

async fn run_leased(
    client: &mut Client,
    env: &EnvironmentView,
    command: &[OsString],
    name: &str,
    lease_id: &str,
) -> Result<ExitStatus, CliError> {
    let at_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let mut child = hold(env, command, at_terminal)?;
    let place = format!("/v1/environments/{}/processes", encode(&env.id));
    let launch = Launch { pid: child.id(), name: name.to_owned() };
    let known: Result<ProcessView, CliError> =
        client.call(Method::POST, &place, Some(&launch)).await;
    if let Err(refused) = known {
        drop(child.kill());
        drop(child.wait());
        return Err(refused);
    }
    let pid = Pid::from_child(&child);
    let _signalled = kill_process(pid, Signal::CONT);
    let status = run_child(client, &env.id, name, lease_id, child, at_terminal).await;
    let over = format!("{place}/{}", pid.as_raw_nonzero());
    let forgotten: Result<Option<()>, CliError> = client.call(Method::DELETE, &over, NOTHING).await;
    drop(forgotten);
    status
}

/// Starts the command behind the gate and returns it stopped.
fn hold(env: &EnvironmentView, command: &[OsString], at_terminal: bool) -> Result<Child, Fault> {
    let mut held = Command::new("/bin/sh");
    git_env::relocate(&mut held);
    held.arg("-c").arg(GATE).arg("groundskeeper-gate").args(command);
    held.current_dir(&env.path)
        .env("GROUNDSKEEPER_ENV", &env.id)
        .env("GROUNDSKEEPER_INCARNATION", env.incarnation.to_string())
        .env("GROUNDSKEEPER_PATH", &env.path)
        .env("GROUNDSKEEPER_BRANCH", &env.branch)
        .env("PWD", &env.path)
        .env_remove(shell::VARIABLE);
    if !at_terminal {
        held.process_group(0);
    }
    let place = Path::new(&env.path);
    let mut child = held.spawn().map_err(paths::failed("start a command in", place))?;
    // NOWAIT leaves the exit status for the later `wait` on the child.
    let how = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let state = waitid(WaitId::Pid(Pid::from_child(&child)), how);
    if state.ok().flatten().is_some_and(|s| s.stopped()) {
        return Ok(child);
    }
    drop(child.kill());
    drop(child.wait());
    let message = "cannot hold the command at its start";
    Err(Fault::new(Code::Io, message, "check that /bin/sh is a POSIX shell"))
}

/// Checks that the program exists and can be run, so that the error is a fault of this program and
/// not the text of the shell.
fn found(program: &OsStr, directory: &Path) -> Result<(), Fault> {
    let path = Path::new(program);
    let is_path = path.components().count() > 1;
    let folders = std::env::var_os("PATH").filter(|_| !is_path).unwrap_or_default();
    let candidates: Vec<PathBuf> = if is_path {
        vec![directory.join(path)]
    } else {
        std::env::split_paths(&folders).map(|folder| folder.join(path)).collect()
    };
    let is_program = |file: &&PathBuf| file.is_file() && access(*file, Access::EXEC_OK).is_ok();
    if !program.is_empty() && candidates.iter().any(|file| is_program(&file)) {
        return Ok(());
    }
    let Some(file) = candidates.iter().find(|file| file.exists() && !program.is_empty()) else {
        let message = format!("there is no program {}", path.display());
        return Err(Fault::new(Code::PathNotFound, message, "check its name, or install it"));
    };
    let hint = if file.is_file() {
        format!("make it so with `chmod +x {}`", paths::as_argument(file))
    } else {
        "name a program".to_owned()
    };
    let message = format!("{} is not executable", file.display());
    Err(Fault::new(Code::PermissionDenied, message, hint))
}

/// Waits for the end of the command, renews the lease meanwhile, and passes signals on.
async fn run_child(
    client: &mut Client,
    id: &str,
    name: &str,
    lease_id: &str,
    mut child: Child,
    at_terminal: bool,
) -> Result<ExitStatus, CliError> {
    let pid = Pid::from_child(&child);
    let mut over = tokio::task::spawn_blocking(move || child.wait());
    let mut renewal = tokio::time::interval(RENEW_EVERY);
    // The first tick is immediate, and the lease is fresh.
    renewal.tick().await;
    let listen = |kind| signal(kind).map_err(paths::failed("listen to signals for", Path::new(id)));
    let (mut term, mut hup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut int = listen(SignalKind::interrupt())?;
    let pass = |signal| {
        let _sent =
            if at_terminal { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
    };
    loop {
        tokio::select! {
            ended = &mut over => {
                let ended = ended.unwrap_or_else(|e| Err(std::io::Error::other(e)));
                return Ok(ended.map_err(paths::failed("wait for the command in", Path::new(id)))?);
            }
            _ = term.recv() => pass(Signal::TERM),
            _ = hup.recv() => pass(Signal::HUP),
            // A terminal sends INT to the whole job by itself.
            _ = int.recv() => if !at_terminal { pass(Signal::INT) },
            _ = renewal.tick() => {
                let again = Some(lease_id.to_owned());
                if let Err(CliError(problem)) = lease(client, id, name, again).await {
                    render::note(&format!("cannot renew the lease: {}", problem.message));
                }
            }
        }
    }
}
