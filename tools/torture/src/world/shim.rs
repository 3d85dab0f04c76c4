//! A program that stands before git: it counts the calls that a daemon makes, and at the number
//! that a plan names it waits until the user has acted, or lets git be killed in the middle. It
//! never changes what git is told or what git answers.
//!
//! It is this very program under the name `git`. What it is to do is in a folder that it is told of
//! by the environment: `plan` holds one order, `count` the calls so far.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::time;

/// Names the folder of the plan.
pub(crate) const FOLDER: &str = "TORTURE_SHIM";
/// Names the git that stands behind.
pub(crate) const REAL: &str = "TORTURE_REAL_GIT";
/// Longest that a call is held: the daemon's own bounds are not to be tried by it.
const HELD_MAX: Duration = Duration::from_secs(8);
/// Longest that a call goes on which is to be killed in the middle.
const KILLED_AFTER: Duration = Duration::from_millis(40);

/// What happens at one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// It is held before it begins.
    Before(u64),
    /// It is held after it ended, before the daemon hears of it.
    After(u64),
    /// It is killed as soon as a lock of this repository is seen, or a little later.
    Kill(u64, PathBuf),
}

impl Order {
    fn text(&self) -> String {
        match self {
            Self::Before(n) => format!("before\n{n}\n"),
            Self::After(n) => format!("after\n{n}\n"),
            Self::Kill(n, common) => format!("kill\n{n}\n{}\n", common.display()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (word, number) = (lines.next()?, lines.next()?.parse().ok()?);
        match word {
            "before" => Some(Self::Before(number)),
            "after" => Some(Self::After(number)),
            "kill" => Some(Self::Kill(number, PathBuf::from(lines.next()?))),
            _ => None,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Before(n) | Self::After(n) | Self::Kill(n, _) => *n,
        }
    }
}

/// The side of whoever gives orders.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    folder: PathBuf,
}

impl Gate {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives an order and begins to count anew.
    pub(crate) fn order(&self, order: &Order) -> std::io::Result<()> {
        self.forget();
        fs::write(self.folder.join("count"), "0")?;
        fs::write(self.folder.join("plan"), order.text())
    }

    /// Whether the call of the order is held, or was killed.
    pub(crate) fn is_reached(&self) -> bool {
        self.folder.join("reached").exists()
    }

    /// Lets the held call go on, and takes the order back.
    pub(crate) fn open(&self) {
        drop(fs::remove_file(self.folder.join("plan")));
        drop(fs::write(self.folder.join("open"), ""));
    }

    /// Takes an order back.
    pub(crate) fn forget(&self) {
        for name in ["plan", "open", "reached"] {
            drop(fs::remove_file(self.folder.join(name)));
        }
    }
}

/// Whether this process was started as git.
pub(crate) fn is_asked_for() -> bool {
    let called = std::env::args_os().next().map(PathBuf::from);
    called.is_some_and(|path| path.file_name().is_some_and(|name| name == "git"))
        && std::env::var_os(FOLDER).is_some()
}

/// Stands before git.
pub(crate) fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap_or_default());
    let real = std::env::var_os(REAL).unwrap_or_else(|| "/usr/bin/git".into());
    let mut git = Command::new(real);
    git.args(std::env::args_os().skip(1));
    let plan = fs::read_to_string(folder.join("plan")).ok();
    let order = plan.as_deref().and_then(Order::parse);
    let Some(order) = order.filter(|order| counted(&folder) == Some(order.number())) else {
        return failed(&git.exec());
    };
    match order {
        Order::Before(_) => {
            hold(&folder);
            failed(&git.exec())
        }
        Order::After(_) => match git.status() {
            Ok(status) => {
                hold(&folder);
                ExitCode::from(u8::try_from(status.code().unwrap_or(128)).unwrap_or(128))
            }
            Err(e) => failed(&e),
        },
        Order::Kill(_, common) => kill_in_the_middle(&folder, &mut git, &common),
    }
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("fatal: cannot run git: {error}");
    ExitCode::from(128)
}

/// The number of this call; none when it cannot be known.
fn counted(folder: &Path) -> Option<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(folder.join("count")).ok()?;
    file.lock().ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let number = text.trim().parse::<u64>().ok()? + 1;
    file.rewind().ok()?;
    file.write_all(number.to_string().as_bytes()).ok()?;
    Some(number)
}

fn hold(folder: &Path) {
    drop(File::create(folder.join("reached")));
    time::until(HELD_MAX, || folder.join("open").exists());
}

/// Lets git begin, kills it when it holds a lock, and then dies of the same signal.
fn kill_in_the_middle(folder: &Path, git: &mut Command, common: &Path) -> ExitCode {
    let before = locks(common);
    let mut child = match git.spawn() {
        Ok(child) => child,
        Err(e) => return failed(&e),
    };
    // No pause between two looks: a lock is held for microseconds only.
    let end = std::time::Instant::now() + KILLED_AFTER;
    while std::time::Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        if locks(common).iter().any(|lock| !before.contains(lock)) {
            break;
        }
    }
    drop(File::create(folder.join("reached")));
    drop(child.kill());
    drop(child.wait());
    let me = rustix::process::getpid();
    let _never = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    ExitCode::from(137)
}

/// The locks where git makes them most.
fn locks(common: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![common.to_owned()];
    for below in ["refs", "worktrees", "reftable"] {
        todo.push(common.join(below));
    }
    let mut depth = 0;
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "lock") {
                found.push(path);
            } else if folder != common && entry.file_type().is_ok_and(|t| t.is_dir()) {
                depth += 1;
                if depth < 200 {
                    todo.push(path);
                }
            }
        }
    }
    found
}
