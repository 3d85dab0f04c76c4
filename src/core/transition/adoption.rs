//! Adoptions: a foreign worktree that is watched and leased from now on, and never deleted.

use std::sync::Arc;

use crate::command::Adopt;
use crate::decision::{Decision, limit};
use crate::event::{Base, EnvironmentAdopted};
use crate::fault::{Code, Fault};
use crate::former::Former;
use crate::model::environment::{Environment, Phase};
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    /// Decides to adopt a foreign worktree; the same one again changes nothing.
    pub(crate) fn decide_adopt(&self, former: &Former, wanted: Adopt) -> Decision {
        let Adopt { environment, plan, head, worktree, actor, nonce } = wanted;
        let (incarnation, nonce) = (self.next_incarnation(former, &environment), Some(nonce));
        let adopted =
            EnvironmentAdopted { environment, incarnation, plan, head, worktree, actor, nonce };
        let (environment, plan) = (&adopted.environment, &adopted.plan);
        if let Some(other) = self.environments().find(|e| e.is_live() && e.plan.path == plan.path) {
            if other.adopted && other.id == *environment {
                return Ok(Vec::new());
            }
            let message = format!("{} is already environment {}", plan.path, other.id);
            let hint = format!("use it as environment {}", other.id);
            return Err(Fault::new(Code::EnvironmentExists, message, hint));
        }
        if self.environment(environment).is_some_and(Environment::is_live) {
            let message = format!("environment {environment} already exists at another path");
            return Err(Fault::new(Code::EnvironmentExists, message, "choose another --id"));
        }
        if self.environments().filter(|e| e.is_live()).count() >= policy::ENVIRONMENTS_MAX {
            return Err(limit("environments", policy::ENVIRONMENTS_MAX));
        }
        Ok(vec![adopted.into()])
    }

    pub(crate) fn adopted(&mut self, at: At, e: &EnvironmentAdopted) {
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        env.base = Some(Base { commit: e.head.clone(), ..Base::default() });
        env.worktree = Some(e.worktree.clone());
        env.nonce.clone_from(&e.nonce);
        env.adopted = true;
        env.owed = None;
        env.set_phase(Phase::Ready, at);
        self.labels.remove(&e.environment);
        self.environments.insert(e.environment.clone(), Arc::new(env));
    }
}
