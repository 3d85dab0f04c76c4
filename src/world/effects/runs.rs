//! Ends the commands that a killed daemon was running for requests, before its
//! successor does anything else.
//!
//! The requester is told that its command was interrupted, so the command must not go on. A command
//! that a user runs through `exec` belongs to that user and is never ended here.

use crate::core::{Environment, EnvironmentId, Fault, RequestId, State};
use crate::world::effects::context::World;
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::Scope;
use crate::world::process::{subprocess, table, terminate};

impl World {
    /// Ends the processes that an earlier daemon was running, as recorded in the log, and returns
    /// those recorded processes that have ended. Starts no work if there are none; otherwise
    /// takes a few seconds at most.
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
        // One thread per environment, so that their grace periods overlap.
        std::thread::scope(|scope| {
            for (env, requests) in &concerned {
                scope.spawn(|| self.end_runs_in(env, requests, cancel));
            }
        });
        let of_daemon = concerned.iter().flat_map(|(env, _)| {
            let recorded = env.processes.iter().filter(|(_, p)| p.of_daemon);
            recorded.map(|(pid, p)| (&env.id, *pid, p.started))
        });
        // A pid alone may have been reused: a process has ended unless pid
        // and start time both match.
        let over = of_daemon.filter(|(_, pid, started)| table::has_ended(*pid, *started));
        over.map(|(id, pid, _)| (id.clone(), pid)).collect()
    }

    fn end_runs_in(&self, env: &Environment, requests: &[RequestId], cancel: &Cancel) {
        let scope = Scope::of_runs(env, requests.to_vec(), &self.cgroups);
        match terminate::end(&scope, subprocess::TERM_GRACE, cancel) {
            Ok(ended) => {
                for seen in ended.ended {
                    let (pid, name) = (seen.pid, seen.name);
                    tracing::warn!(environment = %env.id, pid, name, "ended an orphaned process");
                }
                for seen in ended.survivors {
                    let (pid, name) = (seen.pid, seen.name);
                    tracing::error!(environment = %env.id, pid, name, "a process does not end");
                }
            }
            Err(error) => {
                let fault = Fault::from(error);
                tracing::error!(%fault, environment = %env.id, "cannot end runs");
            }
        }
    }
}
