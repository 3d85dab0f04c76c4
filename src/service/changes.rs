//! Adds to the views of environments what has changed in their worktrees, as far as that is known;
//! on request it is found out, within a bound. Decides nothing; a worktree that does not answer in
//! time delays no answer, and is shown as it was last known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Environment, EnvironmentId, Time};
use crate::format::rfc3339;
use crate::service::app::{App, now};
use crate::service::types::environment::{EnvironmentView, SummaryView};

/// Longest that one answer waits for all worktrees together.
const LIMIT: Duration = Duration::from_millis(150);

/// Finds out what has changed in the worktrees of these environments.
pub(crate) async fn find_out(app: &Arc<App>, ids: &BTreeSet<String>) {
    let envs: Vec<Environment> = app.handle.view(|state| {
        let served = state.environments().filter(|e| e.is_served());
        served.filter(|e| ids.contains(e.id.as_str())).cloned().collect()
    });
    let there = Arc::clone(app);
    let survey = tokio::task::spawn_blocking(move || {
        there.survey.refresh(&there.world, envs, LIMIT);
    });
    // Also bounded where no thread is free.
    drop(tokio::time::timeout(LIMIT * 2, survey).await);
}

/// Adds to the views what is known, with when it was known to be true.
pub(crate) fn add(app: &App, views: &mut [EnvironmentView]) {
    for view in views {
        let id = EnvironmentId::parse(&view.id).ok();
        let cache = app.world.status_cache();
        let seen = id.and_then(|id| cache.last_seen(&id, view.incarnation));
        view.known = seen.map(|(status, age)| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            let at = Time(now().0.saturating_sub(age));
            SummaryView { at: Some(rfc3339(at)), ..SummaryView::of(&status) }
        });
    }
}
