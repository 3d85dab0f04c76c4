//! Finds the processes that outlived their environment, and ends those that are proven to be
//! ours.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::core::event::Finding;
use crate::core::{Code, Environment, EnvironmentId, Fault};
use crate::world::effects::sweep::task::{SettleAction, Task, finding};
use crate::world::fs::paths;
use crate::world::process::cgroup::Cgroups;
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::{subprocess, table, terminate};

impl Task<'_> {
    /// Finds processes with our marker in their environment variables, whose
    /// environment ended or is unknown.
    ///
    /// # Errors
    /// When `/proc` does not show processes.
    pub(super) fn processes(&self, found: &mut Vec<(Finding, SettleAction)>) -> Result<(), Fault> {
        let root = self.world.layout.worktrees();
        let mut prefix = b"GROUNDSKEEPER_PATH=".to_vec();
        prefix.extend(paths::to_host(&root).0);
        for process in table::all()?.into_values() {
            let Some(variable) = table::variable(process.pid, &prefix) else { continue };
            let path = variable.splitn(2, |b| *b == b'=').nth(1).unwrap_or_default();
            let of = self.at(&root, path);
            if of.as_ref().is_some_and(|env| env.is_live()) || process.pid == std::process::id() {
                continue;
            }
            let place = PathBuf::from(format!("/proc/{}", process.pid));
            let (settle, what) = match &of {
                Some(env) => {
                    let id = (process.pid, process.started);
                    (SettleAction::End(env.id.clone(), id), "its environment is tombstoned")
                }
                None => (SettleAction::No, "of an environment that is not in the log"),
            };
            let detail = format!("{}: {what}", process.name);
            found.push((finding("process", &place, of.is_some(), detail), settle));
        }
        Ok(())
    }

    /// Returns the environment whose worktree is, or was, at a path below the managed root.
    fn at(&self, root: &Path, path: &[u8]) -> Option<Cow<'_, Environment>> {
        let is_there = |env: &Environment| env.plan.path.as_bytes() == path;
        let known = self.state.environments().find(|env| is_there(env)).map(Cow::Borrowed);
        known.or_else(|| {
            let inside = paths::from_bytes(path);
            let name = inside.strip_prefix(root).ok()?.components().next()?;
            let id = EnvironmentId::parse(name.as_os_str().to_str()?).ok()?;
            self.life(&id).filter(|env| is_there(env))
        })
    }

    /// Ends one process, identified by pid and start time, and the processes that it started.
    pub(super) fn end(&self, id: &EnvironmentId, process: (u32, u64)) -> Result<(), Fault> {
        let scope = Scope {
            id,
            incarnation: 0,
            roots: Vec::new(),
            recorded: vec![process],
            requester: 0,
            with_bystanders: false,
            ties: Ties::Started,
            requests: Vec::new(),
            cgroups: &Cgroups::default(),
        };
        let ended = terminate::end(&scope, subprocess::TERM_GRACE, self.cancel)?;
        if ended.survivors.is_empty() {
            return Ok(());
        }
        let message = format!("process {} does not end", process.0);
        Err(Fault::new(Code::EnvironmentBusy, message, "end it manually"))
    }
}
