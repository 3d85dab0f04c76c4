//! Where one history takes place: a root with a home, up to three data directories and the daemons
//! on them. It runs git as the user does, and the program's verbs; it decides nothing.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::shim::{self, Gate};
use crate::child::{self, Finished, Started};
use crate::daemon::Daemon;
use crate::ground::{Programs, make_dir, write};
use crate::trouble::{Trouble, failed};

const GIT_CONFIG: &str = "[user]\n name = Torture\n email = torture@example.org\n\
    [init]\n defaultBranch = main\n[gc]\n auto = 0\n[maintenance]\n auto = false\n\
    [advice]\n detachedHead = false\n[protocol \"file\"]\n allow = always\n";
/// Short limits, so that what hangs is given up within a history.
const CONFIG: &str = "setup_limit_seconds = 5\nteardown_limit_seconds = 2\n\
    grace_milliseconds = 200\nlow_disk_gigabytes = 0\n";
/// Most data directories on one repository: two, and a copy of one.
pub(crate) const DATAS: usize = 3;
/// Within this each verb has to answer.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// How a verb was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) args: Vec<String>,
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// What was said in one line.
    pub(crate) fn printed(&self) -> String {
        let text = format!("{} {}", self.json, self.err.trim());
        let cut = (0..=900.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        format!("{:?} ended with {:?}: {}", self.args, self.code, &text[..cut])
    }
}

/// A verb under way.
pub(crate) struct Asked {
    started: Started,
    args: Vec<String>,
    since: Instant,
}

impl Asked {
    pub(crate) fn is_over(&mut self) -> bool {
        self.started.is_over()
    }

    /// Waits for the end, or brings it about when it takes far too long.
    pub(crate) fn end(mut self) -> Result<Answer, Trouble> {
        let left = child::LIMIT.saturating_sub(self.since.elapsed());
        let late = !crate::time::until(left, || self.started.is_over());
        let took = self.since.elapsed();
        let done = self.started.end(late)?;
        let (json, code) = (done.json(), done.code);
        Ok(Answer { args: self.args, code, json, err: done.err, took })
    }
}

/// One history's place.
pub(crate) struct Place {
    root: PathBuf,
    keep: AtomicBool,
    programs: Programs,
    daemons: Mutex<[Option<Daemon>; DATAS]>,
    /// Places of the data directories, which may move.
    datas: Mutex<[PathBuf; DATAS]>,
    real_git: PathBuf,
    pub(crate) verbs: AtomicU64,
    /// Within this each verb has to answer.
    pub(crate) bound: Duration,
}

impl Place {
    pub(crate) fn new(programs: &Programs, below: &Path, name: &str) -> Result<Self, Trouble> {
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(below);
        let root = dir.map_err(failed("make a folder in", below))?.keep();
        let root = root.canonicalize().map_err(failed("find", &root))?;
        for folder in ["home", "outside", "shim"] {
            make_dir(&root.join(folder))?;
        }
        write(&root.join("home/.gitconfig"), GIT_CONFIG)?;
        write(&root.join("config.toml"), CONFIG)?;
        let datas = ["data-a", "data-b", "data-c"].map(|name| root.join(name));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let real_git = std::env::split_paths(&path).map(|p| p.join("git")).find(|p| p.is_file());
        let real_git = real_git.ok_or_else(|| Trouble::new("there is no git in PATH"))?;
        let place = Self {
            root,
            keep: AtomicBool::new(false),
            programs: programs.clone(),
            daemons: Mutex::default(),
            datas: Mutex::new(datas),
            real_git,
            verbs: AtomicU64::new(0),
            bound: BOUND,
        };
        place.lay_out_shims()?;
        Ok(place)
    }

    fn lay_out_shims(&self) -> Result<(), Trouble> {
        let this = std::env::current_exe().map_err(failed("find", Path::new("this program")))?;
        let bin = self.root.join("shim/bin");
        make_dir(&bin)?;
        let name = bin.join("git");
        std::os::unix::fs::symlink(this, &name).map_err(failed("make", &name))?;
        for data in 0..DATAS {
            make_dir(self.gate(data).folder())?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Where a data directory is now.
    pub(crate) fn data(&self, data: usize) -> PathBuf {
        let datas = self.datas.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        datas.get(data).cloned().unwrap_or_default()
    }

    /// Notes that a data directory has another place.
    pub(crate) fn data_is_at(&self, data: usize, path: PathBuf) {
        let mut datas = self.datas.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(at) = datas.get_mut(data) {
            *at = path;
        }
    }

    /// Where the daemon of a data directory is given orders about its calls of git.
    pub(crate) fn gate(&self, data: usize) -> Gate {
        Gate::new(self.root.join(format!("shim/{data}")))
    }

    /// Leaves everything where it is, for whoever looks into a finding.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// No setting of the machine or of the user matters here.
    fn isolate(&self, command: &mut Command) {
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["GIT_", "XDG_", "GROUNDSKEEPER"].iter().any(|p| text.starts_with(p)) {
                command.env_remove(&name);
            }
        }
        command.env("HOME", self.path("home")).env("LC_ALL", "C").current_dir(&self.root);
        command.env("GROUNDSKEEPER_CONFIG", self.path("config.toml"));
        command.env("GROUNDSKEEPER_KEYCHAIN_FILE", self.path("keyring.json"));
        command.env("GROUNDSKEEPER_OFFLINE", "1").env("GIT_EDITOR", "true");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    }

    /// A command of the user's.
    pub(crate) fn tool(
        &self,
        program: &str,
        at: &Path,
        args: &[&str],
    ) -> Result<Finished, Trouble> {
        let mut command = Command::new(program);
        self.isolate(&mut command);
        // Where the directory is gone, the command has nothing to do.
        if !at.is_dir() {
            let err = format!("{} is not there", at.display());
            return Ok(Finished { code: Some(128), out: String::new(), err, late: false });
        }
        child::run_within(command.current_dir(at).args(args), BOUND)
    }

    /// git as the user runs it: without anything before it.
    pub(crate) fn git(&self, at: &Path, args: &[&str]) -> Result<Finished, Trouble> {
        let real = self.real_git.to_string_lossy().into_owned();
        self.tool(&real, at, args)
    }

    /// git that has to succeed, and what it prints.
    pub(crate) fn must_git(&self, at: &Path, args: &[&str]) -> Result<String, Trouble> {
        let done = self.git(at, args)?;
        if done.ok() {
            return Ok(done.out);
        }
        let what = format!("git {args:?} in {}: {}", at.display(), done.err.trim());
        Err(Trouble::new(what))
    }

    /// git whose input is given and whose output is bytes.
    pub(crate) fn pipe_git(
        &self,
        at: &Path,
        args: &[&str],
        input: Vec<u8>,
    ) -> Result<Vec<u8>, Trouble> {
        use std::io::Write as _;
        use std::process::Stdio;
        let trouble = |e: std::io::Error| Trouble::new("cannot ask git").because(&e);
        // Where the directory is gone, git has nothing to say.
        if !at.is_dir() {
            return Ok(Vec::new());
        }
        let mut command = Command::new(&self.real_git);
        self.isolate(&mut command);
        // A question must not fetch what a partial clone left out.
        command.env("GIT_NO_LAZY_FETCH", "1");
        command.current_dir(at).args(args).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(trouble)?;
        let stdin = child.stdin.take();
        let writer = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
        let output = child.wait_with_output().map_err(trouble)?.stdout;
        drop(writer.join());
        Ok(output)
    }

    fn verb(&self, data: usize, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.groundskeeper);
        self.isolate(&mut command);
        // Every caller may be a hook of some other repository.
        command.env("GIT_DIR", self.path("outside/canary/caller.git"));
        command.env("GIT_INDEX_FILE", self.path("outside/canary/caller.git/index"));
        if data == 1 {
            command.env("GIT_WORK_TREE", self.path("outside/canary"));
        }
        if let Some(guard) = self.programs.without {
            command.env("GROUNDSKEEPER_GUARDS_OFF", guard);
        }
        command.arg("--data-dir").arg(self.data(data)).args(["--json", "--no-autostart"]);
        command.args(args);
        command
    }

    /// Begins a verb.
    pub(crate) fn ask(&self, data: usize, args: &[&str]) -> Result<Asked, Trouble> {
        self.verbs.fetch_add(1, Ordering::Relaxed);
        let started = Started::new(&mut self.verb(data, args))?;
        let args = args.iter().map(ToString::to_string).collect();
        Ok(Asked { started, args, since: Instant::now() })
    }

    /// Uses a verb.
    pub(crate) fn gk(&self, data: usize, args: &[&str]) -> Result<Answer, Trouble> {
        self.ask(data, args)?.end()
    }

    /// Starts a daemon; false with what it said when it is not ready.
    pub(crate) fn start(&self, data: usize) -> Result<Result<(), String>, Trouble> {
        let mut command = self.verb(data, &["daemon"]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("shim/bin").display()));
        command.env(shim::FOLDER, self.gate(data).folder()).env(shim::REAL, &self.real_git);
        let daemon = Daemon::begin(command, &self.path(format!("daemon-{data}.err")))?;
        let ready = daemon.ready;
        let printed = daemon.printed.trim().to_owned();
        let mut daemons = self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(slot) = daemons.get_mut(data) {
            *slot = Some(daemon);
        }
        Ok(if ready { Ok(()) } else { Err(printed) })
    }

    /// Ends a daemon in good order; says so when it does not end well.
    pub(crate) fn stop(&self, data: usize) -> Result<(), String> {
        let mut daemons = self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match daemons.get_mut(data).and_then(Option::take) {
            Some(daemon) => daemon.end(),
            None => Ok(()),
        }
    }

    /// Whether a daemon was started on it and was not told to end.
    pub(crate) fn runs(&self, data: usize) -> bool {
        let daemons = self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        daemons.get(data).is_some_and(Option::is_some)
    }

    /// Whether a daemon that was started has ended by itself.
    pub(crate) fn has_died(&self, data: usize) -> bool {
        let mut daemons = self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        daemons.get_mut(data).and_then(Option::as_mut).is_some_and(Daemon::is_dead)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(mut daemons) = self.daemons.lock() {
            *daemons = Default::default();
        }
        crate::processes::end_all(&self.path("home"));
        if !self.keep.load(Ordering::Relaxed) {
            // What a user made unreadable is removed as well.
            drop(std::fs::remove_dir_all(&self.root));
        }
    }
}
