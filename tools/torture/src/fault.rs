//! The kinds of trouble that a life can be given, by name, with what each is made of. What is
//! survived is decided elsewhere.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::ground::{Ground, executable, write};
use crate::mounts;
use crate::random::Random;
use crate::trouble::{Trouble, failed};

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Instant,
    Point,
    TrimPoint,
    GitWorld,
    Recovery,
    Stop,
    Clients,
    GitKilled,
    GitHangs,
    GitHangsLong,
    GitMissing,
    Calls,
    LogFails,
    SlowDisk,
    Clock,
    HookHangs,
    DiskFull,
    ReadOnly,
    Migration,
    MigrationPoint,
    PowerLog,
    PowerMigration,
}

impl Fault {
    /// All, in the order in which they are listed, with what each means.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 22] = [
        (Self::Instant, "kill", "SIGKILL of the daemon at a random instant"),
        (Self::Point, "kill-point", "SIGKILL at a named point of an operation"),
        (Self::TrimPoint, "trim-point", "SIGKILL at a named point of a trim of the log"),
        (
            Self::GitWorld,
            "git-world",
            "repositories of every kind; users act between and during verbs",
        ),
        (Self::Recovery, "kill-recovery", "SIGKILL, and again while its successor recovers"),
        (Self::Stop, "stop", "SIGTERM in the middle of work"),
        (Self::Clients, "kill-clients", "SIGKILL of clients while they wait"),
        (Self::GitKilled, "git-killed", "git dies at random, also in the middle"),
        (Self::GitHangs, "git-hangs", "git hangs at random, for 5 s"),
        (Self::GitHangsLong, "git-hangs-long", "git hangs for 20 s; only when it is asked for"),
        (Self::GitMissing, "git-missing", "git is taken away"),
        (Self::Calls, "busy-files", "renames and removals fail: EBUSY, EPERM, ENOTEMPTY"),
        (Self::LogFails, "log-fails", "a write of the log fails: EIO"),
        (Self::SlowDisk, "slow-disk", "every write of the log and every rename takes long"),
        (Self::Clock, "clock", "the clock jumps back and forth, by days"),
        (Self::HookHangs, "hook-hangs", "setup and teardown hooks hang"),
        (Self::DiskFull, "disk-full", "no byte is left on the data directory's file system"),
        (Self::ReadOnly, "read-only", "the worktrees turn read-only"),
        (Self::Migration, "migration", "SIGKILL at a random instant of database migrations"),
        (Self::MigrationPoint, "migration-point", "SIGKILL at a named point of a migration"),
        (Self::PowerLog, "power-log", "power loss at a write of the log (simulated disk)"),
        (
            Self::PowerMigration,
            "power-migration",
            "power loss at a call of a migration (simulated)",
        ),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, _, _)| *fault == self).map_or("", |(_, name, _)| name)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(fault, _, _)| *fault)
    }

    /// Whether it is part of a run that names no kinds. A git of a dead daemon that goes on for
    /// longer than a successor waits for it is not survived in every case, so it is not.
    pub(crate) fn is_usual(self) -> bool {
        self != Self::GitHangsLong
    }

    /// Whether it is about databases.
    pub(crate) fn migrates(self) -> bool {
        matches!(self, Self::Migration | Self::MigrationPoint)
    }

    /// Whether each of its histories is about a named point.
    pub(crate) fn has_point(self) -> bool {
        matches!(self, Self::Point | Self::TrimPoint | Self::MigrationPoint)
    }

    /// Whether the clock goes on by days, which ends what is kept for a time.
    pub(crate) fn moves_clock(self) -> bool {
        matches!(self, Self::Clock | Self::TrimPoint)
    }

    /// Whether it needs points in the program, which a shipped one does not have.
    pub(crate) fn needs_points(self) -> bool {
        matches!(
            self,
            Self::Point
                | Self::TrimPoint
                | Self::MigrationPoint
                | Self::Recovery
                | Self::Calls
                | Self::LogFails
                | Self::SlowDisk
                | Self::Clock
        )
    }

    /// Whether a daemon may refuse to start, or end by itself, under it.
    pub(crate) fn may_end_it(self) -> bool {
        matches!(
            self,
            Self::Point
                | Self::TrimPoint
                | Self::MigrationPoint
                | Self::Recovery
                | Self::LogFails
                | Self::DiskFull
                | Self::GitMissing
                | Self::GitKilled
                | Self::GitHangs
                | Self::GitHangsLong
        )
    }

    /// Whether it makes the daemon's own clean-up fail, so that some is left for its sweeps: the
    /// first one names, the next one settles.
    pub(crate) fn leaves_for_sweeps(self) -> bool {
        matches!(self, Self::Calls | Self::ReadOnly | Self::DiskFull | Self::GitKilled)
    }

    /// Gives the next daemon this trouble; returns its environment.
    pub(crate) fn prepare(
        self,
        ground: &Ground,
        random: &mut Random,
    ) -> Result<Vec<(String, String)>, Trouble> {
        let mut env = vec![set("GROUNDSKEEPER_KILL_LOG", &ground.path("points"))];
        match self {
            Self::GitKilled | Self::GitHangs | Self::GitHangsLong => {
                let mood = match self {
                    Self::GitKilled => "killed",
                    Self::GitHangs => "hangs",
                    _ => "hangs long",
                };
                git(ground, mood)?;
                let rest = std::env::var("PATH").unwrap_or_default();
                env.push(("PATH".into(), format!("{}:{rest}", ground.path("bin").display())));
            }
            Self::GitMissing => {
                git(ground, "fine")?;
                env.push(set("PATH", &ground.path("bin")));
            }
            Self::Calls => {
                let mut rules = Vec::new();
                for call in ["rename", "remove", "unlink"] {
                    let error = random.pick(&["EBUSY", "EPERM", "ENOTEMPTY", "EACCES"]);
                    let error = error.copied().unwrap_or("EBUSY");
                    rules.push(format!("{call}:{error}:{}", 2 + random.below(6)));
                }
                env.push(("GROUNDSKEEPER_FAULT".into(), rules.join(",")));
            }
            Self::LogFails => {
                let rule = format!("append:EIO:{}", 3 + random.below(60));
                env.push(("GROUNDSKEEPER_FAULT".into(), rule));
            }
            Self::SlowDisk => {
                let rules = "append:12ms:1,rename:8ms:1,remove:4ms:1,unlink:1ms:1";
                env.push(("GROUNDSKEEPER_FAULT".into(), rules.into()));
            }
            Self::Clock => {
                write(&ground.path("clock"), "0")?;
                env.push(set("GROUNDSKEEPER_CLOCK_FILE", &ground.path("clock")));
            }
            Self::TrimPoint => {
                ground.trims_daily()?;
                if !ground.path("clock").exists() {
                    write(&ground.path("clock"), "0")?;
                }
                env.push(set("GROUNDSKEEPER_CLOCK_FILE", &ground.path("clock")));
            }
            Self::HookHangs => write(&ground.path("mood"), "hang\n")?,
            _ => {}
        }
        Ok(env)
    }

    /// What happens in the middle of a life, again and again; `turn` counts from 0.
    pub(crate) fn strike(
        self,
        ground: &Ground,
        random: &mut Random,
        turn: u64,
    ) -> Result<(), Trouble> {
        match self {
            Self::GitMissing if turn == 1 => {
                let path = ground.path("bin/git");
                std::fs::remove_file(&path).map_err(failed("remove", &path))
            }
            Self::Clock => {
                let jumps = ["-86400", "3600", "72000", "-5", "0", "700000", "-700000"];
                let jump = random.pick(&jumps).copied().unwrap_or("0");
                write(&ground.path("clock"), jump)
            }
            Self::TrimPoint => {
                // Two days on, and never back: what was written until now may go.
                let text = std::fs::read_to_string(ground.path("clock")).unwrap_or_default();
                let ahead = text.trim().parse::<u64>().unwrap_or(0) + 2 * 86_400;
                write(&ground.path("clock"), &ahead.to_string())
            }
            Self::HookHangs if turn % 3 == 2 => {
                let mood = if random.one_in(2) { "hang\n" } else { "fail\n" };
                write(&ground.path("mood"), mood)
            }
            Self::DiskFull if turn % 2 == 1 => {
                fill(&ground.path("data/filler"));
                Ok(())
            }
            Self::DiskFull => drop_filler(ground),
            Self::ReadOnly if turn == 1 => {
                mounts::freeze(&ground.data().join("worktrees")).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes the trouble away.
    pub(crate) fn cure(self, ground: &Ground) -> Result<(), Trouble> {
        match self {
            Self::HookHangs => write(&ground.path("mood"), "fine\n"),
            Self::DiskFull => drop_filler(ground),
            Self::GitKilled => unlock(&ground.repo().join(".git"), false),
            Self::ReadOnly => {
                // Bound once, and made read-only: one or two layers, by how far it came.
                let place = ground.data().join("worktrees");
                while mounts::take_away(&place)? {}
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What git asks people to do after it was killed. A lock on a ref of the daemon's own must not be
/// in its way; only after it came to rest is it taken away by `too`.
pub(crate) fn unlock(folder: &Path, too: bool) -> Result<(), Trouble> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if too || entry.file_name() != "groundskeeper" {
                unlock(&path, too)?;
            }
        } else if path.extension().is_some_and(|e| e == "lock") {
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

fn set(name: &str, path: &Path) -> (String, String) {
    (name.to_owned(), path.to_string_lossy().into_owned())
}

fn fill(path: &Path) {
    use std::io::Write as _;
    let Ok(mut file) = std::fs::File::create(path) else { return };
    let block = vec![b'x'; 1 << 16];
    let most = mounts::SMALL_BYTES >> 16;
    let mut written = 0;
    while written < most && file.write_all(&block).is_ok() {
        written += 1;
    }
}

fn drop_filler(ground: &Ground) -> Result<(), Trouble> {
    let path = ground.path("data/filler");
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &path)(e)),
        _ => Ok(()),
    }
}

/// A git before git that does not always come to its end, and what else a bare PATH needs.
fn git(ground: &Ground, mood: &str) -> Result<(), Trouble> {
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|p| p.join(program)).find(|p| p.is_file())
    };
    let real = found("git").ok_or_else(|| Trouble::new("there is no git in PATH"))?;
    let bin = ground.path("bin");
    for tool in ["sh", "od", "timeout", "sleep", "true", "setsid"] {
        if let Some(at) = found(tool)
            && !bin.join(tool).exists()
        {
            symlink(at, bin.join(tool)).map_err(failed("make a link in", &bin))?;
        }
    }
    let real = real.display();
    let trouble = match mood {
        "killed" => format!(
            "case $((n % 12)) in 0) kill -KILL $$;; \
             1) timeout -s KILL 0.00$((n % 10)) {real} \"$@\"; kill -KILL $$;; esac"
        ),
        "hangs" => "case $((n % 40)) in 0) exec sleep 5;; esac".to_owned(),
        "hangs long" => "case $((n % 40)) in 0) exec sleep 20;; esac".to_owned(),
        _ => ":".to_owned(),
    };
    let script = format!(
        "#!/bin/sh\nn=$(od -An -N2 -tu2 /dev/urandom)\nn=$((n))\n{trouble}\nexec {real} \"$@\"\n"
    );
    let path = bin.join("git");
    write(&path, &script)?;
    executable(&path)
}
