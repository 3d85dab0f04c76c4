//! Where one history takes place: a repository, a data directory and a home of their own, and
//! things around them that nobody may touch. What lies here is removed at the end, unless something
//! was found.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{self, Finished};
use crate::trouble::{Trouble, failed};

const GIT_CONFIG: &str = "[user]\n name = Torture\n email = torture@example.org\n\
    [init]\n defaultBranch = main\n[gc]\n auto = 0\n[protocol \"file\"]\n allow = always\n";
/// Short limits, so that what hangs is given up within a history.
const CONFIG: &str = "setup_limit_seconds = 2\nteardown_limit_seconds = 1\n\
    grace_milliseconds = 200\nlow_disk_gigabytes = 0\n";
/// What a hook does is read from a file, so that it can change while its trusted content does not.
const HOOK: &str = "#!/bin/sh\nread -r mood < \"$GROUNDSKEEPER_SOURCE/../mood\"\ncase $mood in\n\
    hang) sleep 1000;;\nfail) echo no >&2; exit 1;;\nesac\n\
    case $GROUNDSKEEPER_ENV in bad*) echo no >&2; exit 1;; esac\necho fine\n";

/// Worktrees of the user's own that are adopted and let go of again and again.
pub(crate) const ADOPTED: [&str; 2] = ["theirs-1", "theirs-2"];
/// A directory inside the managed root that nobody's log explains.
pub(crate) const FOREIGN: &str = "not-ours";

/// The programs that are put to the proof.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) groundskeeper: PathBuf,
    pub(crate) replay: PathBuf,
    /// A guard of the program that is taken away.
    pub(crate) without: Option<&'static str>,
}

/// One history's place.
pub(crate) struct Ground {
    root: PathBuf,
    keep: std::sync::atomic::AtomicBool,
    is_old: std::sync::atomic::AtomicBool,
    pub(crate) programs: Programs,
}

impl Ground {
    /// `small` asks for a data directory on a small file system of its own; none is made, and
    /// nothing returned, where that is not permitted.
    pub(crate) fn new(
        programs: &Programs,
        below: &Path,
        name: &str,
        small: bool,
    ) -> Result<Option<Self>, Trouble> {
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(below);
        let root = dir.map_err(failed("make a folder in", below))?.keep();
        let root = root.canonicalize().map_err(failed("find", &root))?;
        let (keep, is_old) = Default::default();
        let ground = Self { root, keep, is_old, programs: programs.clone() };
        for folder in ["home", "bin", "data", "outside", "databases"] {
            make_dir(&ground.path(folder))?;
        }
        if small && !crate::mounts::small(&ground.data())? {
            return Ok(None);
        }
        write(&ground.path("home/.gitconfig"), GIT_CONFIG)?;
        write(&ground.path("config.toml"), CONFIG)?;
        write(&ground.path("mood"), "fine\n")?;
        ground.lay_out_repository()?;
        ground.lay_out_outside()?;
        Ok(Some(ground))
    }

    /// Makes the daemons trim what is older than a day from their log.
    pub(crate) fn trims_daily(&self) -> Result<(), Trouble> {
        write(&self.path("config.toml"), &format!("{CONFIG}log_days = 1\n"))
    }

    /// Makes what ages go by age, rescues too, and the lists those of what lives.
    pub(crate) fn ages(&self) -> Result<(), Trouble> {
        self.is_old.store(true, std::sync::atomic::Ordering::Relaxed);
        write(&self.path("config.toml"), &format!("{CONFIG}rescue_days = 180\n"))
    }

    /// Whether more lives were there than a list of all can hold.
    pub(crate) fn is_old(&self) -> bool {
        self.is_old.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns every record of the log and of its segments, one a line.
    pub(crate) fn records(&self) -> Result<Vec<String>, Trouble> {
        let mut command = std::process::Command::new(&self.programs.replay);
        self.isolate(&mut command);
        command.arg("export").arg(self.data()).args(["--format", "ndjson"]);
        let done = crate::child::run(&mut command)?;
        if !done.ok() {
            return Err(Trouble::new(format!("replay export: {}", done.err.trim())));
        }
        Ok(done.out.lines().map(str::to_owned).collect())
    }

    fn lay_out_repository(&self) -> Result<(), Trouble> {
        let repo = self.repo();
        make_dir(&repo)?;
        self.must_git(&repo, &["init", "-q"])?;
        for n in 0..12 {
            let text = format!("{n}\n").repeat(n + 1);
            write(&repo.join(format!("dir{}/file{n}.txt", n / 6)), &text)?;
        }
        write(&repo.join(".gitignore"), "*.env\ntarget/\n")?;
        write(&repo.join(".worktreeinclude"), "*.env\n")?;
        for hook in ["setup", "teardown"] {
            let path = repo.join(".groundskeeper").join(hook);
            write(&path, HOOK)?;
            executable(&path)?;
        }
        self.must_git(&repo, &["add", "-A"])?;
        self.must_git(&repo, &["commit", "-q", "-m", "first"])?;
        write(&repo.join("dir0/file0.txt"), "changed\n")?;
        self.must_git(&repo, &["commit", "-q", "-a", "-m", "second"])?;
        write(&repo.join("a.env"), "A=1\n")?;
        write(&repo.join("b.env"), "B=1\n")
    }

    /// What is not ours: plain files, links into them, worktrees of the user's own.
    fn lay_out_outside(&self) -> Result<(), Trouble> {
        let canary = self.canary();
        for name in ["one", "deep/two", "deep/deeper/three"] {
            write(&canary.join(name), &format!("{name} is not yours\n"))?;
        }
        let link = canary.join("link");
        std::os::unix::fs::symlink("deep", &link).map_err(failed("make", &link))?;
        for name in ADOPTED {
            let place = self.adopted(name);
            let text = place.to_string_lossy().into_owned();
            self.must_git(&self.repo(), &["worktree", "add", "-q", "-b", name, &text])?;
            write(&place.join("theirs"), &format!("the work of {name}\n"))?;
        }
        write(&self.data().join("worktrees").join(FOREIGN).join("kept"), "whose is this?\n")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("data/log.redb")
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path("project")
    }

    pub(crate) fn canary(&self) -> PathBuf {
        self.path("outside/canary")
    }

    pub(crate) fn adopted(&self, name: &str) -> PathBuf {
        self.path("outside").join(name)
    }

    /// Where an environment of this name is.
    pub(crate) fn place(&self, id: &str) -> PathBuf {
        self.data().join("worktrees").join(id).join("project")
    }

    /// Leaves everything where it is, for whoever looks into a finding.
    pub(crate) fn keep(&self) {
        self.keep.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// No setting of the machine or of the user matters here.
    pub(crate) fn isolate(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        // An interrupt at the terminal is for the torture alone.
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
        command.env("GROUNDSKEEPER_OFFLINE", "1");
    }

    pub(crate) fn git(&self, at: &Path, args: &[&str]) -> Result<Finished, Trouble> {
        let mut command = Command::new("git");
        self.isolate(&mut command);
        child::run(command.arg("-C").arg(at).args(args))
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

    /// The command line against this data directory. It never starts a daemon by itself.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.groundskeeper);
        self.isolate(&mut command);
        command.arg("--data-dir").arg(self.data()).args(["--json", "--no-autostart"]).args(args);
        command
    }

    pub(crate) fn gk(&self, args: &[&str]) -> Result<Finished, Trouble> {
        child::run(&mut self.command(args))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        crate::processes::end_all(&self.path("home"));
        let unmounted = crate::mounts::undo(self);
        if unmounted && !self.keep.load(std::sync::atomic::Ordering::Relaxed) {
            drop(std::fs::remove_dir_all(&self.root));
        }
    }
}

pub(crate) fn make_dir(path: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(path).map_err(failed("make", path))
}

/// Writes a file, and the folders that it is in.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    std::fs::write(path, text).map_err(failed("write", path))
}

pub(crate) fn executable(path: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).map_err(failed("make executable", path))
}
