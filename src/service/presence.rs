//! Adds to the views of environments what their worktrees are at this moment: missing or there, and
//! what HEAD names. Decides nothing; a worktree that does not answer in time delays no answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Environment, Phase};
use crate::format::rfc3339;
use crate::service::app::App;
use crate::service::types::environment::EnvironmentView;
use crate::world::presence::{Look, Question};

/// Longest that one answer waits for all worktrees together.
const LIMIT: Duration = Duration::from_millis(150);

/// Returns the places to look at; none while no worktree is expected to be in place.
pub(crate) fn question(env: &Environment) -> Option<Question> {
    let is_in_place = matches!(env.phase, Phase::Ready | Phase::Retiring | Phase::Failed);
    Question::of(env).filter(|_| is_in_place)
}

/// Looks at the worktrees of some environments. With `all` these are all that there are.
pub(crate) async fn look(app: &App, questions: Vec<Question>, all: bool) -> BTreeMap<String, Look> {
    let presence = Arc::clone(&app.presence);
    let asked: Vec<String> = questions.iter().map(|q| q.id().to_string()).collect();
    let look = tokio::task::spawn_blocking(move || presence.look(questions, LIMIT, all));
    // Also bounded where no thread is free to look.
    let looks = tokio::time::timeout(LIMIT * 2, look).await.ok().and_then(Result::ok);
    let looks = looks.unwrap_or_default();
    let mut looks: BTreeMap<String, Look> =
        looks.into_iter().map(|(id, look)| (id.to_string(), look)).collect();
    for id in asked {
        looks.entry(id).or_insert(Look { seen: None, is_late: true });
    }
    looks
}

/// Adds to the views what is there.
pub(crate) fn add(views: &mut [EnvironmentView], mut looks: BTreeMap<String, Look>) {
    for view in views {
        if let Some(look) = looks.remove(&view.id) {
            add_one(view, look);
        }
    }
}

fn add_one(view: &mut EnvironmentView, look: Look) {
    view.unseen = look.is_late;
    let Some(seen) = look.seen else { return };
    view.missing = seen.missing;
    view.detached = seen.detached;
    if let Some(branch) = seen.branch {
        view.branch = branch;
    }
    view.seen_at = look.is_late.then(|| rfc3339(seen.at));
}
