//! Which processes belong to an environment, and what ties each to it. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cgroup::Cgroups;
use super::orphans::{self, Identity};
use super::table::{self, Process};
use crate::core::event::ProcessSeen;
use crate::core::{Environment, EnvironmentId, RequestId};
use crate::world::fs::paths;

/// Shells, by the names of their processes.
const SHELLS: [&str; 13] = [
    "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "pwsh", "sh", "tcsh",
    "zsh",
];
/// Programs that hold a folder open for a person: they are no part of what runs in it.
const PERSONS_PROGRAMS: [&str; 33] = [
    "code",
    "code-server",
    "code-tunnel",
    "cursor",
    "windsurf",
    "zed",
    "zed-editor",
    "subl",
    "idea",
    "rustrover",
    "pycharm",
    "webstorm",
    "goland",
    "clion",
    "emacs",
    "vim",
    "nvim",
    "nano",
    "helix",
    "hx",
    "kate",
    "gedit",
    "tmux: server",
    "screen",
    "sublime_text",
    "codium",
    "code-insiders",
    "nautilus",
    "dolphin",
    "thunar",
    "firefox",
    "chrome",
    "chromium",
];

/// What to look for.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// The environment.
    pub id: &'a EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// The directory that it is or was in, and where that went.
    pub roots: Vec<PathBuf>,
    /// Processes that were started for it and recorded.
    pub recorded: Vec<Identity>,
    /// Who asked: they and their parents are spared.
    pub asker: u32,
    /// Whether bystanders belong to it as well.
    pub with_bystanders: bool,
    /// What counts.
    pub ties: Ties,
    /// Requests whose commands count, for [`Ties::Runs`].
    pub requests: Vec<RequestId>,
    /// Groups of environments.
    pub cgroups: &'a Cgroups,
}

/// What can tie a process to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// Anything.
    All,
    /// Only that it was started through us.
    Started,
    /// Only that it uses the directory.
    Place,
    /// Only that it was started for a request that a daemon was killed in the middle of.
    Runs,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Belongs to the environment.
    pub inside: Vec<ProcessSeen>,
    /// Has to do with it, and is left alone.
    pub bystanders: Vec<ProcessSeen>,
}

/// What ties a process to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// It was started through us, or by something that was.
    Started(&'static str),
    /// It stands in the directory, runs from it or writes there.
    Lives(&'static str),
    /// It has something of it open.
    Looks(&'static str),
}

impl<'a> Scope<'a> {
    /// The scope of a living environment.
    #[must_use]
    pub fn of(env: &'a Environment, cgroups: &'a Cgroups) -> Self {
        let started = env.processes.iter().map(|(pid, p)| (*pid, p.started));
        Self {
            id: &env.id,
            incarnation: env.incarnation,
            roots: vec![paths::from_host(&env.plan.path)],
            recorded: started.chain(env.hook).collect(),
            asker: env.teardown.as_ref().map_or(0, |t| t.asker),
            ties: Ties::All,
            requests: Vec::new(),
            with_bystanders: env.teardown.as_ref().is_some_and(|t| t.options.end_bystanders),
            cgroups,
        }
    }

    /// The commands that a dead daemon was running for requests, and what they started.
    #[must_use]
    pub fn of_runs(env: &'a Environment, requests: Vec<RequestId>, cgroups: &'a Cgroups) -> Self {
        let of_daemon = env.processes.iter().filter(|(_, p)| p.of_daemon);
        let recorded = of_daemon.map(|(pid, p)| (*pid, p.started)).collect();
        Self { recorded, requests, ties: Ties::Runs, asker: 0, ..Self::of(env, cgroups) }
    }

    /// Whether all that shares the environment's group is meant.
    pub(super) fn has_whole_group(&self) -> bool {
        self.ties != Ties::Runs
    }

    /// Looks at every process once.
    #[must_use]
    pub fn look(&self) -> Found {
        let all = table::all();
        let me = std::process::id();
        let mut never: BTreeSet<u32> = table::ancestors(&all, me).into_iter().collect();
        let askers = table::ancestors(&all, self.asker);
        // The very command that asks is on its way out.
        never.extend([1, self.asker]);
        let ties = self.ties(&all, &never);
        let mut found = Found::default();
        for (pid, tie) in ties {
            let Some(process) = all.get(&pid) else { continue };
            let (why, inside) = match tie {
                Tie::Started(why) => (why, true),
                Tie::Lives(why) => {
                    let spared = is_a_persons(process) || why == "cwd" && is_a_shell(process);
                    (why, self.with_bystanders || !spared)
                }
                Tie::Looks(why) => (why, self.with_bystanders),
            };
            let seen = ProcessSeen {
                pid,
                started: process.started,
                name: process.name.clone(),
                why: why.to_owned(),
            };
            if inside && !askers.contains(&pid) {
                found.inside.push(seen);
            } else {
                found.bystanders.push(seen);
            }
        }
        found
    }

    fn ties(&self, all: &BTreeMap<u32, Process>, never: &BTreeSet<u32>) -> BTreeMap<u32, Tie> {
        let me = std::process::id();
        let members = self.cgroups.members(self.id, self.incarnation);
        let grouped: BTreeSet<u32> =
            members.into_iter().filter(|_| self.has_whole_group()).collect();
        let alive = |id: &&Identity| all.get(&id.0).is_some_and(|p| p.started == id.1);
        let leaders: BTreeSet<u32> = self.recorded.iter().filter(alive).map(|id| id.0).collect();
        let markers = self.markers();
        let root = self.roots.first().filter(|_| self.has_whole_group());
        let left: BTreeSet<Identity> = root.map_or_else(BTreeSet::new, |root| {
            orphans::left_by(paths::to_host(root).as_bytes()).into_iter().collect()
        });
        let mut ties = BTreeMap::new();
        for (pid, p) in all {
            let own = p.parent == me && orphans::is_own_child(*pid) && !leaders.contains(pid);
            if never.contains(pid) || own {
                continue;
            }
            let tie = if self.ties == Ties::Place {
                self.place(*pid)
            } else if grouped.contains(pid) {
                Some(Tie::Started("cgroup"))
            } else if leaders.contains(pid) || (leaders.contains(&p.group) && p.group != 0) {
                Some(Tie::Started("group"))
            } else if left.contains(&(*pid, p.started)) {
                Some(Tie::Started("left by a hook"))
            } else if markers.iter().any(|marker| table::has_variable(*pid, marker)) {
                Some(Tie::Started("marker"))
            } else if matches!(self.ties, Ties::Started | Ties::Runs) {
                None
            } else {
                self.place(*pid)
            };
            ties.extend(tie.map(|tie| (*pid, tie)));
        }
        if self.ties != Ties::Place {
            add_children(all, never, &mut ties);
        }
        ties
    }

    fn markers(&self) -> Vec<Vec<u8>> {
        match self.ties {
            Ties::Runs => self.requests.iter().map(run_marker).collect(),
            _ => vec![marker(&self.roots)],
        }
    }

    /// Whether a process is in the directory, by the paths that it uses.
    fn place(&self, pid: u32) -> Option<Tie> {
        let inside = |path: &Path| self.roots.iter().any(|root| path.starts_with(root));
        for (which, why) in [("cwd", "cwd"), ("root", "root"), ("exe", "program")] {
            if table::link(pid, which).is_some_and(|path| inside(&path)) {
                return Some(Tie::Lives(why));
            }
        }
        let mut looks = None;
        for (descriptor, _) in table::files(pid).filter(|(_, path)| inside(path)) {
            if table::is_writable(pid, descriptor) {
                return Some(Tie::Lives("file"));
            }
            looks = Some(Tie::Looks("file, to read"));
        }
        looks
    }
}

/// What every process that is started through us has in its environment.
#[must_use]
pub fn marker(roots: &[PathBuf]) -> Vec<u8> {
    let mut marker = b"GROUNDSKEEPER_PATH=".to_vec();
    marker.extend(roots.first().map(|root| paths::to_host(root).0).unwrap_or_default());
    marker
}

/// The variable that names the request that a command is run for.
pub const RUN: &str = "GROUNDSKEEPER_RUN";

/// What a command that is run for a request has in its environment, and all that it starts.
fn run_marker(request: &RequestId) -> Vec<u8> {
    format!("{RUN}={request}").into_bytes()
}

/// What was started by something that was started through us, also when it hides it.
fn add_children(
    all: &BTreeMap<u32, Process>,
    never: &BTreeSet<u32>,
    ties: &mut BTreeMap<u32, Tie>,
) {
    loop {
        let started = |pid: &u32| matches!(ties.get(pid), Some(Tie::Started(_)));
        let more: Vec<u32> = all
            .values()
            .filter(|p| started(&p.parent) && !started(&p.pid) && !never.contains(&p.pid))
            .map(|p| p.pid)
            .collect();
        if more.is_empty() {
            return;
        }
        ties.extend(more.into_iter().map(|pid| (pid, Tie::Started("child"))));
    }
}

/// Whether somebody sits in front of it: a shell, an editor, a multiplexer.
fn is_a_persons(process: &Process) -> bool {
    process.has_terminal || PERSONS_PROGRAMS.contains(&process.name.as_str())
}

/// A shell that takes its commands from somebody: a person, or an agent at the other end of a pipe.
/// One that was given a command or a script is a program like any other.
fn is_a_shell(process: &Process) -> bool {
    let arguments = table::arguments(process.pid);
    let takes_none = |argument: &Vec<u8>| {
        argument.starts_with(b"--") || argument.starts_with(b"-") && !argument.contains(&b'c')
    };
    SHELLS.contains(&process.name.as_str())
        && !arguments.is_empty()
        && arguments.iter().skip(1).all(takes_none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_used_again_is_somebody_else() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("started");
        let started = table::start_time(child.id()).expect("alive");
        let id = EnvironmentId::parse("demo").expect("a name");
        let cgroups = Cgroups::find("nowhere");
        let found = |started| {
            let scope = Scope {
                id: &id,
                incarnation: 1,
                roots: vec![PathBuf::from("/nowhere/at/all")],
                recorded: vec![(child.id(), started)],
                asker: 0,
                with_bystanders: false,
                ties: Ties::All,
                requests: Vec::new(),
                cgroups: &cgroups,
            };
            scope.look().inside.iter().any(|seen| seen.pid == child.id())
        };
        assert!(found(started), "what was recorded");
        assert!(!found(started - 1), "what has its number now");
        drop((child.kill(), child.wait()));
    }
}
