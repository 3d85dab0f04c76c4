//! Wire types of environments: the request for one, and its state.

use serde::{Deserialize, Serialize};

use crate::core::{Environment, Phase, State};
use crate::format::rfc3339;
use crate::service::types::lease::LeaseView;
use crate::service::types::problem::Problem;
use crate::world::status::types::Status;

/// Which environments to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Also those that are tombstoned.
    #[serde(default)]
    pub all: bool,
    /// Only those after this id, for the next page.
    #[serde(default)]
    pub after: Option<String>,
    /// At most this many, at most 10,000; without it all of them, where they are no more than that.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only what the log says, without a look at the worktrees: for a caller that cannot wait.
    #[serde(default)]
    pub brief: bool,
    /// Also what has changed in each worktree by now, as far as that is known within 150 ms.
    #[serde(default)]
    pub changes: bool,
}

/// A label for an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLabel {
    /// What people call it: one line of at most 200 bytes. Null takes the label away.
    pub label: Option<String>,
}

/// Which life of an environment to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    /// Also the last life of one that is tombstoned, as the log describes it.
    #[serde(default)]
    pub all: bool,
    /// Also what has changed in its worktree by now, where that is known within 150 ms.
    #[serde(default)]
    pub changes: bool,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct EnvironmentView {
    /// Its name.
    pub id: String,
    /// What people call it; none when it has no label.
    #[serde(default)]
    pub label: Option<String>,
    /// Which life of the name, counted from 1.
    pub incarnation: u32,
    /// `provisioning`, `ready`, `retiring`, `tearing_down`, `tombstoned` or `failed`.
    pub phase: String,
    /// Where its worktree is, will be, or was.
    pub path: String,
    /// The branch that HEAD names now; the one that was checked out when it was made where HEAD
    /// names none, cannot be read, or is not looked at.
    pub branch: String,
    /// The branch that was checked out when it was made.
    #[serde(default)]
    pub made_branch: String,
    /// The commit of HEAD, when it is detached and was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
    /// Whether its directory was looked at and does not exist.
    #[serde(default)]
    pub missing: bool,
    /// Whether its worktree did not answer in time; then it is shown as it was at `seen_at`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// When it was last looked at, RFC 3339; only with `unseen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<String>,
    /// The commit it started from; null until that is known.
    pub base: Option<String>,
    /// The ref that commit was read from.
    pub base_ref: Option<String>,
    /// Commits of the ref's upstream that the base lacks.
    pub behind: u64,
    /// What a fetch did, when one was asked for: `done`, or why not.
    pub fetch: Option<String>,
    /// The repository: its common git directory.
    pub repo: String,
    /// Claims that it is in use.
    pub leases: Vec<LeaseView>,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When its phase last changed, RFC 3339.
    pub changed_at: String,
    /// The last record about it.
    pub seq: u64,
    /// What is being done for it, if anything.
    pub step: Option<String>,
    /// The error that explains a failed phase or a retry.
    pub error: Option<Problem>,
    /// Why the last removal was refused.
    pub refusal: Option<Problem>,
    /// How it was checked out.
    pub checkout: Option<CheckoutView>,
    /// What was copied by `.worktreeinclude`.
    pub included: Option<IncludedView>,
    /// Where the transcript of its setup hook is.
    pub transcript: Option<String>,
    /// Where its directory is in the trash.
    pub trash: Option<String>,
    /// What could not be removed.
    pub leftovers: Vec<String>,
    /// Made by somebody else: watched and leased, never deleted.
    pub adopted: bool,
    /// When a removal that was put off is tried again, RFC 3339.
    pub retry_at: Option<String>,
    /// What its worktree looked like when that was last found out; `changes` finds it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<SummaryView>,
}

/// What an environment looked like, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SummaryView {
    /// The branch that was checked out; none when HEAD was detached.
    pub branch: Option<String>,
    /// Whether there was nothing to commit and nothing untracked.
    pub clean: bool,
    /// In short, as `status` shows it: `+1 ~2 -3 ?4 !5`.
    pub changes: String,
    /// What was in progress.
    pub operation: Option<String>,
    /// When this was last known to be true, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// How a worktree was checked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct CheckoutView {
    /// `parallel`, or `git` for git's own.
    pub by: String,
    /// Why git's own was used; empty otherwise.
    pub reason: String,
    /// Tracked files.
    pub files: u64,
}

/// What an include copy did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct IncludedView {
    /// Files and links made.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many share their blocks with the source.
    pub reflinked: u64,
    /// What was skipped, and why.
    pub skipped: Vec<String>,
}

/// A request for an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewEnvironment {
    /// Its name; one is made up when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A directory inside the repository, absolute.
    pub repo: String,
    /// Branch, tag, commit or remote branch to start from; the default branch when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// An existing branch to check out; a new one named after the environment when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A new branch to make, by this name; not together with `branch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_branch: Option<String>,
    /// Ask the remote first.
    #[serde(default)]
    pub fetch: bool,
    /// Keep the worktree of a failed setup hook.
    #[serde(default)]
    pub keep_failed: bool,
    /// Do not run the setup hook.
    #[serde(default)]
    pub no_setup: bool,
    /// A tree from which git reads attributes for the checkout, as with `GIT_ATTR_SOURCE`; one that
    /// is not there is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<String>,
}

impl EnvironmentView {
    /// Returns the wire form of an environment as the log describes it, without `known`.
    #[must_use]
    pub fn of(state: &State, e: &Environment) -> Self {
        let leases = state.leases().filter(|(_, l)| l.environment == e.id);
        Self {
            id: e.id.to_string(),
            label: state.label(&e.id).map(ToString::to_string),
            incarnation: e.incarnation,
            phase: e.phase.as_str().to_owned(),
            path: e.plan.path.to_string(),
            branch: e.plan.branch.clone(),
            made_branch: e.plan.branch.clone(),
            detached: None,
            missing: false,
            unseen: false,
            seen_at: None,
            base: e.base.as_ref().map(|b| b.commit.clone()),
            base_ref: e.base.as_ref().and_then(|b| b.reference.clone()),
            behind: e.base.as_ref().map_or(0, |b| b.behind),
            fetch: e.base.as_ref().and_then(|b| b.fetch.clone()),
            repo: e.plan.repository.common_dir.to_string(),
            leases: leases.map(|(id, lease)| LeaseView::of(id, lease)).collect(),
            created_at: rfc3339(e.created_at),
            changed_at: rfc3339(e.changed_at),
            seq: e.seq.0,
            step: e.owed.as_ref().map(|o| o.step.as_str().to_owned()),
            error: e.fault.as_ref().map(Problem::of),
            refusal: e.refusal.as_ref().map(Problem::of),
            checkout: e.worktree.as_ref().map(|w| CheckoutView {
                by: w.checkout.to_string(),
                reason: w.checkout_reason.clone().unwrap_or_default(),
                files: w.files,
            }),
            included: e.included.as_ref().map(|i| IncludedView {
                files: i.files,
                bytes: i.bytes,
                reflinked: i.reflinked,
                skipped: i.skipped.clone(),
            }),
            transcript: e.setup.as_ref().map(|s| s.transcript.to_string()),
            trash: e.teardown.as_ref().and_then(|t| t.trash.as_ref()).map(ToString::to_string),
            leftovers: e.leftovers.clone(),
            adopted: e.adopted,
            retry_at: (e.phase == Phase::Retiring)
                .then(|| e.owed.as_ref().map(|o| rfc3339(o.not_before)))
                .flatten(),
            known: None,
        }
    }
}

impl SummaryView {
    /// Returns the short form of a status: counts that are zero are left out.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let c = &status.changes;
        let counts = [
            ('+', c.added),
            ('~', c.modified + c.retyped),
            ('>', c.renamed),
            ('-', c.deleted),
            ('!', c.conflicts),
            ('?', c.untracked),
        ];
        let shown = counts.iter().filter(|(_, n)| *n > 0).map(|(sign, n)| format!("{sign}{n}"));
        Self {
            branch: c.branch.clone(),
            clean: c.is_clean(),
            changes: shown.collect::<Vec<_>>().join(" "),
            operation: status.operation.map(str::to_owned),
            at: None,
        }
    }
}
