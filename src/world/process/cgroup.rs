//! One cgroup per environment, where the system permits it.
//!
//! A process cannot leave its cgroup by forking, changing its session or clearing its environment,
//! and the kernel can kill all members at once. Without a writable cgroup v2 nothing here fails:
//! processes are then found by the other means.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::core::EnvironmentId;

/// Bound on the depth of nested groups.
const DEPTH_MAX: usize = 16;

/// The parent folder of our groups, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cgroups {
    root: Option<PathBuf>,
}

impl Cgroups {
    /// Finds the parent folder for the groups of one log. Creates nothing before it is needed.
    #[must_use]
    pub fn find(log_id: &str) -> Self {
        let short = log_id.get(..8).unwrap_or(log_id);
        let own = own_group().filter(|own| may_write(own));
        Self { root: own.map(|own| own.join(format!("groundskeeper-{short}"))) }
    }

    /// Reports whether groups can be created.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.root.is_some()
    }

    fn of(&self, id: &EnvironmentId, incarnation: u32) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(format!("{id}.{incarnation}")))
    }

    /// Moves a process into the group of an environment; all its future children are members, too.
    ///
    /// # Errors
    /// When no groups are available, or the system refuses.
    pub fn add(&self, id: &EnvironmentId, incarnation: u32, pid: u32) -> io::Result<()> {
        let group = self.of(id, incarnation).ok_or(io::ErrorKind::Unsupported)?;
        make(group.parent().unwrap_or(&group))?;
        make(&group)?;
        // `cgroup.procs` is the kernel's file: it is opened without creating or truncating it.
        let mut procs = File::options().write(true).open(group.join("cgroup.procs"))?;
        procs.write_all(pid.to_string().as_bytes())
    }

    /// Returns the pids in the group of an environment, nested groups included.
    #[must_use]
    pub fn members(&self, id: &EnvironmentId, incarnation: u32) -> Vec<u32> {
        let mut found = Vec::new();
        if let Some(group) = self.of(id, incarnation) {
            each(&group, 0, &mut |dir| {
                let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
            });
        }
        found
    }

    /// Kills all processes in the group at once.
    pub fn kill(&self, id: &EnvironmentId, incarnation: u32) {
        if let Some(group) = self.of(id, incarnation) {
            // Linux before 5.14 has no `cgroup.kill`; the processes are then ended one by one.
            let kill = File::options().write(true).open(group.join("cgroup.kill"));
            drop(kill.and_then(|mut kill| kill.write_all(b"1")));
        }
    }

    /// Removes the empty group of an environment; a non-empty one stays.
    pub fn remove(&self, id: &EnvironmentId, incarnation: u32) {
        if let Some(group) = self.of(id, incarnation) {
            remove(&group);
        }
    }

    /// Removes all empty groups of the log.
    pub fn remove_empty(&self) {
        if let Some(root) = &self.root {
            remove(root);
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Reports whether groups can be created here, and processes moved between them.
fn may_write(own: &Path) -> bool {
    use rustix::fs::{Access, access};
    let procs = own.join("cgroup.procs");
    access(own, Access::WRITE_OK).is_ok() && access(&procs, Access::WRITE_OK).is_ok()
}

/// Calls `visit` for a group and its nested groups, innermost first.
fn each(group: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) {
    if depth < DEPTH_MAX {
        for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                each(&entry.path(), depth + 1, visit);
            }
        }
    }
    visit(group);
}

fn remove(group: &Path) {
    // The kernel refuses to remove a group with live members.
    each(group, 0, &mut |dir| drop(std::fs::remove_dir(dir)));
}

/// Returns the cgroup v2 folder of this process.
fn own_group() -> Option<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        after.starts_with("cgroup2 ").then(|| fields.get(4).map(PathBuf::from)).flatten()
    })?;
    Some(mount.join(own))
}
