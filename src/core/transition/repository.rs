//! Repositories: the hooks that the user trusts in them, and moves.

use crate::decision::{Decision, limit};
use crate::event::{Event, RepositoryDistrusted, RepositoryEvent, RepositoryTrusted};
use crate::policy;
use crate::state::State;

impl State {
    pub(crate) fn decide_trust(&self, trusted: RepositoryTrusted) -> Decision {
        let known = self.trust.contains_key(&trusted.repository);
        if !known && self.trust.len() >= policy::TRUSTED_REPOSITORIES_MAX {
            return Err(limit("trusted repositories", policy::TRUSTED_REPOSITORIES_MAX));
        }
        if self.trusted(&trusted.repository).contains(&trusted.hash) {
            return Ok(Vec::new());
        }
        Ok(vec![trusted.into()])
    }

    /// Decides to withdraw all trust in a repository.
    pub(crate) fn decide_distrust(&self, distrusted: RepositoryDistrusted) -> Vec<Event> {
        let known = self.trust.contains_key(&distrusted.repository);
        known.then(|| distrusted.into()).into_iter().collect()
    }

    /// Folds in an event about a repository.
    pub(crate) fn apply_repository(&mut self, event: RepositoryEvent<'_>) {
        match event {
            RepositoryEvent::RepositoryTrusted(e) => self.trusted_now(e),
            RepositoryEvent::RepositoryDistrusted(e) => drop(self.trust.remove(&e.repository)),
            RepositoryEvent::RepositoryMoved(e) => self.repository_moved(e),
        }
    }

    fn trusted_now(&mut self, e: &RepositoryTrusted) {
        let hashes = self.trust.entry(e.repository.clone()).or_default();
        hashes.retain(|h| *h != e.hash);
        hashes.push(e.hash.clone());
        if hashes.len() > policy::TRUSTED_HASHES_MAX {
            hashes.remove(0);
        }
    }
}
