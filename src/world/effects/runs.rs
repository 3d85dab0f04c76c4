//! Commands that a dead daemon was running for requests: ended before its successor does anything.
//!
//! Who asked for them is told that they were interrupted; what is told must be so. A command that
//! somebody runs by `exec` is theirs, and goes on.

use crate::core::{Environment, EnvironmentId, RequestId, State};
use crate::world::effects::context::World;
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::Scope;
use crate::world::process::table::start_time;
use crate::world::process::{subprocess, terminate};

impl World {
    /// Ends what an earlier daemon was running, as the log has it, and says which of the recorded
    /// processes are over. Nothing to end costs nothing; ending takes a few seconds at most.
    #[must_use]
    pub fn end_runs(&self, state: &State, cancel: &Cancel) -> Vec<(EnvironmentId, u32)> {
        let alone = |env: &Environment| env.processes.values().any(|p| p.of_daemon);
        let mut concerned: Vec<(&Environment, Vec<RequestId>)> = Vec::new();
        for env in state.environments() {
            let requests = state.unfinished_runs(&env.id);
            if alone(env) || !requests.is_empty() {
                concerned.push((env, requests));
            }
        }
        std::thread::scope(|scope| {
            for (env, requests) in &concerned {
                scope.spawn(|| self.end_runs_in(env, requests, cancel));
            }
        });
        let of_daemon = concerned.iter().flat_map(|(env, _)| {
            let recorded = env.processes.iter().filter(|(_, p)| p.of_daemon);
            recorded.map(|(pid, p)| (&env.id, *pid, p.started))
        });
        let over = of_daemon.filter(|(_, pid, started)| start_time(*pid) != Some(*started));
        over.map(|(id, pid, _)| (id.clone(), pid)).collect()
    }

    fn end_runs_in(&self, env: &Environment, requests: &[RequestId], cancel: &Cancel) {
        let scope = Scope::of_runs(env, requests.to_vec(), &self.cgroups);
        match terminate::end(&scope, subprocess::TERM_GRACE, cancel) {
            Ok(ended) => {
                for seen in ended.ended {
                    let (pid, name) = (seen.pid, seen.name);
                    tracing::warn!(environment = %env.id, pid, name, "ended: its daemon had died");
                }
                for seen in ended.survivors {
                    let (pid, name) = (seen.pid, seen.name);
                    tracing::error!(environment = %env.id, pid, name, "does not end");
                }
            }
            Err(fault) => tracing::error!(%fault, environment = %env.id, "cannot end what runs"),
        }
    }
}
