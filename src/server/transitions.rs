//! What an environment's row may become. Pure; the one writer (`store.rs`) applies it.

/// Where an environment stands, as far as the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being made or brought back.
    Provisioning,
    /// May be used.
    Ready,
    /// Nobody uses it; it goes when its grace is over.
    Retiring,
    /// Something went wrong; the row says what.
    Error,
    /// The host was told to destroy it.
    Destroying,
    /// Over.
    Destroyed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Provisioning,
        Self::Ready,
        Self::Retiring,
        Self::Error,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// The name in rows and answers.
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

    /// The status of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether the host is told that it lives. One that is being destroyed does until the host says
    /// that it is over: how it goes is for that order to say, not for the live set.
    #[must_use]
    pub fn is_live(self) -> bool {
        self != Self::Destroyed
    }
}

/// What happens to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Somebody wants it made, or brought back.
    Wanted,
    /// The attempt made it.
    Made,
    /// The attempt failed.
    NotMade,
    /// Nobody uses it any more.
    Retire,
    /// Somebody uses it again.
    Revive,
    /// The host is about to be told to destroy it.
    DestroyStarted,
    /// The attempt destroyed it.
    DestroyDone,
    /// The attempt failed.
    DestroyFailed,
    /// The host refused it and serves it as before.
    DestroyRefused,
    /// Nothing was heard of the attempt for too long.
    DestroyLost,
    /// The host says that it is being made there.
    SeenMaking,
    /// The host says that it serves it.
    SeenReady,
    /// The host says that making it failed.
    SeenFailed,
    /// The host says that it is over.
    SeenOver,
    /// The host does not have it.
    SeenMissing,
}

impl Change {
    /// All of them.
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

    /// Whether it is the end of an attempt, which must be the one that is under way.
    #[must_use]
    pub fn ends_attempt(self) -> bool {
        use Change::{DestroyDone, DestroyFailed, DestroyLost, DestroyRefused, Made, NotMade};
        matches!(self, Made | NotMade | DestroyDone | DestroyFailed | DestroyRefused | DestroyLost)
    }
}

/// What a change makes of a row; none when it makes nothing of it.
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
        // A late success counts: the attempt is the last one.
        (Destroying | Error, Change::DestroyDone) => Destroyed,
        (Destroying, Change::DestroyFailed | Change::DestroyLost) => Error,
        (Destroying, Change::DestroyRefused) => Ready,
        (Provisioning | Error, Change::SeenReady) => Ready,
        (Destroyed, Change::SeenReady) => Ready,
        // A life that is newer than the one that was to be destroyed.
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

    #[test]
    fn what_is_destroyed_comes_back_only_when_wanted_or_seen_to_live() {
        let ways: Vec<Change> =
            Change::ALL.into_iter().filter(|c| next(Status::Destroyed, *c).is_some()).collect();
        assert_eq!(ways, [Change::Wanted, Change::SeenMaking, Change::SeenReady]);
    }

    #[test]
    fn nothing_is_destroyed_without_the_host() {
        for from in Status::ALL {
            for change in Change::ALL {
                let destroyed = next(from, change) == Some(Status::Destroyed);
                let told =
                    matches!(change, Change::DestroyDone | Change::SeenOver | Change::SeenMissing);
                assert!(!destroyed || told, "{from:?} {change:?}");
            }
        }
    }

    #[test]
    fn every_state_but_the_last_has_a_way_out_of_it() {
        for from in Status::ALL {
            assert!(Change::ALL.into_iter().any(|c| next(from, c).is_some()), "{from:?}");
            assert_eq!(Status::parse(from.as_str()), Some(from));
        }
    }
}
