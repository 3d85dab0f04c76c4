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

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::Digest as _;

use crate::core::event::SetupReport;
use crate::core::{Code, Environment, EnvironmentOutcome, Fault, Note};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git::marker::Admin;
use crate::world::process::redact::{Redactor, Secrets};
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::subprocess::{self, Bounds, Running};
use crate::world::process::{git_env, orphans, table, terminate};

/// Default path of the teardown hook inside the worktree.
pub const TEARDOWN: &str = ".groundskeeper/teardown";
/// Default path of the setup hook inside the worktree.
pub const SETUP: &str = ".groundskeeper/setup";
/// Default time limit of a setup hook.
pub const SETUP_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Bytes of output that a transcript keeps from the start, and again from the end.
const TRANSCRIPT_HALF: usize = 256 * 1024;
/// Last lines of output that a fault carries as evidence.
const TAIL_LINES: usize = 20;
/// A larger file is no hook.
const HOOK_BYTES_MAX: u64 = 4 << 20;

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

/// The content of a hook, read once: the bytes that were hashed are the bytes that run.
struct Content {
    bytes: Vec<u8>,
    hash: String,
    executable: bool,
}

impl Content {
    fn read(path: &Path) -> Result<Self, Fault> {
        // NONBLOCK: a file may have been replaced by a pipe, whose open would block.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let open =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let strange = || {
            let (path, most) = (path.display(), HOOK_BYTES_MAX >> 20);
            let message = format!("{path} is not a regular file of at most {most} MiB");
            Fault::new(Code::HookFailed, message, "replace it with an executable regular file")
        };
        let file = match open {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(strange());
            }
            open => open.map_err(paths::failed("inspect", path))?,
        };
        let found = file.metadata().map_err(paths::failed("inspect", path))?;
        let mut bytes = Vec::new();
        if !found.is_file() {
            return Err(strange());
        }
        // Read with a bound instead of trusting the size: the file may grow meanwhile.
        let mut limited = file.take(HOOK_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(paths::failed("read", path))?;
        if bytes.len() as u64 > HOOK_BYTES_MAX {
            return Err(strange());
        }
        let hash = crate::format::hex(&sha2::Sha256::digest(&bytes));
        Ok(Self { bytes, hash, executable: found.permissions().mode() & 0o111 != 0 })
    }
}

/// A private copy of a hook, so that a change of the original after the check has no
/// effect; removed on drop.
struct PrivateCopy(PathBuf);

impl PrivateCopy {
    /// Writes the copy where programs may run: in the scratch folder, else in the
    /// administrative directory.
    fn write(task: &Task<'_>, name: &str, content: &Content) -> Result<Self, Fault> {
        let env = task.env();
        let admin = Admin::of(task.log_id(), env).published;
        let folders = [task.layout().scratch(), admin];
        let runs = |folder: &&PathBuf| {
            use rustix::fs::StatVfsMountFlags;
            let found = rustix::fs::statvfs(folder.as_path());
            found.is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::NOEXEC))
        };
        let folder = folders.iter().find(runs).ok_or_else(|| {
            let message = format!("cannot run the {name} hook: its file system is mounted noexec");
            let hint = "put the data directory on a file system that is mounted without noexec";
            Fault::new(Code::HookFailed, message, hint)
        })?;
        let copy = Self(folder.join(format!("{}.{}.{name}-hook", env.id, env.incarnation)));
        let path = &copy.0;
        paths::remove_file_if_any(path).map_err(paths::failed("remove", path))?;
        let open = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path);
        let mut file = open.map_err(paths::failed("create", path))?;
        file.write_all(&content.bytes).map_err(paths::failed("write", path))?;
        Ok(copy)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
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
        path: env.plan.setup_path.clone(),
        limit: Duration::from_millis(env.plan.setup_limit_ms),
        transcript: task.layout().transcript_of(&env.id, env.incarnation),
        hint: "fix the hook, then repeat the command; --keep-failed keeps the worktree",
    };
    Ok(EnvironmentOutcome::SetUp(hook.run(task)?))
}

/// Performs [`EnvironmentStep::RunTeardown`](crate::core::EnvironmentStep::RunTeardown).
pub(in crate::world) fn run_teardown(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let options = env.teardown.as_ref().map(|t| t.options.clone()).unwrap_or_default();
    let hook = Hook {
        name: "teardown",
        path: options.hook_path,
        limit: Duration::from_millis(options.hook_limit_ms),
        transcript: task.layout().teardown_transcript_of(&env.id, env.incarnation),
        hint: "do the remaining work of the hook manually; the removal continues",
    };
    Ok(EnvironmentOutcome::TornDown(hook.run(task)?.millis))
}

impl Hook {
    fn run(&self, task: &Task<'_>) -> Result<SetupReport, Fault> {
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
        let left = OrphanWatch::begin(env);

        let (mut gate, theirs) =
            subprocess::gate().map_err(paths::failed("create a socket pair for", &hook))?;
        let name = format!("the {} hook", self.name);
        let mut running = Running::spawn(command(task, (&hook, &copy.0), &target, theirs), &name)?;
        point("hook.spawned");
        let pid = running.pid();
        // Without control groups, the environment variable and the process
        // group identify the processes.
        drop(task.world.cgroups.add(&env.id, env.incarnation, pid));
        let start_time = table::start_time(pid).unwrap_or(0);
        // The note is durable before the gate opens. On an early return the gate's end is dropped,
        // and the held command ends without running the hook.
        if !task.reporter.note(Note::HookSpawned { pid, started: start_time, hash }) {
            return Err(crate::world::process::cancel::Cancel::fault());
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
        let status = ended.map_err(|fault| output.explain(fault, transcript))?;
        if !status.success() {
            let message = format!("{name} ended with {status}");
            let fault = Fault::new(Code::HookFailed, message, self.hint);
            return Err(output.explain(fault, transcript));
        }
        Ok(SetupReport {
            millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            output_bytes: output.bytes,
            transcript: paths::to_host(transcript),
        })
    }
}

/// While it exists, orphans that appear may be this environment's.
struct OrphanWatch(Vec<u8>);

impl OrphanWatch {
    fn begin(env: &Environment) -> Self {
        let path = env.plan.path.as_bytes().to_owned();
        orphans::hook_begins(&path);
        Self(path)
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
            let place = if plan.repository.source.0.is_empty() {
                &plan.repository.common_dir
            } else {
                &plan.repository.source
            };
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
        .env("GROUNDSKEEPER_SOURCE", paths::from_host(&env.plan.repository.source));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(gate));
    command
}

/// The bounded output of a hook.
struct Output {
    file: File,
    /// Bytes in the first half of the transcript so far.
    written: usize,
    /// The last bytes, once the first half is full.
    tail: Vec<u8>,
    /// The line being read.
    line: Vec<u8>,
    last_lines: std::collections::VecDeque<String>,
    /// Bytes of output after redaction.
    bytes: u64,
    redactor: Redactor,
}

/// A longer line is split.
const LINE_BYTES_MAX: usize = 4_096;

impl Output {
    fn create(path: &Path) -> Result<Self, Fault> {
        paths::remove_file_if_any(path).map_err(paths::failed("remove", path))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(paths::failed("create", path))?;
        Ok(Self {
            file,
            written: 0,
            tail: Vec::new(),
            line: Vec::new(),
            last_lines: std::collections::VecDeque::new(),
            bytes: 0,
            redactor: Redactor::new(Secrets::of_environment()),
        })
    }

    /// Adds output of the hook. Secret values from the daemon's environment are removed first.
    fn take(&mut self, bytes: &[u8], each_line: &mut dyn FnMut(&str)) {
        let bytes = self.redactor.take(bytes);
        self.keep(&bytes, each_line);
    }

    fn keep(&mut self, bytes: &[u8], each_line: &mut dyn FnMut(&str)) {
        self.bytes += bytes.len() as u64;
        let room = TRANSCRIPT_HALF.saturating_sub(self.written).min(bytes.len());
        // A transcript that cannot be written must not fail the hook.
        drop(self.file.write_all(&bytes[..room]));
        self.written += room;
        self.tail.extend_from_slice(&bytes[room..]);
        let excess = self.tail.len().saturating_sub(TRANSCRIPT_HALF);
        self.tail.drain(..excess);
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES_MAX {
                self.end_line(each_line);
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, each_line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        each_line(&text);
        self.last_lines.push_back(text);
        if self.last_lines.len() > TAIL_LINES {
            self.last_lines.pop_front();
        }
    }

    /// Completes the transcript: the last bytes, preceded by a line that counts the omitted ones.
    fn finish(&mut self, each_line: &mut dyn FnMut(&str)) {
        let rest = self.redactor.finish();
        self.keep(&rest, each_line);
        if !self.line.is_empty() {
            self.end_line(each_line);
        }
        let cut = self.bytes.saturating_sub((self.written + self.tail.len()) as u64);
        if cut > 0 {
            drop(writeln!(self.file, "\n[... {cut} bytes omitted ...]"));
        }
        drop(self.file.write_all(&self.tail));
    }

    fn explain(&self, mut fault: Fault, transcript: &Path) -> Fault {
        fault.transient = false;
        let lines = self.last_lines.iter().cloned();
        fault.with_evidence(lines.chain([format!("transcript: {}", transcript.display())]))
    }
}

/// Reads a transcript; none if the file does not exist.
///
/// # Errors
/// Any other I/O error.
pub fn read_transcript(path: &PathBuf) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcript_keeps_start_and_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t");
        let mut output = Output::create(&path).expect("created");
        let mut lines = 0;
        for n in 0..100_000 {
            output.take(format!("line {n}\n").as_bytes(), &mut |_| lines += 1);
        }
        output.finish(&mut |_| lines += 1);
        assert_eq!(lines, 100_000);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.len() < 2 * TRANSCRIPT_HALF + 100);
        assert!(text.starts_with("line 0\n") && text.ends_with("line 99999\n"));
        assert!(text.contains("bytes omitted"));
        assert_eq!(output.last_lines.len(), TAIL_LINES);
    }
}
