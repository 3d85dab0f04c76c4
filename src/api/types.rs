//! Wire types of the API. Changes are additive only; requests with unknown fields are refused.

use serde::{Deserialize, Serialize};

use crate::core::event::ProcessSeen;
use crate::core::model::environment::Teardown;
use crate::core::model::lease::Lease;
use crate::core::{Environment, Fault, LeaseId, Phase, Seq, State};
use crate::format::rfc3339;
use crate::world::status::types::Status;

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct EnvironmentView {
    /// Its name.
    pub id: String,
    /// Which life of the name, counted from 1.
    pub incarnation: u32,
    /// `provisioning`, `ready`, `retiring`, `tearing_down`, `tombstoned` or `failed`.
    pub phase: String,
    /// Where its worktree is, will be, or was.
    pub path: String,
    /// The branch that was checked out when it was made.
    pub branch: String,
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
    /// What it looked like when somebody last asked, in lists only; asking for a list looks at no
    /// worktree.
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

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LeaseView {
    /// Its name, for `release`.
    pub id: String,
    /// The environment it is on.
    pub environment: String,
    /// When it ends by itself, RFC 3339.
    pub until: String,
    /// What for.
    pub purpose: String,
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

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ProcessView {
    /// Its id.
    pub pid: u32,
    /// Its program, without arguments.
    pub name: String,
    /// What ties it to the environment: `cgroup`, `group`, `marker`, `child`, `cwd`, `file`, ...
    pub why: String,
    /// Whether a removal would end it; bystanders are left alone.
    pub ours: bool,
}

fn processes(list: &[ProcessSeen]) -> Vec<ProcessView> {
    list.iter().map(|p| ProcessView::of(p, false)).collect()
}

fn refs(teardown: &Teardown) -> Vec<String> {
    let rescue = teardown.rescue.iter();
    let nested = rescue.clone().flat_map(|r| &r.nested).map(|nested| nested.reference.clone());
    let own = rescue.map(|r| r.reference.clone());
    let all = own.chain(nested).chain(teardown.other_refs.iter().cloned());
    all.filter(|reference| !reference.is_empty()).collect()
}

/// Returns notes on a removal; one says that an adopted worktree is left in place.
fn notes(env: &Environment) -> Vec<String> {
    let stays = "an adopted worktree is never deleted";
    let stays = env.adopted.then(|| format!("its worktree stays at {}: {stays}", env.plan.path));
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

impl ProcessView {
    /// Returns the wire form of a process; `ours` says whether a removal ends it.
    #[must_use]
    pub fn of(seen: &ProcessSeen, ours: bool) -> Self {
        Self { pid: seen.pid, name: seen.name.clone(), why: seen.why.clone(), ours }
    }
}

/// An error, as in RFC 9457, with the cause chain and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable code to match on.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    /// What it is about.
    pub evidence: Vec<String>,
    /// The next step.
    pub hint: String,
    /// The code again, as a URI reference (RFC 9457 `type`).
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The HTTP status it came with; 0 inside another answer.
    #[serde(default)]
    pub status: u16,
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

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLease {
    /// How long, in seconds.
    pub seconds: u64,
    /// What for.
    #[serde(default)]
    pub purpose: String,
    /// A lease to extend; a new one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A request to trust the hooks that a repository has now, or to take trust back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// A directory inside the repository, absolute.
    pub repo: String,
    /// The hash that was shown to the user; none takes all trust back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What is trusted in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TrustView {
    /// Its common git directory.
    pub repo: String,
    /// SHA-256 of each trusted hook, oldest first.
    pub trusted: Vec<String>,
    /// The setup hook that its worktree has now, if any.
    pub hook: Option<String>,
    /// SHA-256 of that hook.
    pub hash: Option<String>,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DaemonView {
    /// The last record that the data directory is known to have had, when its log was put back from
    /// a backup that had fewer; null in the ordinary case.
    #[serde(default)]
    pub log_had: Option<u64>,
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How many daemons have started on this log.
    pub boot: u32,
    /// Its data directory.
    pub data_dir: String,
    /// The identity of its log, in hex.
    pub log_id: String,
    /// The last record.
    pub seq: u64,
    /// The git that it uses.
    pub git: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Environments by phase.
    pub environments: std::collections::BTreeMap<String, usize>,
    /// Effects that are owed.
    pub owed: usize,
    /// Scheduling of the log writer: `real-time`, `short slice` or `ordinary`.
    pub priority: String,
    /// Processes that it has started, git's above all.
    pub processes_started: u64,
    /// How changes of worktrees are seen.
    pub watching: WatchingView,
    /// How it stands with the control server, where there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
}

/// How it stands with the control server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Where the server is.
    pub address: String,
    /// `connecting`, `open`, `waiting`, `ended`.
    pub stage: String,
    /// The name of this host there.
    pub host: String,
    /// The last live set that was taken in.
    pub epoch: u64,
    /// Records that the server has taken in.
    pub acked: u64,
    /// Records that it refused for good.
    pub skipped: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Why the last one ended, or could not be opened.
    pub error: String,
}

/// How changes of worktrees are seen, and how often somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct WatchingView {
    /// `inotify` or `notify`.
    pub backend: String,
    /// Worktrees that are watched.
    pub worktrees: usize,
    /// Directories that are watched.
    pub watches: usize,
    /// Most of them that this daemon takes.
    pub budget: usize,
    /// Most that the system allows the user.
    pub limit: usize,
    /// Instances of the system's in use.
    pub instances: usize,
    /// Who follows changes at the moment.
    pub followers: usize,
    /// Environments by how they are watched: `on`, `arming`, `waiting`, `polling`, `absent`,
    /// `gave_up`.
    pub stages: std::collections::BTreeMap<String, usize>,
    /// Watches of worktrees and repositories that were ever begun.
    pub begun: u64,
    /// Times that the system dropped news.
    pub overflows: u64,
    /// Looks at worktrees that cannot be watched.
    pub polls: u64,
    /// Times that a worktree had to be polled instead.
    pub degraded: u64,
    /// Watches that were given up.
    pub give_ups: u64,
    /// Looks at worktrees because somebody asked.
    pub statuses_computed: u64,
    /// Of these, looks at nothing but what had changed.
    #[serde(default)]
    pub statuses_partial: u64,
    /// Answers without a look.
    pub statuses_shared: u64,
}

/// Which environments to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Also those that are tombstoned.
    #[serde(default)]
    pub all: bool,
}

/// How long to wait for the end of an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// Seconds; without it the answer comes at once.
    #[serde(default)]
    pub wait: Option<u64>,
}

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

/// Which records to send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only records after this one.
    #[serde(default)]
    pub since: u64,
    /// Only records about this environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
    /// Watch the worktrees meanwhile, and tell of changes in them as `environment.changed`; follows
    /// by itself.
    #[serde(default)]
    pub watch: bool,
}

impl Problem {
    /// Returns the wire form of a fault. The status is 0; [`super::problem::Refusal`] sets it.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        Self {
            code: fault.code.as_str().to_owned(),
            message: fault.message.clone(),
            causes: fault.causes.clone(),
            evidence: fault.evidence.clone(),
            hint: fault.hint.clone(),
            kind: format!("urn:groundskeeper:{}", fault.code),
            status: 0,
        }
    }
}

impl LeaseView {
    /// Returns the wire form of a lease; its times are RFC 3339.
    #[must_use]
    pub fn of(id: &LeaseId, lease: &Lease) -> Self {
        Self {
            id: id.to_string(),
            environment: lease.environment.to_string(),
            until: rfc3339(lease.until),
            purpose: lease.purpose.clone(),
        }
    }
}

impl EnvironmentView {
    /// Returns the wire form of an environment, without `known`, which only lists have.
    #[must_use]
    pub fn of(state: &State, e: &Environment) -> Self {
        let leases = state.leases().filter(|(_, l)| l.environment == e.id);
        Self {
            id: e.id.to_string(),
            incarnation: e.incarnation,
            phase: e.phase.as_str().to_owned(),
            path: e.plan.path.to_string(),
            branch: e.plan.branch.clone(),
            base: e.base.as_ref().map(|b| b.commit.clone()),
            base_ref: e.base.as_ref().map(|b| b.reference.clone()).filter(|r| !r.is_empty()),
            behind: e.base.as_ref().map_or(0, |b| b.behind),
            fetch: e.base.as_ref().map(|b| b.fetch.clone()).filter(|f| !f.is_empty()),
            repo: e.plan.repository.common_dir.to_string(),
            leases: leases.map(|(id, lease)| LeaseView::of(id, lease)).collect(),
            created_at: rfc3339(e.created_at),
            changed_at: rfc3339(e.changed_at),
            seq: e.seq.0,
            step: e.owed.as_ref().map(|o| o.step.as_str().to_owned()),
            error: e.fault.as_ref().map(Problem::of),
            refusal: e.refusal.as_ref().map(Problem::of),
            checkout: e.worktree.as_ref().map(|w| CheckoutView {
                by: w.checkout.clone(),
                reason: w.checkout_reason.clone(),
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
        }
    }
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
