//! Handler that lists git's lock files in the repositories of environments. It reads only and
//! removes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::app::blocking;
use crate::api::extract::{Answer, Shared};
use crate::world::ExistingLock;

/// A lock file of git's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LockView {
    /// Where it is.
    pub path: String,
    /// How long it has been there, in seconds.
    pub age_seconds: u64,
    /// The process that holds it; null when none is known.
    pub pid: Option<u32>,
    /// The name of that process.
    pub process: Option<String>,
    /// What to do about it.
    pub hint: String,
}

impl LockView {
    fn of(existing: &ExistingLock) -> Self {
        let (pid, process) = existing.holder.clone().unzip();
        Self {
            path: existing.path.display().to_string(),
            age_seconds: existing.age.as_secs(),
            pid,
            process,
            hint: existing.hint(),
        }
    }
}

/// Lists the locks of git in every repository that has an environment, or something kept of one.
#[cfg_attr(test, utoipa::path(
    get,
    path = "/v1/locks",
    responses((status = 200, body = Vec<LockView>), super::document::Failure),
))]
pub(super) async fn locks(State(app): Shared) -> Answer<Json<Vec<LockView>>> {
    let repositories: BTreeSet<_> = app.handle.view(|state| {
        let live = state.environments().map(|env| &env.plan);
        let plans = live.chain(state.remains().map(|remains| &remains.plan));
        plans.map(|plan| plan.repository.common_dir.clone()).collect()
    });
    let world = Arc::clone(&app.world);
    let found = blocking(move || Ok(world.locks_of_git(&repositories))).await?;
    Ok(Json(found.iter().map(LockView::of).collect()))
}
