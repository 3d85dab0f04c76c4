//! Wire types of removals.

use serde::{Deserialize, Serialize};

use crate::core::event::ProcessSeen;
use crate::core::model::environment::Teardown;
use crate::core::{Environment, Phase, Seq};
use crate::service::types::problem::Problem;
use crate::service::types::process::ProcessView;

/// How to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Move unsaved work to the trash, and break leases.
    #[serde(default)]
    pub force: bool,
    /// What becomes of the branch: `keep`, `delete-if-merged` or `delete`; as configured when
    /// left out.
    #[serde(default)]
    pub branch: Option<String>,
    /// Do not run the teardown hook.
    #[serde(default)]
    pub no_teardown: bool,
    /// End processes that merely stand in the directory, too.
    #[serde(default)]
    pub end_bystanders: bool,
    /// Leave work to the trash alone; only with `force`.
    #[serde(default)]
    pub no_rescue: bool,
    /// For want of use: who uses it after all keeps it.
    #[serde(default)]
    pub retire: bool,
    /// Only this life of it; of another one the answer is that it is destroyed.
    #[serde(default)]
    pub incarnation: Option<u32>,
    /// Seconds to wait for the end; without it the answer comes at once.
    #[serde(default)]
    pub wait: Option<u64>,
}

/// What a removal led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RemovedView {
    /// The environment.
    pub id: String,
    /// Its phase now; `tombstoned` also for one that never was.
    pub phase: String,
    /// Which life of it that is; 0 for one that never was.
    #[serde(default)]
    pub incarnation: u32,
    /// Whether it was adopted: it is released, and its directory stays where it is.
    #[serde(default)]
    pub adopted: bool,
    /// Refs that hold what the worktree had and no branch has.
    pub rescue: Vec<String>,
    /// What the rescue could not hold: it is in the trash alone, which stays until it is named.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// What went with it and was no work, and yet is worth a word.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where its directory is; null when there was none.
    pub trash: Option<String>,
    /// Whether its branch was deleted.
    pub branch_deleted: bool,
    /// Why, or why not.
    pub branch_reason: String,
    /// Processes that have to do with it and were left alone.
    pub spared: Vec<ProcessView>,
    /// Processes that did not end.
    pub survivors: Vec<ProcessView>,
    /// Why the teardown hook did not end well.
    pub hook: Option<Problem>,
    /// The record that says so.
    pub seq: u64,
}

fn processes(list: &[ProcessSeen]) -> Vec<ProcessView> {
    list.iter().map(|p| ProcessView::of(p, false)).collect()
}

fn refs(teardown: &Teardown) -> Vec<String> {
    let rescue = teardown.rescue.iter();
    let nested = rescue.clone().flat_map(|r| &r.nested).filter_map(|n| n.reference.as_ref());
    let own = rescue.filter_map(|r| r.reference.as_ref());
    own.chain(nested).chain(&teardown.other_refs).cloned().collect()
}

/// Returns notes on a removal; one says that an adopted worktree is left in place.
fn notes(env: &Environment) -> Vec<String> {
    let stays = "an adopted worktree is never deleted";
    let stays = env.adopted.then(|| format!("nothing at {} was touched: {stays}", env.plan.path));
    let noted = env.teardown.iter().flat_map(|t| t.noted.iter().cloned());
    stays.into_iter().chain(noted).collect()
}

fn lacks(teardown: &Teardown) -> Vec<String> {
    let unseen =
        "all its work: its repository was missing, or its directory belonged to another user";
    let unseen = teardown.unseen.then(|| unseen.to_owned());
    let lacks = teardown.rescue.iter().flat_map(|rescue| rescue.lacks.iter().cloned());
    unseen.into_iter().chain(lacks).collect()
}

impl RemovedView {
    /// Returns the result of a removal. An environment that never existed is reported as
    /// tombstoned, with `head` as its record.
    #[must_use]
    pub fn of(id: &str, found: Option<&Environment>, head: Seq) -> Self {
        let teardown = found.and_then(|e| e.teardown.as_ref());
        let trash = teardown.and_then(|t| t.trash.as_ref());
        Self {
            id: id.to_owned(),
            phase: found.map_or(Phase::Tombstoned, |e| e.phase).as_str().to_owned(),
            incarnation: found.map_or(0, |e| e.incarnation),
            adopted: found.is_some_and(|e| e.adopted),
            rescue: teardown.map(refs).unwrap_or_default(),
            lacks: teardown.map(lacks).unwrap_or_default(),
            notes: found.map(notes).unwrap_or_default(),
            branch_deleted: teardown.is_some_and(|t| t.branch_deleted),
            branch_reason: teardown.map(|t| t.branch_reason.clone()).unwrap_or_default(),
            spared: teardown.map(|t| processes(&t.spared)).unwrap_or_default(),
            survivors: teardown.map(|t| processes(&t.survivors)).unwrap_or_default(),
            hook: teardown.and_then(|t| t.hook_fault.as_ref()).map(Problem::of),
            trash: trash.map(ToString::to_string),
            seq: found.map_or(head, |e| e.seq).0,
        }
    }
}
