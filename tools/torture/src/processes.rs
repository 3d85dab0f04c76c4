//! The processes of one history, found through `/proc` by the home directory that all of them
//! inherit. Nobody else's process is ever ended.

use std::path::{Path, PathBuf};

use groundskeeper::world::process::table;

use crate::trouble::Trouble;

/// A process that belongs to a history.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) pid: u32,
    pub(crate) command: String,
    /// The place of the environment that it lives in.
    pub(crate) place: Option<PathBuf>,
}

/// All that run with this home; what has ended and is not yet collected is not running.
pub(crate) fn of(home: &Path) -> Result<Vec<Found>, Trouble> {
    let home = format!("HOME={}", home.display());
    let pids = table::pids().map_err(|e| Trouble::new("cannot list processes").because(&e))?;
    let found = pids.into_iter().filter_map(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut vars = environ.split(|b| *b == 0).map(String::from_utf8_lossy);
        let mut place = None;
        let mut ours = false;
        for var in vars.by_ref() {
            ours |= var == home;
            if let Some(path) = var.strip_prefix("GROUNDSKEEPER_PATH=") {
                place = Some(PathBuf::from(path));
            }
        }
        let alive =
            ours && pid != std::process::id() && !matches!(table::start_time(pid), Ok(None));
        alive.then(|| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&line).replace('\0', " ");
            Found { pid, command, place }
        })
    });
    Ok(found.collect())
}

/// Ends what a history has left running: the torture leaves nothing behind either.
pub(crate) fn end_all(home: &Path) {
    for found in of(home).into_iter().flatten() {
        let pid = i32::try_from(found.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _sent = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
