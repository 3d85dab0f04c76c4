//! A `git gc` of the user that works in a repository: whether one does, and the wait for its end.
//!
//! It reads the refs when it begins and unlinks objects when it ends. What is referred to in
//! between can be unlinked. Nothing here starts, stops or changes a `gc`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::world::git::command::Git;
use crate::world::process::cancel::Cancel;
use crate::world::process::table;

/// Age from which git itself takes the mark of a running `gc` for a leftover.
const STALE: Duration = Duration::from_secs(12 * 3_600);
/// Longest wait for the end of one.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Interval at which its mark is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// The mark that git sets: the process and its host.
struct Mark {
    pid: Option<u32>,
}

impl Mark {
    /// Reads the mark; none if no `gc` works there, or the one that set it has ended.
    fn read(common: &Path) -> Option<Self> {
        let file = common.join("gc.pid");
        let found = file.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        if found.modified().ok()?.elapsed().is_ok_and(|age| age > STALE) {
            return None;
        }
        let text = std::fs::read_to_string(&file).ok()?;
        let (pid, host) = text.trim().split_once(' ').unwrap_or((&text, ""));
        let is_here = rustix::system::uname().nodename().to_bytes() == host.as_bytes();
        let pid = pid.parse().ok().filter(|_| is_here);
        // Of a process that cannot be looked for, the mark is believed.
        let is_over = pid.is_some_and(|pid| matches!(table::start_time(pid), Ok(None)));
        (!is_over).then_some(Self { pid })
    }

    /// Returns whether it may unlink objects of the last two weeks, which git spares otherwise.
    fn spares_no_recent(&self, git: &Git<'_>) -> bool {
        let arguments = self.pid.map(table::arguments).unwrap_or_default();
        let asked = arguments.iter().any(|argument| argument.starts_with(b"--prune"));
        let set = || git.run(["config", "--get", "gc.pruneExpire"]);
        arguments.is_empty() || asked || set().map_or(true, |found| found.status.success())
    }
}

/// Returns whether a `git gc` works in a repository.
pub(in crate::world) fn runs(common: &Path) -> bool {
    Mark::read(common).is_some()
}

/// Waits for the end of a `git gc` that may unlink what was referred to a moment ago. One that
/// takes longer than [`WAIT_MAX`] is not waited for: returns false then.
#[expect(clippy::disallowed_methods, reason = "a file of another process cannot be awaited")]
#[must_use]
pub(in crate::world) fn wait(git: &Git<'_>, common: &Path, cancel: &Cancel) -> bool {
    let until = Instant::now() + WAIT_MAX;
    while let Some(mark) = Mark::read(common) {
        if !mark.spares_no_recent(git) {
            return true;
        }
        if cancel.is_cancelled() || Instant::now() > until {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_counts_while_its_process_lives() {
        let dir = tempfile::tempdir().expect("a folder");
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mark = |text: String| {
            std::fs::write(dir.path().join("gc.pid"), text).expect("written");
            runs(dir.path())
        };
        assert!(!runs(dir.path()));
        assert!(mark(format!("{} {host}", std::process::id())));
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let over = child.id();
        child.wait().expect("ended");
        assert!(!mark(format!("{over} {host}")), "it was killed");
        assert!(mark(format!("{over} another-host")), "it cannot be looked for");
        assert!(mark("garbage".to_owned()));
    }
}
