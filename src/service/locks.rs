//! Lists git's lock files in the repositories of environments. It reads only and removes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::Fault;
use crate::service::app::App;
use crate::service::blocking::blocking;
use crate::service::types::lock::LockView;

/// Lists the lock files of git in every repository that has an environment or an archive.
///
/// # Errors
/// If the search panics.
pub(crate) async fn list(app: &App) -> Result<Vec<LockView>, Fault> {
    let repositories: BTreeSet<_> = app.handle.view(|state| {
        let live = state.environments().map(|env| &env.plan);
        let plans = live.chain(state.archives().map(|archive| &archive.plan));
        plans.map(|plan| plan.repository.common_dir.clone()).collect()
    });
    let world = Arc::clone(&app.world);
    let found = blocking(move || Ok(world.locks_of_git(&repositories))).await?;
    Ok(found.iter().map(LockView::of).collect())
}
