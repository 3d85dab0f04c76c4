//! Restores: a new incarnation that begins from the archive of an ended one.

use std::sync::Arc;

use crate::command::Restore;
use crate::decision::Decision;
use crate::event::{RestoreRequested, Restored};
use crate::fault::{Code, Fault};
use crate::former::Former;
use crate::id::EnvironmentId;
use crate::model::archive::ArchivedIncarnation;
use crate::model::environment::{Environment, Phase};
use crate::model::step::{At, EnvironmentStep as Step};
use crate::state::State;

impl State {
    pub(crate) fn decide_restore(&self, former: &Former, wanted: Restore) -> Decision {
        let Restore { environment, incarnation, branch, reuse_branch, .. } = wanted;
        let Restore { actor, request, nonce, .. } = wanted;
        if self.remembers(request.as_ref(), "restore", Some(&environment))? {
            return Ok(Vec::new());
        }
        if let Some(env) = self.environment(&environment).filter(|e| e.is_live()) {
            let message = format!("environment {environment} exists and is {}", env.phase.as_str());
            let hint = format!("run `groundskeeper rm {environment}` first, then restore again");
            return Err(Fault::new(Code::EnvironmentExists, message, hint));
        }
        let archive = self.restorable(&environment, incarnation)?;
        let incarnation = self.next_incarnation(former, &environment);
        let mut plan = archive.plan.clone();
        // The commit to restore is in the repository, so there is nothing to fetch.
        plan.fetch = false;
        let from = archive.restore_from();
        // Without its directory the worktree is made anew, at the commit of its HEAD.
        if from.trash.is_none() {
            // Without a commit the base is not found; the default branch must not take its place.
            plan.base = Some(from.head.clone().unwrap_or_default());
            plan.reuse_branch = reuse_branch;
            plan.branch = branch.unwrap_or(plan.branch);
        }
        self.branch_is_free(&plan)?;
        let nonce = Some(nonce);
        let begun =
            RestoreRequested { environment, incarnation, from, plan, actor, request, nonce };
        Ok(vec![begun.into()])
    }

    pub(crate) fn restore(&mut self, at: At, e: &RestoreRequested) {
        self.remember(e.request.as_ref(), &e.environment, "restore", at.seq);
        let mut env = Environment::begin(at, &e.environment, e.incarnation, &e.plan);
        if e.from.trash.is_some() {
            env.enter(Step::Restore, at);
        }
        env.restore = Some(e.from.clone());
        let archive = self.archive_of(&e.environment, e.from.incarnation);
        env.base = archive.and_then(|r| r.base.clone());
        env.nonce.clone_from(&e.nonce);
        env.lineage = archive.map(ArchivedIncarnation::lineage).unwrap_or_default();
        self.environments.insert(e.environment.clone(), Arc::new(env));
        self.restore_changed(at, &e.environment, &e.from, Some(e.incarnation), false);
    }

    /// Folds in the end of the restore that an environment is in, if it is in one: whether it took
    /// the directory out of the trash.
    pub(crate) fn restore_ends(&mut self, at: At, id: &EnvironmentId, taken: bool) {
        let env = self.environments.get(id).filter(|e| e.phase == Phase::Provisioning);
        if let Some(from) = env.and_then(|env| env.restore.clone()) {
            self.restore_changed(at, id, &from, None, taken);
        }
    }
}

impl Environment {
    /// Folds in that its directory is back from the trash.
    pub(crate) fn restored(&mut self, e: &Restored) {
        self.worktree = Some(e.worktree.clone());
        self.plan.branch.clone_from(&e.branch);
        self.fault = None;
        self.owed = None;
    }
}
