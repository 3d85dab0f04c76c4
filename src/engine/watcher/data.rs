//! Data of the watch service: changes, counters and options, and the inputs that failures become.

use std::collections::BTreeMap;

use crate::core::watch_machine::{Input, Stage};
use crate::core::{EnvironmentId, Seq, Time};
use crate::world::watch::backend::{Failure, Kinds};

/// A notification that an environment has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The environment that changed.
    pub environment: EnvironmentId,
    /// Its incarnation at that time.
    pub incarnation: u32,
    /// Kinds of the changes, merged.
    pub kinds: Kinds,
    /// Time of the notification.
    pub at: Time,
    /// Last committed record at that time.
    pub seq: Seq,
}

/// Counters for users and for monitoring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Environments by watch stage: `arming`, `on`, `polling`, `waiting`, `gave_up`, `absent`.
    pub stages: BTreeMap<&'static str, usize>,
    /// Number of polls of environments that cannot be watched.
    pub polls: u64,
    /// Number of watches that were given up.
    pub give_ups: u64,
    /// Number of switches from watching to polling.
    pub degraded: u64,
    /// Number of subscriptions now.
    pub subscriptions: usize,
}

/// Options of watching.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether environments without a subscriber are watched too.
    pub always: bool,
    /// Speed of the retry clock: 1; tests use more to pass half an hour quickly.
    pub speed: u32,
}

/// Returns the name of a stage, as the counters have it.
pub(super) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Off | Stage::Arming => "arming",
        Stage::On(_) => "on",
        Stage::Waiting(_) => "waiting",
        Stage::Polling(..) => "polling",
        Stage::Absent => "absent",
        Stage::GaveUp => "gave_up",
    }
}

/// Returns the input that a failure is to the watch machine.
pub(super) fn input_of(failure: &Failure) -> Input {
    match failure {
        Failure::Limit(_) => Input::Limited,
        Failure::Absent(_) | Failure::Refused => Input::Absent,
        Failure::Failed(..) => Input::Failed,
    }
}

/// Returns the reason of a failure, for records and messages.
pub(super) fn reason(failure: &Failure) -> String {
    let cause = std::error::Error::source(failure).map(|e| format!(": {e}")).unwrap_or_default();
    format!("{failure}{cause}")
}
