//! Legal status changes of an environment row. Pure; `store.rs`, the only writer, applies them.

/// Status of an environment, as far as the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being provisioned or restored.
    Provisioning,
    /// In service.
    Ready,
    /// Not in use; destroyed when its grace period ends.
    Retiring,
    /// An attempt failed or the environment is missing; the row holds the problem.
    Error,
    /// A destroy was requested and not settled yet.
    Destroying,
    /// Destroyed; only a new incarnation leads out of it.
    Destroyed,
}

impl Status {
    /// All statuses, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Provisioning,
        Self::Ready,
        Self::Retiring,
        Self::Error,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// Returns the name in rows and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Retiring => "retiring",
            Self::Error => "error",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// Returns the status with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Returns whether the status is part of the live set. An environment in `Destroying` is, until
    /// the host reports its end: the destroy command decides how it ends, not the live set.
    #[must_use]
    pub fn is_live(self) -> bool {
        self != Self::Destroyed
    }
}

/// An event that may change the status of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A provision or restore is requested.
    Wanted,
    /// The attempt provisioned or restored it.
    Made,
    /// The attempt to provision or restore it failed.
    NotMade,
    /// It is not in use any more; its grace period begins.
    Retire,
    /// It is in use again.
    Revive,
    /// A destroy is requested, before the host receives the command.
    DestroyStarted,
    /// The attempt destroyed it.
    DestroyDone,
    /// The attempt to destroy it failed.
    DestroyFailed,
    /// The host refused to destroy it and keeps it in service.
    DestroyRefused,
    /// The attempt to destroy it was not answered for too long.
    DestroyLost,
    /// The host reports that it is being provisioned there.
    SeenMaking,
    /// The host reports that it is in service.
    SeenReady,
    /// The host reports that provisioning it failed.
    SeenFailed,
    /// The host reports that it is tombstoned.
    SeenOver,
    /// The host reports that it does not have it.
    SeenMissing,
}

impl Change {
    /// All changes, in the order of declaration.
    pub const ALL: [Self; 15] = [
        Self::Wanted,
        Self::Made,
        Self::NotMade,
        Self::Retire,
        Self::Revive,
        Self::DestroyStarted,
        Self::DestroyDone,
        Self::DestroyFailed,
        Self::DestroyRefused,
        Self::DestroyLost,
        Self::SeenMaking,
        Self::SeenReady,
        Self::SeenFailed,
        Self::SeenOver,
        Self::SeenMissing,
    ];

    /// Returns whether the change ends an attempt; it must then name the row's current attempt.
    #[must_use]
    pub fn ends_attempt(self) -> bool {
        use Change::{DestroyDone, DestroyFailed, DestroyLost, DestroyRefused, Made, NotMade};
        matches!(self, Made | NotMade | DestroyDone | DestroyFailed | DestroyRefused | DestroyLost)
    }
}

/// Returns the status after a change; `None` if the change is illegal in this status.
#[must_use]
pub fn next(from: Status, change: Change) -> Option<Status> {
    use Status::{Destroyed, Destroying, Error, Provisioning, Ready, Retiring};
    Some(match (from, change) {
        (Ready | Error | Destroyed, Change::Wanted) => Provisioning,
        (Provisioning, Change::Made) => Ready,
        (Provisioning, Change::NotMade | Change::SeenFailed) => Error,
        (Ready, Change::Retire) => Retiring,
        (Retiring, Change::Revive) => Ready,
        (Ready | Retiring | Error | Provisioning, Change::DestroyStarted) => Destroying,
        // A late success counts: the row still names this attempt.
        (Destroying | Error, Change::DestroyDone) => Destroyed,
        (Destroying, Change::DestroyFailed | Change::DestroyLost) => Error,
        (Destroying, Change::DestroyRefused) => Ready,
        (Provisioning | Error, Change::SeenReady) => Ready,
        (Destroyed, Change::SeenReady) => Ready,
        // An incarnation newer than the one that was destroyed.
        (Destroyed | Destroying | Error, Change::SeenMaking) => Provisioning,
        (Provisioning | Ready | Retiring | Error | Destroying, Change::SeenOver) => Destroyed,
        (Ready | Retiring, Change::SeenMissing) => Error,
        (Destroying, Change::SeenMissing) => Destroyed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a new request, or the host's report that it is being made or ready, changes the status.
    #[test]
    fn destroyed_leaves_only_by_recreation() {
        let ways: Vec<Change> =
            Change::ALL.into_iter().filter(|c| next(Status::Destroyed, *c).is_some()).collect();
        assert_eq!(ways, [Change::Wanted, Change::SeenMaking, Change::SeenReady]);
    }

    #[test]
    fn only_host_reports_lead_to_destroyed() {
        for from in Status::ALL {
            for change in Change::ALL {
                let destroyed = next(from, change) == Some(Status::Destroyed);
                let is_reported =
                    matches!(change, Change::DestroyDone | Change::SeenOver | Change::SeenMissing);
                assert!(!destroyed || is_reported, "{from:?} {change:?}");
            }
        }
    }

    /// Statuses also round-trip by name.
    #[test]
    fn every_status_has_exit() {
        for from in Status::ALL {
            assert!(Change::ALL.into_iter().any(|c| next(from, c).is_some()), "{from:?}");
            assert_eq!(Status::parse(from.as_str()), Some(from));
        }
    }
}
