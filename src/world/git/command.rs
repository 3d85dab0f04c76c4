//! Runs git as a child process: clean environment, bounds, no prompts, errors with git's text.
//!
//! Objects, settings, histories and status are read through the git command line. Without it the
//! program reads plain refs (`refs.rs`) and indexes (`index/`), and writes only the administrative
//! directory of our own worktrees (`add_worktree.rs`), the index of a fresh checkout (`index/`) and
//! plain refs (`ref_files.rs`).

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::world::git::error::{Error, Reason};
use crate::world::process::cancel::Cancel;
use crate::world::process::git_env;
use crate::world::process::subprocess::{self, Bounds, Finished};

/// Oldest supported git, as (major, minor).
pub const VERSION_MIN: (u32, u32) = (2, 39);
/// Time limit of a git call that only reads or changes refs.
pub const SHORT: Duration = Duration::from_secs(60);
/// Time limit of a git call that writes a working tree.
pub const LONG: Duration = Duration::from_secs(1_800);
/// Bound on the output of one call that is held in memory (256 MiB).
const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// Grace period that a change of refs still gets after a cancellation.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// A directory to run git in, with its bounds.
#[derive(Debug, Clone)]
pub struct Git<'a> {
    place: Location,
    lock: Option<&'a File>,
    cancel: &'a Cancel,
    limit: Duration,
    /// Folder to which objects are written, and a second one from which they are read.
    objects: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
enum Location {
    /// git searches its repository from this directory, as a user's git would.
    Directory(PathBuf),
    /// Exactly this git directory and working tree; git searches for nothing.
    Exact { git_dir: PathBuf, work_tree: Option<PathBuf> },
}

impl<'a> Git<'a> {
    /// Runs git as a user would run it in `directory`.
    #[must_use]
    pub fn at(directory: &Path, lock: Option<&'a File>, cancel: &'a Cancel) -> Self {
        let place = Location::Directory(directory.to_owned());
        Self { place, lock, cancel, limit: SHORT, objects: None }
    }

    /// Runs git on exactly this git directory. It never climbs to a repository further up, as it
    /// would when the `.git` of a worktree is missing.
    #[must_use]
    pub fn exact(
        git_dir: &Path,
        work_tree: Option<&Path>,
        lock: Option<&'a File>,
        cancel: &'a Cancel,
    ) -> Self {
        let place = Location::Exact {
            git_dir: git_dir.to_owned(),
            work_tree: work_tree.map(Path::to_owned),
        };
        Self { place, lock, cancel, limit: SHORT, objects: None }
    }

    /// Returns the same in a repository without a working tree.
    #[must_use]
    pub fn in_bare(mut self, git_dir: &Path) -> Self {
        self.place = Location::Exact { git_dir: git_dir.to_owned(), work_tree: None };
        self
    }

    /// Returns the same, writing objects to one folder and reading them from another one as well.
    #[must_use]
    pub fn with_objects(mut self, made_in: &Path, read_from: &Path) -> Self {
        self.objects = Some((made_in.to_owned(), read_from.to_owned()));
        self
    }

    /// Returns the same with another time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns a git command that is not yet started.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = base_command();
        match &self.place {
            Location::Directory(directory) => {
                command.arg("-C").arg(directory);
            }
            Location::Exact { git_dir, work_tree } => {
                command.env("GIT_DIR", git_dir);
                let directory = work_tree.as_ref().unwrap_or(git_dir);
                command.arg("-C").arg(directory);
                if let Some(tree) = work_tree {
                    command.env("GIT_WORK_TREE", tree);
                }
            }
        }
        if let Some((made_in, read_from)) = &self.objects {
            command.env("GIT_OBJECT_DIRECTORY", made_in);
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", read_from);
        }
        // No hook of a repository runs unless the user trusted it (`hook.rs`). A status must not
        // start a monitor process that outlives the worktree. A diff must not write the index just
        // to remember that a touched file is unchanged.
        command.args(["-c", "diff.autoRefreshIndex=false"]);
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]).args(args);
        command
    }

    /// Runs git to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot start, exceeds its time limit, or is cancelled.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Finished, Error> {
        self.run_command(self.command(args))
    }

    /// Runs a prepared command to its end, whatever its exit status.
    ///
    /// # Errors
    /// As for [`Git::run`].
    pub fn run_command(&self, command: Command) -> Result<Finished, Error> {
        self.cancel.check()?;
        self.check_owner()?;
        self.run_unchecked(command)
    }

    fn run_unchecked(&self, command: Command) -> Result<Finished, Error> {
        let cancel_grace = cancel_grace(&command);
        let (time, output_bytes, cancel) = (self.limit, OUTPUT_BYTES_MAX, self.cancel);
        let bounds = Bounds { time, output_bytes, cancel, cancel_grace };
        Ok(subprocess::run(command, self.lock, bounds)?)
    }

    /// Runs git and returns its output; any exit status but success is an error.
    ///
    /// # Errors
    /// As for [`Git::run`], or what git printed.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, Error> {
        let command = self.command(args);
        let what = describe(&command);
        let finished = self.run_command(command)?;
        if finished.status.success() {
            Ok(finished.stdout)
        } else {
            Err(Error::failed(&what, &finished))
        }
    }

    /// Runs like [`Git::output`] and returns the output as text without trailing newlines.
    ///
    /// # Errors
    /// As for [`Git::output`].
    pub fn line<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, Error> {
        let out = self.output(args)?;
        Ok(String::from_utf8_lossy(&out).trim_end_matches('\n').to_owned())
    }

    /// Runs a command of [`Git::command`] and returns its output as text without trailing newlines;
    /// `what` names the command in an error.
    ///
    /// # Errors
    /// As for [`Git::output`].
    pub fn line_of(&self, what: &str, command: Command) -> Result<String, Error> {
        let finished = self.run_command(command)?;
        if !finished.status.success() {
            return Err(Error::failed(what, &finished));
        }
        Ok(String::from_utf8_lossy(&finished.stdout).trim_end_matches('\n').to_owned())
    }

    /// Refuses a repository that another user owns now, as git does: its settings name programs,
    /// which would run as us. git skips this check when it is told which directory to use.
    ///
    /// # Errors
    /// [`Error::Untrusted`].
    pub fn check_owner(&self) -> Result<(), Error> {
        use std::os::unix::fs::MetadataExt as _;
        let Location::Exact { git_dir, work_tree } = &self.place else { return Ok(()) };
        let own = rustix::process::geteuid().as_raw();
        let owner = |path: &Path| path.symlink_metadata().map_or(own, |found| found.uid());
        for place in [Some(git_dir), work_tree.as_ref()].into_iter().flatten() {
            let owner = owner(place);
            if owner == own || trusted::is_known(place, owner) {
                continue;
            }
            // git itself decides, because only git reads `safe.directory` with all its rules.
            let git = Self { place: Location::Directory(place.clone()), ..self.clone() };
            let found = git.run_unchecked(git.command(["rev-parse", "--git-dir"]))?;
            let text = String::from_utf8_lossy(&found.stderr);
            if !found.status.success() && Reason::of(&text) == Reason::Untrusted {
                return Err(Error::untrusted(place, &text));
            }
            trusted::remember(place, owner);
        }
        Ok(())
    }

    /// Returns the token that cancels the calls.
    #[must_use]
    pub fn cancel(&self) -> &'a Cancel {
        self.cancel
    }
}

/// Cache of foreign-owned repositories that git trusts by its settings (`safe.directory`). An entry
/// is valid for a minute. Without it, each call would cost a second process where all repositories
/// are foreign-owned, as in a container.
mod trusted {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use crate::sync::lock_unpoisoned;

    const KNOWN_MAX: usize = 256;
    const HOLDS: Duration = Duration::from_secs(60);

    static KNOWN: Mutex<Vec<(PathBuf, u32, Instant)>> = Mutex::new(Vec::new());

    pub(in crate::world) fn is_known(place: &Path, owner: u32) -> bool {
        let known = lock_unpoisoned(&KNOWN);
        known.iter().any(|(p, o, since)| p == place && *o == owner && since.elapsed() < HOLDS)
    }

    pub(in crate::world) fn remember(place: &Path, owner: u32) {
        let mut known = lock_unpoisoned(&KNOWN);
        known.retain(|(p, _, since)| p != place && since.elapsed() < HOLDS);
        if known.len() < KNOWN_MAX {
            known.push((place.to_owned(), owner, Instant::now()));
        }
    }
}

/// Returns the grace period of a command after a cancellation. A git that is killed between
/// creating a ref's lock file and registering it for cleanup leaves the lock for good, and blocks
/// every other git. A change of refs takes only a moment, so it is waited for.
fn cancel_grace(command: &Command) -> Duration {
    let changes_refs = command.get_args().any(|arg| arg == "update-ref");
    if changes_refs { CANCEL_GRACE } else { Duration::ZERO }
}

/// Returns the path of git, resolved once: a PATH with many folders slows every process start.
fn git_program() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&folders).map(|dir| dir.join("git"));
        // If not found, the bare name is used, so that the error names what is missing.
        places.find(|place| is_executable(place)).unwrap_or_else(|| PathBuf::from("git"))
    })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn base_command() -> Command {
    let mut command = Command::new(git_program());
    git_env::isolate(&mut command);
    command
        // Some messages are recognized by their English text.
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        // A status that took `index.lock` would make a commit of the agent fail.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_PAGER", "cat");
    command
}

fn describe(command: &Command) -> String {
    // Our own options come first; the reader needs the verb and what follows.
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    let verb = args.iter().position(|a| *a == "core.fsmonitor=false").map_or(0, |n| n + 1);
    let mut text = format!("git {}", args[verb..].join(" "));
    if text.len() > 200 {
        text.truncate((0..=200).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0));
        text.push_str(" ...");
    }
    text
}

/// Checks that git exists and is new enough; returns its version.
///
/// # Errors
/// [`Error::TooOld`], or when git cannot be started.
pub fn check_version(cancel: &Cancel) -> Result<String, Error> {
    let mut command = base_command();
    command.arg("--version");
    let bounds = Bounds { time: SHORT, output_bytes: 4_096, cancel, cancel_grace: Duration::ZERO };
    let finished = subprocess::run(command, None, bounds)?;
    let text = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
    let version = text.strip_prefix("git version ").unwrap_or_default();
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < VERSION_MIN {
        return Err(Error::TooOld { least: VERSION_MIN, found: text });
    }
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cancel does not stop a git that is changing a ref: the change is complete or absent.
    #[test]
    fn ref_update_is_not_interrupted() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().expect("a directory");
        let (cancel, stop) = (Cancel::new().expect("a cancel"), Cancel::new().expect("a cancel"));
        let here = Git::at(dir.path(), None, &cancel);
        here.output(["init", "-q"]).expect("made");
        let tree = here.line(["write-tree"]).expect("a tree");
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let commit = who.into_iter().chain(["commit-tree", "-m", "first", &tree]);
        let commit = here.line(commit).expect("a commit");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let gate = File::from(std::os::fd::OwnedFd::from(reader));
        let changed = std::thread::scope(|scope| {
            let git = Git::at(dir.path(), Some(&gate), &stop);
            let change = scope.spawn(move || git.run(["update-ref", "--stdin"]));
            writer.write_all(b"start\n").expect("taken");
            stop.cancel();
            let rest = format!("create refs/heads/new {commit}\ncommit\n");
            writer.write_all(rest.as_bytes()).expect("taken");
            drop(writer);
            change.join().expect("ended")
        });
        // If the stop came before the start, git does not start.
        let made = changed.is_ok_and(|ended| ended.status.success());
        let there = here.run(["rev-parse", "--verify", "-q", "refs/heads/new"]).expect("asked");
        assert_eq!(there.status.success(), made, "the change is complete or absent");
        let late = Git::at(dir.path(), None, &stop).run(["update-ref", "refs/heads/late", &commit]);
        assert!(late.is_err());
        assert!(!dir.path().join(".git/refs/heads/new.lock").exists());
    }
}
