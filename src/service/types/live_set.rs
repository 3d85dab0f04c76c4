//! Wire types of live sets.

use serde::{Deserialize, Serialize};

use crate::core::EnvironmentId;
use crate::core::model::live_set::Report;

/// Server name in live sets that the user submits.
pub const BY_HAND: &str = "by-hand";

/// A live set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LiveView {
    /// Which server says so.
    #[serde(default = "by_hand")]
    pub server: String,
    /// The server's count of its live sets; older ones are passed over.
    pub epoch: u64,
    /// The environments that are not destroyed. There is no default: a set that is missing is
    /// never an empty one.
    pub live: Vec<String>,
    /// The last record that the server had heard of; what began later is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
    /// Somebody has looked at how much it takes away.
    #[serde(default)]
    pub confirmed: bool,
}

fn by_hand() -> String {
    BY_HAND.to_owned()
}

/// Which live set is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmView {
    /// Its epoch.
    pub epoch: u64,
}

/// An environment that was left alone though it is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct KeptView {
    /// Its name.
    pub id: String,
    /// Why: `leased`, `processes`, `adopted`, `newer`, `more`.
    pub why: String,
}

/// What a live set came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReconciledView {
    /// Its epoch.
    pub epoch: u64,
    /// Older than one that was taken in: nothing was done.
    pub outdated: bool,
    /// It would take away too much at once; it waits to be confirmed.
    pub held: bool,
    /// Not listed and idle: being torn down, or waiting for the confirmation.
    pub retired: Vec<String>,
    /// Not listed, and left alone.
    pub kept: Vec<KeptView>,
    /// Listed, and not here.
    pub missing: Vec<String>,
    /// Listed, and back in service.
    pub healed: Vec<String>,
}

impl ReconciledView {
    pub(crate) fn of(epoch: u64, report: Report) -> Self {
        let names = |ids: Vec<EnvironmentId>| ids.iter().map(ToString::to_string).collect();
        let kept = report.kept.into_iter();
        let kept = kept.map(|k| KeptView { id: k.environment.to_string(), why: k.why.to_string() });
        Self {
            epoch,
            outdated: report.outdated,
            held: report.held,
            retired: names(report.retired),
            kept: kept.collect(),
            missing: names(report.missing),
            healed: names(report.healed),
        }
    }
}
