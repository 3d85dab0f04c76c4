//! Determines which processes belong to an environment, and what ties each to it. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cgroup::Cgroups;
use groundskeeper_system::proc::Unseen;

use super::orphans::{self, Identity};
use super::table::{self, Process};
use crate::core::event::ProcessSeen;
use crate::core::{Environment, EnvironmentId, RequestId};
use crate::world::fs::paths;

/// Names of shell processes.
const SHELLS: [&str; 13] = [
    "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "pwsh", "sh", "tcsh",
    "zsh",
];
/// Programs that hold a folder open for a person: they are not part of what runs in it.
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

/// Parameters of a search for processes.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// Environment whose processes are searched.
    pub id: &'a EnvironmentId,
    /// Incarnation of that environment.
    pub incarnation: u32,
    /// Directory of the environment, and the places it was moved to.
    pub roots: Vec<PathBuf>,
    /// Processes that were started for it and recorded in the log.
    pub recorded: Vec<Identity>,
    /// Process that made the request: it and its ancestors are spared.
    pub requester: u32,
    /// Whether bystanders count as inside, too.
    pub with_bystanders: bool,
    /// Ties that count in this search.
    pub ties: Ties,
    /// Requests whose commands count, for [`Ties::Runs`].
    pub requests: Vec<RequestId>,
    /// Cgroups of all environments.
    pub cgroups: &'a Cgroups,
}

/// Ties to an environment that a search considers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// All ties: started by us, or in the directory.
    All,
    /// Only processes that were started through us.
    Started,
    /// Only processes that use the directory.
    Place,
    /// Only processes started for a request during which the daemon was killed.
    Runs,
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeProcesses {
    /// Processes that belong to the environment.
    pub inside: Vec<ProcessSeen>,
    /// Processes that are tied to it, but are left alone.
    pub bystanders: Vec<ProcessSeen>,
}

/// The strongest tie of a process to an environment, with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// It was started through us, or by a process that was.
    Started(&'static str),
    /// Its working directory, root, program or a writable file lies in the directory.
    Uses(&'static str),
    /// It has a file of the directory open for reading.
    Reads(&'static str),
}

impl<'a> Scope<'a> {
    /// Creates the scope of a living environment.
    #[must_use]
    pub fn of(env: &'a Environment, cgroups: &'a Cgroups) -> Self {
        let started = env.processes.iter().map(|(pid, p)| (*pid, p.started));
        Self {
            id: &env.id,
            incarnation: env.incarnation,
            roots: vec![paths::from_host(&env.plan.path)],
            recorded: started.chain(env.hook.map(|hook| (hook.pid, hook.start_time))).collect(),
            requester: env.teardown.as_ref().map_or(0, |t| t.requester),
            ties: Ties::All,
            requests: Vec::new(),
            with_bystanders: env.teardown.as_ref().is_some_and(|t| t.options.end_bystanders),
            cgroups,
        }
    }

    /// Creates the scope of the commands that a dead daemon ran for requests, and
    /// their descendants.
    #[must_use]
    pub fn of_runs(env: &'a Environment, requests: Vec<RequestId>, cgroups: &'a Cgroups) -> Self {
        let of_daemon = env.processes.iter().filter(|(_, p)| p.of_daemon);
        let recorded = of_daemon.map(|(pid, p)| (*pid, p.started)).collect();
        Self { recorded, requests, ties: Ties::Runs, requester: 0, ..Self::of(env, cgroups) }
    }

    /// Reports whether all processes in the environment's cgroup are meant.
    pub(super) fn has_whole_group(&self) -> bool {
        self.ties != Ties::Runs
    }

    /// Scans all processes once.
    ///
    /// # Errors
    /// When `/proc` does not show them: it is unknown then which ones use the directory.
    pub fn scan(&self) -> Result<ScopeProcesses, Unseen> {
        let all = table::all()?;
        let me = std::process::id();
        let mut never: BTreeSet<u32> = table::ancestors(&all, me).into_iter().collect();
        let requester_ancestors = table::ancestors(&all, self.requester);
        // The command that made the request ends by itself.
        never.extend([1, self.requester]);
        let ties = self.ties(&all, &never)?;
        let mut found = ScopeProcesses::default();
        for (pid, tie) in ties {
            let Some(process) = all.get(&pid) else { continue };
            let (why, inside) = match tie {
                Tie::Started(why) => (why, true),
                Tie::Uses(why) => {
                    let spared =
                        is_interactive(process) || why == "cwd" && is_interactive_shell(process);
                    (why, self.with_bystanders || !spared)
                }
                Tie::Reads(why) => (why, self.with_bystanders),
            };
            let seen = ProcessSeen {
                pid,
                started: process.started,
                name: process.name.clone(),
                why: why.to_owned(),
            };
            if inside && !requester_ancestors.contains(&pid) {
                found.inside.push(seen);
            } else {
                found.bystanders.push(seen);
            }
        }
        Ok(found)
    }

    fn ties(
        &self,
        all: &BTreeMap<u32, Process>,
        never: &BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, Tie>, Unseen> {
        let me = std::process::id();
        let members = self.cgroups.members(self.id, self.incarnation);
        let grouped: BTreeSet<u32> =
            members.into_iter().filter(|_| self.has_whole_group()).collect();
        let alive = |id: &&Identity| all.get(&id.0).is_some_and(|p| p.started == id.1);
        let leaders: BTreeSet<u32> = self.recorded.iter().filter(alive).map(|id| id.0).collect();
        let markers = self.markers();
        let root = self.roots.first().filter(|_| self.has_whole_group());
        let left: BTreeSet<Identity> = match root {
            Some(root) => orphans::left_by(paths::to_host(root).as_bytes())?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        let mut ties = BTreeMap::new();
        for (pid, p) in all {
            // A child that this daemon waits for, such as a git, is not part of the environment
            // unless it was recorded for it.
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
        Ok(ties)
    }

    fn markers(&self) -> Vec<Vec<u8>> {
        match self.ties {
            Ties::Runs => self.requests.iter().map(run_marker).collect(),
            _ => vec![marker(&self.roots)],
        }
    }

    /// Returns the tie of a process that is in the directory, judged by the paths it uses.
    fn place(&self, pid: u32) -> Option<Tie> {
        let inside = |path: &Path| self.roots.iter().any(|root| path.starts_with(root));
        for (which, why) in [("cwd", "cwd"), ("root", "root"), ("exe", "program")] {
            if table::link(pid, which).is_some_and(|path| inside(&path)) {
                return Some(Tie::Uses(why));
            }
        }
        let mut reads = None;
        for (descriptor, _) in table::files(pid).filter(|(_, path)| inside(path)) {
            if table::is_writable(pid, descriptor) {
                return Some(Tie::Uses("file"));
            }
            reads = Some(Tie::Reads("file, to read"));
        }
        reads
    }
}

/// Returns the variable that every process started through us has in its environment.
#[must_use]
pub fn marker(roots: &[PathBuf]) -> Vec<u8> {
    let mut marker = b"GROUNDSKEEPER_PATH=".to_vec();
    marker.extend(roots.first().map(|root| paths::to_host(root).0).unwrap_or_default());
    marker
}

/// Name of the variable that carries the request for which a command runs.
pub const RUN: &str = "GROUNDSKEEPER_RUN";

/// Returns the variable that a command run for a request, and all its descendants, have in
/// their environment.
fn run_marker(request: &RequestId) -> Vec<u8> {
    format!("{RUN}={request}").into_bytes()
}

/// Adds all descendants of processes that were started through us, even if they hide their origin.
fn add_children(
    all: &BTreeMap<u32, Process>,
    never: &BTreeSet<u32>,
    ties: &mut BTreeMap<u32, Tie>,
) {
    // Repeated until nothing is added: pids are not in order of descent.
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

/// Reports whether a person uses it interactively: a shell, an editor, a multiplexer.
fn is_interactive(process: &Process) -> bool {
    process.has_terminal || PERSONS_PROGRAMS.contains(&process.name.as_str())
}

/// Reports whether a process is a shell that reads commands from a person, or from an agent at the
/// other end of a pipe. A shell with a command or script as argument is an ordinary program.
fn is_interactive_shell(process: &Process) -> bool {
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

    /// The start time distinguishes the two processes.
    #[test]
    fn reused_pid_is_not_ours() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("started");
        let started = table::start_time(child.id()).expect("seen").expect("alive");
        let id = EnvironmentId::parse("demo").expect("a name");
        let cgroups = Cgroups::find("nowhere");
        let found = |started| {
            let scope = Scope {
                id: &id,
                incarnation: 1,
                roots: vec![PathBuf::from("/nowhere/at/all")],
                recorded: vec![(child.id(), started)],
                requester: 0,
                with_bystanders: false,
                ties: Ties::All,
                requests: Vec::new(),
                cgroups: &cgroups,
            };
            scope.scan().expect("seen").inside.iter().any(|seen| seen.pid == child.id())
        };
        assert!(found(started), "the recorded process is found");
        assert!(!found(started - 1), "a reused pid is not found");
        drop((child.kill(), child.wait()));
    }
}
