//! Reads the kernel's process table from `/proc`. Reads only.
//!
//! Any process may end right after it was read; callers check again before they act.

use std::collections::BTreeMap;
use std::io;
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use groundskeeper_system::proc::{self, Unseen};

/// What an error names that comes from here.
const PROCESSES: &str = "processes";

/// One process, as read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id, reused by the kernel after the process has been reaped.
    pub pid: u32,
    /// Start time in clock ticks since boot; pid and start time together identify one process.
    pub started: u64,
    /// Pid of its parent.
    pub parent: u32,
    /// Id of its process group.
    pub group: u32,
    /// Whether it has a controlling terminal: a person may use it.
    pub has_terminal: bool,
    /// Name of its program, truncated by the kernel to 15 bytes.
    pub name: String,
}

/// Returns all processes that have not ended, by pid, without kernel threads.
///
/// # Errors
/// When `/proc` does not show them.
pub fn all() -> Result<BTreeMap<u32, Process>, Unseen> {
    let mut found = BTreeMap::new();
    for pid in pids()?.into_iter().filter(|pid| has_program(*pid)) {
        match stat(pid) {
            Ok(Some(stat)) => found.extend(parse(pid, &stat).map(|process| (pid, process))),
            // A mount with `hidepid` shows that another user's process exists, and nothing of it.
            Ok(None) => {}
            Err(e) if e.kind() == PermissionDenied => {}
            Err(e) => return Err(Unseen::new(PROCESSES, e)),
        }
    }
    Ok(found)
}

/// Reports whether a process has a program, or may have one: an unreadable link counts. Kernel
/// threads and zombies have none. This check costs a quarter of reading `stat`.
fn has_program(pid: u32) -> bool {
    !matches!(std::fs::read_link(format!("/proc/{pid}/exe")), Err(e) if e.kind() == NotFound)
}

/// Returns the pids of all processes, zombies included.
///
/// # Errors
/// When `/proc` does not show them. This process is always among them, so a list without it counts
/// as unseen.
pub fn pids() -> Result<Vec<u32>, Unseen> {
    proc::check(PROCESSES)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(|e| Unseen::new(PROCESSES, e))? {
        let name = entry.map_err(|e| Unseen::new(PROCESSES, e))?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    if found.contains(&std::process::id()) {
        return Ok(found);
    }
    Err(Unseen::new(PROCESSES, io::Error::other("/proc does not list this process")))
}

/// Returns what the kernel tells of a process; `None` when there is no such process.
fn stat(pid: u32) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(Some(stat)),
        // The second one is for a process that ended between open and read.
        Err(e) if e.kind() == NotFound || is_no_process(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_no_process(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::SRCH)
}

/// Returns `None` if the process is no child of `parent`; otherwise the process, or an inner `None`
/// when it is a zombie.
#[must_use]
pub fn child_of(pid: u32, parent: u32) -> Option<Option<Process>> {
    let stat = stat(pid).ok()??;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let of: u32 = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (of == parent).then(|| parse(pid, &stat))
}

/// Reads one process; `None` when it has ended, even if it is not reaped yet.
///
/// # Errors
/// When `/proc` does not show processes, so that a missing one may be alive.
pub fn read(pid: u32) -> Result<Option<Process>, Unseen> {
    match stat(pid).map_err(|e| Unseen::new(PROCESSES, e))? {
        Some(stat) => Ok(parse(pid, &stat)),
        None => proc::check(PROCESSES).map(|()| None),
    }
}

fn parse(pid: u32, stat: &[u8]) -> Option<Process> {
    // The name may contain anything, also blanks and brackets; the fields start after its last ')'.
    let (open, close) =
        (stat.iter().position(|b| *b == b'(')?, stat.iter().rposition(|b| *b == b')')?);
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<i64>().ok();
    // A process whose first thread has ended is shown as a zombie while its other threads still run
    // and hold files and locks.
    let threads = number(17)?;
    match *fields.first()? {
        "X" => return None,
        "Z" if threads <= 1 => return None,
        _ => {}
    }
    Some(Process {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        group: u32::try_from(number(2)?).unwrap_or(0),
        has_terminal: number(4)? != 0,
        started: u64::try_from(number(19)?).ok()?,
        name,
    })
}

/// Returns the start time of a process; `None` when it has ended.
///
/// # Errors
/// As [`read`].
pub fn start_time(pid: u32) -> Result<Option<u64>, Unseen> {
    Ok(read(pid)?.map(|p| p.started))
}

/// Returns whether the process with this pid and start time is known to have ended. One that
/// `/proc` does not show may be alive.
#[must_use]
pub fn has_ended(pid: u32, started: u64) -> bool {
    start_time(pid).is_ok_and(|found| found != Some(started))
}

/// Returns whether the process with this pid and start time is known to be alive.
#[must_use]
pub fn is_alive(pid: u32, started: u64) -> bool {
    start_time(pid).is_ok_and(|found| found == Some(started))
}

/// Returns the arguments of a process, its own name first; empty when it has ended or
/// belongs to another user.
#[must_use]
pub fn arguments(pid: u32) -> Vec<Vec<u8>> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

/// Reports whether a process was started with exactly this `NAME=value` in its environment.
#[must_use]
pub fn has_variable(pid: u32, variable: &[u8]) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|b| *b == 0).any(|v| v == variable)
}

/// Returns the first environment variable of a process that starts with these bytes.
#[must_use]
pub fn variable(pid: u32, start: &[u8]) -> Option<Vec<u8>> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|b| *b == 0).find(|v| v.starts_with(start)).map(<[u8]>::to_vec)
}

/// Returns a link of a process: its working directory (`cwd`), its `root` or its program (`exe`).
/// `None` when it cannot be read, because the process belongs to another user or has ended.
#[must_use]
pub fn link(pid: u32, which: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/{which}")).ok().map(without_deleted)
}

/// Returns the open files of a process with their descriptors.
pub fn files(pid: u32) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|e| {
        let number = e.file_name().to_str()?.parse().ok()?;
        // Sockets and pipes have names that are not paths; a stat to tell them apart costs as much.
        let target = std::fs::read_link(e.path()).ok().filter(|t| t.is_absolute())?;
        Some((number, without_deleted(target)))
    })
}

/// Reports whether a descriptor is open for writing.
#[must_use]
pub fn is_writable(pid: u32, descriptor: u32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}"));
    let info = info.unwrap_or_default();
    let flags = info.lines().find_map(|l| l.strip_prefix("flags:"));
    let flags = flags.and_then(|f| u32::from_str_radix(f.trim(), 8).ok());
    flags.is_some_and(|f| f & 3 != 0)
}

/// Removes the suffix with which the kernel marks a file that was unlinked while in use.
fn without_deleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(rest) => PathBuf::from(std::ffi::OsStr::from_bytes(rest)),
        None => path,
    }
}

/// Returns a process and its ancestors, up to the first process.
#[must_use]
pub fn ancestors(all: &BTreeMap<u32, Process>, pid: u32) -> Vec<u32> {
    let mut line = Vec::new();
    let mut next = pid;
    while next != 0 && !line.contains(&next) {
        line.push(next);
        next = all.get(&next).map_or(0, |p| p.parent);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_with_parentheses_parses() {
        let stat = b"42 (a) b) (c) S 7 42 42 34816 1 0 0 0 0 0 0 0 0 0 20 0 1 0 5555 0 0";
        let found = parse(42, stat).expect("parsed");
        let name = "a) b) (c".to_owned();
        let wanted =
            Process { pid: 42, started: 5555, parent: 7, group: 42, has_terminal: true, name };
        assert_eq!(found, wanted);
        assert_eq!(parse(1, b"1 (x) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9 0"), None);
        let threads = parse(1, b"1 (x) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 9 0");
        assert!(threads.is_some(), "its other threads still run");
        assert_eq!(parse(1, b"nonsense"), None);
    }

    #[test]
    fn own_process_has_ancestors() {
        let me = std::process::id();
        let all = all().expect("/proc is mounted");
        assert_eq!(all.get(&me).map(|p| p.started), start_time(me).expect("/proc is mounted"));
        let line = ancestors(&all, me);
        assert_eq!(line.first(), Some(&me));
        assert!(line.len() > 1);
        assert_eq!(link(me, "cwd"), std::env::current_dir().ok());
    }
}
