//! Runs the repository's hooks, setup and teardown: trusted, gated, bounded and recorded.
//!
//! A hook runs only if the user trusts its content. Its process is first held at a gate, and is
//! released only when its pid and start time are in the log, so that no hook ever runs that a later
//! daemon does not know of. If the daemon is killed before that, the gate closes and the hook never
//! runs. If it is killed while the hook runs, the next daemon ends the recorded process group and
//! starts over; a hook must therefore be safe to run again.
//!
//! Output goes to a transcript file (bounded, 0600) and to subscribers; the log stores only the
//! last lines of a failure. Secrets are removed before any output is kept (`redact.rs`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::core::event::SetupReport;
use crate::core::{Code, Environment, EnvironmentOutcome, Fault, Note};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::hook_content::{Content, PrivateCopy};
use crate::world::effects::transcript::Output;
use crate::world::fs::paths;
use crate::world::process;
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::subprocess::{self, Bounds, Running};
use crate::world::process::{git_env, orphans, table, terminate};

/// Default path of the teardown hook inside the worktree.
pub const TEARDOWN: &str = ".groundskeeper/teardown";
/// Default path of the setup hook inside the worktree.
pub const SETUP: &str = ".groundskeeper/setup";
/// Default time limit of a setup hook.
pub const SETUP_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Holds a command back until it reads a line from the gate, which is its stderr until then. The
/// text is constant and the command is passed as arguments, so no quoting is needed.
const GATE: &str = r#"read -r go <&2 && [ "$go" = go ] && exec "$@" </dev/null 2>&1"#;

/// Returns the SHA-256 of a hook, in hex.
///
/// # Errors
/// When it is not a regular file, is too large, or cannot be read.
pub fn hash(path: &Path) -> Result<String, Fault> {
    Content::read(path).map(|content| content.hash)
}

/// One run of a hook.
struct Hook {
    /// `setup` or `teardown`, for messages.
    name: &'static str,
    /// Path inside the worktree.
    path: String,
    limit: Duration,
    transcript: PathBuf,
    /// What the user can do when it fails.
    hint: &'static str,
}

/// Performs [`EnvironmentStep::RunSetup`](crate::core::EnvironmentStep::RunSetup).
pub(in crate::world) fn run(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let hook = Hook {
        name: "setup",
        path: env.plan.setup_path.clone().unwrap_or_default(),
        limit: Duration::from_millis(env.plan.setup_limit_ms),
        transcript: task.layout().transcript_of(&env.id, env.incarnation),
        hint: "fix the hook, then repeat the command; --keep-failed keeps the worktree",
    };
    let (report, tail) = hook.run(task)?;
    Ok(EnvironmentOutcome::SetUp(report, tail))
}

/// Performs [`EnvironmentStep::RunTeardown`](crate::core::EnvironmentStep::RunTeardown).
pub(in crate::world) fn run_teardown(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let options = env.teardown.as_ref().map(|t| t.options.clone()).unwrap_or_default();
    let hook = Hook {
        name: "teardown",
        path: options.hook_path.unwrap_or_default(),
        limit: Duration::from_millis(options.hook_limit_ms),
        transcript: task.layout().teardown_transcript_of(&env.id, env.incarnation),
        hint: "do the remaining work of the hook manually; the removal continues",
    };
    let (report, tail) = hook.run(task)?;
    Ok(EnvironmentOutcome::TornDown(report.millis, tail))
}

impl Hook {
    /// Runs the hook, and returns its report and the last lines of its output.
    fn run(&self, task: &Task<'_>) -> Result<(SetupReport, Vec<String>), Fault> {
        let env = task.env();
        end_earlier(task)?;
        let target = paths::from_host(&env.plan.path);
        let hook = target.join(&self.path);
        let content = self.trusted(task, &hook)?;
        let copy = PrivateCopy::write(task, self.name, &content)?;
        let hash = content.hash;
        let transcript = &self.transcript;
        let mut output = Output::create(transcript)?;
        let started = Instant::now();
        let left = OrphanWatch::begin(env)?;

        let (mut gate, theirs) =
            subprocess::gate().map_err(paths::failed("create a socket pair for", &hook))?;
        let name = format!("the {} hook", self.name);
        let mut running = Running::spawn(command(task, (&hook, &copy.0), &target, theirs), &name)?;
        point("hook.spawned");
        let pid = running.pid();
        // Without control groups, the environment variable and the process
        // group identify the processes.
        drop(task.world.cgroups.add(&env.id, env.incarnation, pid));
        let start_time = table::start_time(pid)?.unwrap_or(0);
        // The note is durable before the gate opens. On an early return the gate's end is dropped,
        // and the held command ends without running the hook.
        if !task.reporter.note(Note::HookSpawned { pid, started: start_time, hash }) {
            return Err(process::Error::Cancelled.into());
        }
        point("hook.noted");
        gate.write_all(b"go\n").map_err(paths::failed("start", &hook))?;
        drop(gate);
        point("hook.released");

        let bounds = Bounds {
            time: self.limit,
            output_bytes: usize::MAX,
            cancel: task.cancel,
            cancel_grace: Duration::ZERO,
        };
        let ended = running.wait(bounds, &mut |_, bytes| {
            output.take(bytes, &mut |line| task.reporter.output(line));
            Ok(())
        });
        drop(left);
        point("hook.ended");
        output.finish(&mut |line| task.reporter.output(line));
        let status = ended.map_err(|error| output.explain(error.into(), transcript))?;
        if !status.success() {
            let message = format!("{name} ended with {status}");
            let fault = Fault::new(Code::HookFailed, message, self.hint);
            return Err(output.explain(fault, transcript));
        }
        let report = SetupReport {
            millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            output_bytes: output.bytes,
            transcript: paths::to_host(transcript),
        };
        Ok((report, output.last_lines()))
    }
}

/// While it exists, orphans that appear may be this environment's.
struct OrphanWatch(Vec<u8>);

impl OrphanWatch {
    fn begin(env: &Environment) -> Result<Self, Fault> {
        let path = env.plan.path.as_bytes().to_owned();
        orphans::hook_begins(&path)?;
        Ok(Self(path))
    }
}

impl Drop for OrphanWatch {
    fn drop(&mut self) {
        orphans::hook_ended(&self.0);
    }
}

/// Ends the processes that a hook of an earlier daemon started, before the hook runs again or its
/// effects are rolled back.
pub(in crate::world) fn end_earlier(task: &Task<'_>) -> Result<(), Fault> {
    let env = task.env();
    if env.hook.is_none() {
        return Ok(());
    }
    let scope = Scope { ties: Ties::Started, ..Scope::of(env, &task.world.cgroups) };
    let ended = terminate::end(&scope, subprocess::TERM_GRACE, task.cancel)?;
    let Some(survivor) = ended.survivors.first() else { return Ok(()) };
    let message = format!("process {} of an earlier daemon does not end", survivor.pid);
    let hint = "end this process manually; the step is retried";
    Err(Fault::new(Code::EnvironmentBusy, message, hint).transient())
}

impl Hook {
    /// Reads the hook, and refuses it unless the user trusts exactly this
    /// content and it is executable.
    fn trusted(&self, task: &Task<'_>, hook: &Path) -> Result<Content, Fault> {
        let plan = &task.env().plan;
        let content = Content::read(hook)?;
        let hash = &content.hash;
        if !task.trusted.contains(hash) {
            let name = &self.path;
            let repository = &plan.repository;
            let place = repository.source.as_ref().unwrap_or(&repository.common_dir);
            let message = format!("the {} hook {name} is not trusted", self.name);
            let hint = format!(
                "read it, then run `groundskeeper trust --repo {place} --hash {hash}`; or skip it \
             with --no-{}",
                self.name
            );
            let fault = Fault::new(Code::NotTrusted, message, hint);
            return Err(fault.with_evidence([format!("sha256 {hash}")]));
        }
        if !content.executable {
            let message = format!("the {} hook {} is not executable", self.name, self.path);
            let hint = format!("run `git update-index --chmod=+x {}` and commit", self.path);
            return Err(Fault::new(Code::HookFailed, message, hint));
        }
        Ok(content)
    }
}

/// Builds the command that runs the copy of a hook as if it were the hook itself.
fn command(
    task: &Task<'_>,
    (hook, copy): (&Path, &Path),
    target: &Path,
    gate: std::os::fd::OwnedFd,
) -> Command {
    let env = task.env();
    let source = env.plan.repository.source.as_ref().map(paths::from_host);
    let mut command = Command::new("/bin/sh");
    git_env::isolate(&mut command);
    command.arg("-c").arg(GATE).arg("groundskeeper-gate").arg(copy);
    command
        .current_dir(target)
        .env("GROUNDSKEEPER_ENV", env.id.as_str())
        .env("GROUNDSKEEPER_INCARNATION", env.incarnation.to_string())
        .env("GROUNDSKEEPER_PATH", target)
        .env("GROUNDSKEEPER_BRANCH", &env.plan.branch)
        .env("GROUNDSKEEPER_HOOK_DIR", hook.parent().unwrap_or(target))
        .env("GROUNDSKEEPER_SOURCE", source.unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(gate));
    command
}
