//! Lists environments: those of the state, with what their worktrees are now, and on request those
//! whose lives are over, from the state and from the index of the log. By id, in pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::{Code, Environment, Fault, Phase, State, Time};
use crate::format::rfc3339;
use crate::service::app::{App, now};
use crate::service::blocking::blocking;
use crate::service::presence;
use crate::service::requests::invalid;
use crate::service::types::environment::{EnvironmentView, ListQuery, SummaryView};
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
        app.handle.view(|state| known(app, state, (&after, limit), query.all));
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
        return Ok(views);
    }
    let is_whole = query.after.is_none() && query.limit.is_none();
    let listed: BTreeSet<&str> = views.iter().map(|view| view.id.as_str()).collect();
    let questions = questions.into_iter().filter(|q| listed.contains(q.id().as_str())).collect();
    presence::add(app, &mut views, questions, is_whole).await;
    Ok(views)
}

fn too_many() -> Fault {
    let message = format!("there are more than {LIST_MAX} environments to list");
    let hint = "ask for pages: set `limit`, and `after` to the id of the last one";
    Fault::new(Code::LimitReached, message, hint)
}

/// Returns a page of what the state has, and where to look for the worktrees.
fn known(
    app: &App,
    state: &State,
    (after, limit): (&str, usize),
    all: bool,
) -> (Vec<EnvironmentView>, Vec<Question>) {
    let last_status = |e: &Environment| {
        let (status, age) = app.world.status_cache().last_seen(&e.id, e.incarnation)?;
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let at = Time(now().0.saturating_sub(age));
        Some(SummaryView { at: Some(rfc3339(at)), ..SummaryView::of(&status) })
    };
    let view = |e: &Environment| EnvironmentView {
        known: last_status(e),
        ..EnvironmentView::of(state, e)
    };
    let wanted = state.environments().filter(|e| e.id.as_str() > after);
    let wanted = wanted.filter(|e| all || e.phase != Phase::Tombstoned).take(limit);
    let (views, questions): (_, Vec<_>) = wanted.map(|e| (view(e), presence::question(e))).unzip();
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
