//! Relocation: a moved data directory or repository, a copied data directory, a restored log.
//!
//! Paths in the state follow what is found, as facts of their own, so that a replay ends in the
//! daemon's state. A copy forgets everything that belongs to its original. Nothing here reads the
//! disk: the daemon does so before it opens its log.

use std::sync::Arc;

use crate::command::Ground;
use crate::event::{
    DataDirectoryCopied, DataDirectoryMoved, Event, LogFoundOlder, RepositoryMoved, Rescue,
};
use crate::id::{EnvironmentId, HostPath, Seq};
use crate::model::archive::ArchivedIncarnation;
use crate::model::cleaned_output::CleanedOutput;
use crate::model::environment::{Environment, Phase};
use crate::model::run::RunEnd;
use crate::model::step::At;
use crate::state::State;

/// Rebases a path that lies in a folder that was moved.
fn follow(path: &mut HostPath, from: &HostPath, to: &HostPath) {
    if let Some(new) = path.rebased(from, to) {
        *path = new;
    }
}

fn follow_copies(rescue: Option<&mut Rescue>, from: &HostPath, to: &HostPath) {
    if let Some(raw) = rescue.and_then(|rescue| rescue.raw.as_mut()) {
        follow(&mut raw.folder, from, to);
    }
}

impl Environment {
    fn data_moved(&mut self, from: &HostPath, to: &HostPath) {
        // An adopted worktree lies outside the data directory, so its path does not match.
        follow(&mut self.plan.path, from, to);
        if let Some(report) = &mut self.setup {
            follow(&mut report.transcript, from, to);
        }
        if let Some(teardown) = &mut self.teardown {
            teardown.trash.iter_mut().for_each(|path| follow(path, from, to));
            follow_copies(teardown.rescue.as_mut(), from, to);
        }
        if let Some(restore) = &mut self.restore {
            restore.trash.iter_mut().for_each(|path| follow(path, from, to));
            follow_copies(restore.saved.as_mut(), from, to);
        }
    }

    fn repository_moved(&mut self, e: &RepositoryMoved) {
        repository_moved(&mut self.plan.repository, e);
        if let Some(worktree) = &mut self.worktree {
            follow(&mut worktree.admin_dir, &e.from, &e.to);
        }
    }
}

impl ArchivedIncarnation {
    fn data_moved(&mut self, from: &HostPath, to: &HostPath) {
        follow(&mut self.plan.path, from, to);
        self.trash.iter_mut().for_each(|path| follow(path, from, to));
        follow_copies(self.rescue.as_mut(), from, to);
    }

    fn repository_moved(&mut self, e: &RepositoryMoved) {
        repository_moved(&mut self.plan.repository, e);
        if let Some(worktree) = &mut self.worktree {
            follow(&mut worktree.admin_dir, &e.from, &e.to);
        }
        self.retry_now(self.at);
    }
}

impl CleanedOutput {
    fn data_moved(&mut self, from: &HostPath, to: &HostPath) {
        self.trash.iter_mut().for_each(|path| follow(path, from, to));
    }
}

fn repository_moved(repository: &mut crate::event::Repository, e: &RepositoryMoved) {
    if repository.common_dir != e.from {
        return;
    }
    repository.common_dir = e.to.clone();
    // The main working tree moves with its `.git`; another worktree stays where it was.
    let source = repository.source.as_mut();
    if let (Some(from), Some(to), Some(source)) = (e.from.parent(), e.to.parent(), source) {
        follow(source, &from, &to);
    }
}

impl Environment {
    /// Returns whether this is an incarnation, or comes after it. `is_archived` tells whether an
    /// archive of the id has a nonce.
    #[must_use]
    pub(crate) fn knows(
        &self,
        incarnation: u32,
        nonce: Option<&str>,
        is_archived: &dyn Fn(&str) -> bool,
    ) -> bool {
        let Some(nonce) = nonce else {
            let present = self.incarnation == incarnation && self.nonce.is_none();
            return present || self.incarnation > incarnation;
        };
        let mut own = self.lineage.iter().chain(&self.nonce);
        self.incarnation >= incarnation
            && (own.any(|known| known.as_str() == nonce) || is_archived(nonce))
    }
}

impl State {
    /// Returns the last record that the data directory is known to have had, when the log was
    /// restored from a backup that ends before it.
    #[must_use]
    pub fn found_older(&self) -> Option<Seq> {
        self.found_older
    }

    /// Returns whether the log knows an incarnation: the present one of its id, one that has an
    /// archive, or one that another continues. Id and number alone identify only an incarnation
    /// without a nonce.
    #[must_use]
    pub fn knows(&self, id: &EnvironmentId, incarnation: u32, nonce: Option<&str>) -> bool {
        self.environment(id).is_some_and(|env| self.knows_of(env, incarnation, nonce))
    }

    /// Returns the same of an environment that this state may have forgotten; its archives are in
    /// the state for as long as they exist.
    #[must_use]
    pub fn knows_of(&self, env: &Environment, incarnation: u32, nonce: Option<&str>) -> bool {
        let is_archived = |nonce: &str| {
            let left = self.archives().filter(|r| r.id == env.id);
            left.flat_map(|r| r.lineage.iter().chain(&r.nonce)).any(|known| known.as_str() == nonce)
        };
        env.knows(incarnation, nonce, &is_archived)
    }

    /// Returns the facts that a daemon found about its data directory.
    pub(crate) fn decide_ground(&self, ground: Ground) -> Vec<Event> {
        let copied = ground.copy_of.map(|original| DataDirectoryCopied { original }.into());
        let moved = ground.moved.map(|(from, to)| DataDirectoryMoved { from, to }.into());
        let known = self.found_older;
        let older = ground.had.filter(|had| Some(*had) != known && *had > self.seq);
        let older = older.map(|had| LogFoundOlder { had }.into());
        copied.into_iter().chain(moved).chain(older).collect()
    }

    /// Decides that a repository was moved; one that no record uses changes nothing.
    pub(crate) fn decide_move_repository(&self, from: HostPath, to: HostPath) -> Vec<Event> {
        let of = |plan: &crate::event::Plan| plan.repository.common_dir == from;
        let known =
            self.environments().any(|e| of(&e.plan)) || self.archives().any(|r| of(&r.plan));
        let moved = (known && from != to).then(|| RepositoryMoved { from, to }.into());
        moved.into_iter().collect()
    }

    /// Folds in that the data directory was moved.
    pub(crate) fn data_moved(&mut self, from: &HostPath, to: &HostPath) {
        let environments = self.environments.values_mut().map(Arc::make_mut);
        environments.for_each(|env| env.data_moved(from, to));
        self.each_archive(|archive| archive.data_moved(from, to));
        let outputs = self.outputs.values_mut().flat_map(|outputs| outputs.values_mut());
        outputs.map(Arc::make_mut).for_each(|output| output.data_moved(from, to));
    }

    /// Folds in that a repository was moved.
    pub(crate) fn repository_moved(&mut self, e: &RepositoryMoved) {
        let environments = self.environments.values_mut().map(Arc::make_mut);
        environments.for_each(|env| env.repository_moved(e));
        self.each_archive(|archive| archive.repository_moved(e));
        let outputs = self.outputs.values_mut().flat_map(|outputs| outputs.values_mut());
        let outputs = outputs.filter(|o| o.repository == e.from);
        outputs.map(Arc::make_mut).for_each(|output| output.repository = e.to.clone());
        if let Some(hashes) = self.trust.remove(&e.from) {
            self.trust.insert(e.to.clone(), hashes);
        }
    }

    fn each_archive(&mut self, change: impl FnMut(&mut ArchivedIncarnation)) {
        let archives = self.archives.values_mut().flat_map(|lives| lives.values_mut());
        archives.map(Arc::make_mut).for_each(change);
    }

    /// Forgets everything but history: worktrees, trash, refs and branches are the original's. An
    /// adopted worktree belongs to neither.
    pub(crate) fn is_a_copy(&mut self, at: At) {
        self.archives.clear();
        self.outputs.clear();
        self.leases.clear();
        self.sweep = None;
        for run in self.runs.values_mut().filter(|run| run.ended.is_none()) {
            run.ended = Some(RunEnd::destroyed());
        }
        let environments = self.environments.values_mut();
        for env in environments.filter(|env| env.phase != Phase::Tombstoned).map(Arc::make_mut) {
            env.teardown = None;
            env.tombstoned(at, &[]);
            env.seq = at.seq;
        }
    }
}
