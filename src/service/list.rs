//! Lists environments: those of the state, with what their worktrees are now, and on request those
//! whose lives are over, from the state and from the index of the log. By id, in pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::{Code, Environment, Fault, Phase, State};
use crate::service::app::App;
use crate::service::blocking::blocking;
use crate::service::requests::invalid;
use crate::service::types::environment::{EnvironmentView, ListQuery};
use crate::service::{changes, presence};
use crate::world::presence::Question;

/// Most environments in one answer that lists tombstoned ones, too.
const LIST_MAX: usize = 10_000;
/// Forgotten lives that are read at once.
const BATCH: usize = 1_000;

/// Returns the environments that a query selects, by id.
///
/// # Errors
/// When the log cannot be read, or there are too many for one answer.
pub(crate) async fn list(app: &Arc<App>, query: &ListQuery) -> Result<Vec<EnvironmentView>, Fault> {
    let after = query.after.clone().unwrap_or_default();
    let asked = query.limit.map(|limit| limit as usize);
    if asked.is_some_and(|limit| limit > LIST_MAX) {
        return Err(invalid(format!("limit is more than {LIST_MAX}")));
    }
    // One more than fits: whether there are more decides whether it is an answer.
    let limit = asked.unwrap_or(if query.all { LIST_MAX + 1 } else { usize::MAX });
    let (mut views, questions) =
        app.handle.view(|state| recorded(state, (&after, limit), query.all));
    if query.all {
        let there = Arc::clone(app);
        let more = blocking(move || former(&there, after, limit)).await?;
        views.extend(more);
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views.truncate(limit);
        if views.len() > LIST_MAX {
            return Err(too_many());
        }
    }
    if query.brief {
        changes::add(app, &mut views);
        return Ok(views);
    }
    let is_whole = query.after.is_none() && query.limit.is_none();
    let listed: BTreeSet<String> = views.iter().map(|view| view.id.clone()).collect();
    let questions = questions.into_iter().filter(|q| listed.contains(q.id().as_str())).collect();
    let found_out = async {
        if query.changes {
            changes::find_out(app, &listed).await;
        }
    };
    let (looks, ()) = tokio::join!(presence::look(app, questions, is_whole), found_out);
    presence::add(&mut views, looks);
    changes::add(app, &mut views);
    Ok(views)
}

fn too_many() -> Fault {
    let message = format!("there are more than {LIST_MAX} environments to list");
    let hint = "ask for pages: set `limit`, and `after` to the id of the last one";
    Fault::new(Code::LimitReached, message, hint)
}

/// Returns a page of what the state has, and where to look for the worktrees.
fn recorded(
    state: &State,
    (after, limit): (&str, usize),
    all: bool,
) -> (Vec<EnvironmentView>, Vec<Question>) {
    let wanted = state.environments().filter(|e| e.id.as_str() > after);
    let wanted = wanted.filter(|e| all || e.phase != Phase::Tombstoned).take(limit);
    let view = |e: &Environment| (EnvironmentView::of(state, e), presence::question(e));
    let (views, questions): (_, Vec<_>) = wanted.map(view).unzip();
    (views, questions.into_iter().flatten().collect())
}

/// Returns up to `limit` environments that only the index has.
fn former(app: &App, mut after: String, limit: usize) -> Result<Vec<EnvironmentView>, Fault> {
    let mut views = Vec::new();
    while views.len() < limit {
        let batch = app.handle.forgotten(&after, BATCH)?;
        let Some(last) = batch.last() else { break };
        after = last.id.to_string();
        app.handle.view(|state| {
            // A later life of the same name is in the state.
            let over = batch.iter().filter(|env| state.environment(&env.id).is_none());
            views.extend(over.map(|env| EnvironmentView::of(state, env)));
        });
    }
    views.truncate(limit);
    Ok(views)
}
