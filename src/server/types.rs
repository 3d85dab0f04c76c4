//! Request and response types of the control server's HTTP API.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalog::Host;
use super::operations::Operation;
use super::threads::Thread;
use crate::core::Time;
use crate::format::rfc3339;
use crate::server::registry::LiveSession;
use crate::server::store::EnvironmentRow;
use crate::service::types::live_set::ReconciledView;
use crate::service::types::problem::Problem;

fn time(ms: i64) -> String {
    let nanos = u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000);
    rfc3339(Time(nanos))
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct HostView {
    /// Its name.
    pub id: String,
    /// Whether its daemon has a session.
    pub connected: bool,
    /// The version of that daemon.
    pub version: Option<String>,
    /// The process of that daemon.
    pub instance: Option<String>,
    /// How often its live set has changed.
    pub epoch: u64,
    /// Records of its log that are taken in.
    pub acked: u64,
    /// When it was last heard of, RFC 3339.
    pub seen_at: Option<String>,
    /// Why not everything that it told is recorded here; left out when all of it is. Until it has
    /// told everything again, no live set retires anything there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// What the last live set came to.
    pub reconciled: Option<ReconciledView>,
    /// How long it took both sides to agree when the session was opened, in microseconds.
    pub settled_us: Option<u64>,
}

impl HostView {
    pub(super) fn of(host: &Host, live: Option<LiveSession>) -> Self {
        let settled_us = live.as_ref().and_then(|live| live.settled_us);
        let (version, instance, reconciled) = match live {
            Some(live) => (Some(live.version), Some(live.instance), live.reconciled),
            None => (None, None, None),
        };
        Self {
            id: host.id.clone(),
            connected: instance.is_some(),
            version,
            instance,
            epoch: host.epoch,
            acked: host.acked,
            seen_at: host.seen_at.map(time),
            incomplete: host.incomplete.clone(),
            reconciled,
            settled_us,
        }
    }
}

/// A new host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Its name.
    pub id: String,
    /// Give a known one another key.
    #[serde(default)]
    pub replace: bool,
}

/// The key of a host; it is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct HostKey {
    /// The host.
    pub id: String,
    /// The key.
    pub key: String,
}

/// An environment, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RowView {
    /// Its host.
    pub host: String,
    /// Its name.
    pub id: String,
    /// `provisioning`, `ready`, `retiring`, `error`, `destroying`, `destroyed`.
    pub status: String,
    /// Which life of it, as far as the host has said.
    pub incarnation: u32,
    /// Its directory on the host.
    pub path: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// Why it is in error.
    pub error: Option<Problem>,
    /// The operation that may change it now.
    pub operation: Option<String>,
    /// When it goes for want of use, RFC 3339.
    pub retire_at: Option<String>,
    /// When it was first heard of, RFC 3339.
    pub created_at: String,
    /// When its status last changed, RFC 3339.
    pub changed_at: String,
}

impl RowView {
    pub(super) fn of(row: EnvironmentRow) -> Self {
        Self {
            host: row.host,
            id: row.id,
            status: row.status.as_str().to_owned(),
            incarnation: row.incarnation,
            path: row.path,
            branch: row.branch,
            error: row.error,
            operation: row.attempt,
            retire_at: row.retire_at.map(time),
            created_at: time(row.created_at),
            changed_at: time(row.changed_at),
        }
    }
}

/// An environment to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schema(as = Wanted))]
pub struct NewEnvironment {
    /// Its name.
    pub id: String,
    /// A directory inside the repository, on the host.
    pub repo: String,
    /// Where to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// An existing branch.
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
}

/// How long to wait for the end of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
pub struct WaitParams {
    /// Seconds; the answer comes at once when it is left out.
    pub wait: Option<u64>,
}

/// How to destroy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
pub struct Destroy {
    /// Seconds to wait for the end.
    pub wait: Option<u64>,
    /// Unsaved work goes to rescue and trash, threads are ended.
    #[serde(default)]
    pub force: bool,
}

/// Which environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
pub struct Which {
    /// Also those that are destroyed.
    #[serde(default)]
    pub all: bool,
}

/// What of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
pub struct Diff {
    /// Only what is not committed.
    #[serde(default)]
    pub head: bool,
    /// Most bytes.
    pub bytes: Option<u64>,
}

/// When an environment that nobody uses is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grace {
    /// In so many seconds.
    #[serde(default = "grace")]
    pub seconds: u32,
}

fn grace() -> u32 {
    300
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct OperationView {
    /// Its name.
    pub id: String,
    /// On which host.
    pub host: String,
    /// In which environment.
    pub environment: String,
    /// What is done.
    pub command: String,
    /// The HTTP status of the host's answer; none while it is under way.
    pub status: Option<u16>,
    /// The host's answer.
    #[cfg_attr(test, schema(value_type = Option<Object>))]
    pub answer: Option<Value>,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
}

impl OperationView {
    pub(super) fn of(operation: Operation) -> Self {
        Self {
            id: operation.id,
            host: operation.host,
            environment: operation.environment,
            command: operation.command,
            status: operation.status,
            answer: operation.answer,
            created_at: time(operation.created_at),
            ended_at: operation.ended_at.map(time),
        }
    }
}

/// A thread or terminal to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewThread {
    /// Its name.
    pub id: String,
    /// `thread` or `terminal`.
    #[serde(default = "thread")]
    pub kind: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

fn thread() -> String {
    "thread".to_owned()
}

/// A thread or terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ThreadView {
    /// Its host.
    pub host: String,
    /// Its name.
    pub id: String,
    /// Its environment.
    pub environment: String,
    /// `thread` or `terminal`.
    pub kind: String,
    /// Who answers for it.
    pub holder: Option<String>,
    /// The lease that it has on the environment.
    pub lease: String,
    /// Whether it goes on.
    pub active: bool,
    /// Why it does not, when it was not ended.
    pub error: Option<String>,
}

impl ThreadView {
    pub(super) fn of(thread: Thread) -> Self {
        let Thread { host, id, environment, kind, holder, lease, active, error } = thread;
        Self { host, id, environment, kind, holder, lease, active, error }
    }
}

/// A command to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The thread that it is run for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Most seconds that it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}
