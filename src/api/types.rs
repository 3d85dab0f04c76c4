//! Wire types of the API: those of the use cases, and queries that only HTTP has.
//!
//! Changes are additive only; requests with unknown fields are refused.

use serde::{Deserialize, Serialize};

pub use crate::service::types::daemon::{DaemonView, LastSweepView, SessionView, WatchingView};
pub use crate::service::types::environment::{
    CheckoutView, EnvironmentView, IncludedView, ListQuery, NewEnvironment, NewLabel, ShowQuery,
    SummaryView,
};
pub use crate::service::types::lease::{LeaseView, NewLease};
pub use crate::service::types::problem::Problem;
pub use crate::service::types::process::ProcessView;
pub use crate::service::types::removal::{RemoveQuery, RemovedView};
pub use crate::service::types::trust::{TrustRequest, TrustView};

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

/// Which records to send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[cfg_attr(test, into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only records after this one.
    #[serde(default)]
    pub since: u64,
    /// Only records from this time on, RFC 3339, or how long ago, such as `10m`.
    #[serde(default)]
    pub from: Option<String>,
    /// Only the last so many records, at most 10,000.
    #[serde(default)]
    pub last: Option<usize>,
    /// Only records about this environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// Also what each record says in words, as `text`.
    #[serde(default)]
    pub describe: bool,
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
    /// Watch the worktrees meanwhile, and tell of changes in them as `environment.changed`; follows
    /// by itself.
    #[serde(default)]
    pub watch: bool,
}
