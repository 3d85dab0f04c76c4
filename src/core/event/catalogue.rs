//! The catalogue of events: every kind with its number, version and subject.

use serde::Serialize;

use crate::id::{EnvironmentId, MigrationId, Seq, Time};

#[allow(clippy::wildcard_imports, reason = "the catalogue names every payload")]
use crate::event::{
    archive::*, clean::*, common::*, host::*, live_set::*, migration::*, provision::*, teardown::*,
    watch::*,
};

/// One event as it is stored in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position; consecutive, starting at 1.
    pub seq: Seq,
    /// Wall clock of the daemon at the decision. Never runs backwards within a log.
    pub at: Time,
    /// Number of the daemon start on this log that wrote it, counted from 1.
    pub boot: u32,
    /// The fact itself.
    pub event: Event,
}

/// The list of event kinds: `variant = kind number, version`, where the version is the newest and
/// the one that is written. The journal's codec and the golden files are made from this list.
#[macro_export]
macro_rules! for_each_event {
    ($then:ident) => {
        $then! {
            DaemonStarted = 1, 1; DaemonStopped = 2, 1; RetentionChanged = 3, 2;
            DataDirectoryMoved = 4, 1; DataDirectoryCopied = 5, 1; LogFoundOlder = 6, 1;
            ProvisionRequested = 10, 3; BaseResolved = 11, 1; WorktreeAdded = 12, 1;
            FilesIncluded = 13, 1; SetupStarted = 14, 1; SetupFinished = 15, 1;
            EnvironmentReady = 16, 1; ProvisionFailed = 17, 1; CancelRequested = 18, 1;
            RolledBack = 19, 3; AttemptFailed = 20, 1; IndexRefreshed = 21, 1;
            RestoreRequested = 22, 2; Restored = 23, 1; RescueApplied = 24, 1;
            EnvironmentAdopted = 25, 2;
            DestroyRequested = 30, 2; DestroyRefused = 31, 1; TeardownInspected = 32, 3;
            DirectoryTrashed = 33, 1; RegistrationRemoved = 34, 1; BranchSettled = 35, 1;
            Tombstoned = 36, 1; TeardownGaveUp = 37, 1;
            LeaseGranted = 40, 1; LeaseReleased = 41, 1; LeaseExpired = 42, 1;
            RepositoryTrusted = 50, 1; RepositoryDistrusted = 51, 1; RepositoryMoved = 52, 1;
            TeardownHookStarted = 60, 1; TeardownHookFinished = 61, 1; ProcessesEnded = 62, 1;
            WorkRescued = 63, 2; InspectionOutdated = 64, 1; TeardownPostponed = 65, 1;
            TrashMeasured = 70, 1; PurgeDecided = 71, 1; TrashPurged = 72, 1;
            RemainsAttemptFailed = 73, 1; RescueDropRequested = 74, 1; RescueDropped = 75, 1;
            LateWorkRescued = 76, 2; TrashLookFailed = 77, 1;
            ProcessStarted = 80, 1; ProcessExited = 81, 1;
            CleanPurgeDecided = 82, 1; CleanPurged = 83, 1; CleanAttemptFailed = 84, 1;
            CleanRequested = 85, 2; Cleaned = 86, 2; CleanUndoRequested = 87, 1;
            CleanUndone = 88, 1;
            SweepRequested = 90, 1; SweepFinished = 91, 1;
            WatcherGaveUp = 100, 1; WatcherResumed = 101, 1;
            LiveSetTaken = 110, 1; LiveSetHeld = 111, 1; RunRequested = 112, 1; RunFinished = 113, 1;
            MigrationRequested = 120, 1; SourceInspected = 121, 1; SourceCopied = 122, 1;
            SourceNormalised = 123, 1; StagingBuilt = 124, 1; SecretsWritten = 125, 1;
            StagingVerified = 126, 1; FlipBegun = 127, 1; Flipped = 128, 1;
            MigrationFinished = 129, 1; MigrationFailed = 130, 1; MigrationRolledBack = 131, 1;
            MigrationAttemptFailed = 132, 1; MigrationUndoRequested = 133, 1;
            MigrationUndone = 134, 1; MigrationUndoRefused = 135, 1;
        }
    };
}

macro_rules! event_enum {
    ($($kind:ident = $number:literal, $version:literal;)*) => {
        /// An event: any fact that the log can hold.
        #[allow(missing_docs, reason = "each variant is documented at its payload")]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($kind($kind),)*
            Opaque(Opaque),
        }

        impl Event {
            /// Returns the stable number of the kind.
            #[must_use]
            pub fn kind_number(&self) -> u32 {
                match self { $(Self::$kind(_) => $number,)* Self::Opaque(o) => o.kind }
            }

            /// Returns the newest version of the kind, which is the one that is written.
            #[must_use]
            pub fn kind_version(&self) -> u16 {
                match self { $(Self::$kind(_) => $version,)* Self::Opaque(o) => o.version }
            }

            /// Returns the kind's name for users and scripts.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => stringify!($kind),)* Self::Opaque(_) => "Opaque" }
            }
        }

        $(impl From<$kind> for Event {
            fn from(payload: $kind) -> Self { Self::$kind(payload) }
        })*
    };
}
for_each_event!(event_enum);

impl Event {
    /// Returns the environment that the event is about, if it is about one.
    #[must_use]
    pub fn environment(&self) -> Option<&EnvironmentId> {
        Some(match self {
            Self::ProvisionRequested(e) => &e.environment,
            Self::BaseResolved(e) => &e.environment,
            Self::WorktreeAdded(e) => &e.environment,
            Self::FilesIncluded(e) => &e.environment,
            Self::SetupStarted(e) => &e.environment,
            Self::SetupFinished(e) => &e.environment,
            Self::EnvironmentReady(e) => &e.environment,
            Self::ProvisionFailed(e) => &e.environment,
            Self::CancelRequested(e) => &e.environment,
            Self::RolledBack(e) => &e.environment,
            Self::AttemptFailed(e) => &e.environment,
            Self::IndexRefreshed(e) => &e.environment,
            Self::DestroyRequested(e) => &e.environment,
            Self::DestroyRefused(e) => &e.environment,
            Self::TeardownInspected(e) => &e.environment,
            Self::DirectoryTrashed(e) => &e.environment,
            Self::RegistrationRemoved(e) => &e.environment,
            Self::BranchSettled(e) => &e.environment,
            Self::Tombstoned(e) => &e.environment,
            Self::TeardownGaveUp(e) => &e.environment,
            Self::WatcherGaveUp(e) => &e.environment,
            Self::WatcherResumed(e) => &e.environment,
            Self::RestoreRequested(e) => &e.environment,
            Self::Restored(e) => &e.environment,
            Self::RescueApplied(e) => &e.environment,
            Self::EnvironmentAdopted(e) => &e.environment,
            Self::TeardownHookStarted(e) => &e.environment,
            Self::TeardownHookFinished(e) => &e.environment,
            Self::ProcessesEnded(e) => &e.environment,
            Self::WorkRescued(e) => &e.environment,
            Self::InspectionOutdated(e) => &e.environment,
            Self::TeardownPostponed(e) => &e.environment,
            Self::TrashMeasured(e) => &e.environment,
            Self::PurgeDecided(e) => &e.environment,
            Self::TrashPurged(e) => &e.environment,
            Self::RemainsAttemptFailed(e) => &e.environment,
            Self::RescueDropRequested(e) => &e.environment,
            Self::RescueDropped(e) => &e.environment,
            Self::LateWorkRescued(e) => &e.environment,
            Self::TrashLookFailed(e) => &e.environment,
            Self::ProcessStarted(e) => &e.environment,
            Self::ProcessExited(e) => &e.environment,
            Self::CleanRequested(e) => &e.environment,
            Self::Cleaned(e) => &e.environment,
            Self::CleanUndoRequested(e) => &e.environment,
            Self::CleanUndone(e) => &e.environment,
            Self::CleanPurgeDecided(e) => &e.environment,
            Self::CleanPurged(e) => &e.environment,
            Self::CleanAttemptFailed(e) => &e.environment,
            Self::LeaseGranted(e) => &e.environment,
            Self::LeaseReleased(e) => &e.environment,
            Self::LeaseExpired(e) => &e.environment,
            Self::RunRequested(e) => &e.environment,
            Self::RunFinished(e) => &e.environment,
            // The others are about the host, a repository or a migration.
            _ => return None,
        })
    }

    /// Returns the migration that the event is about, if it is about one.
    #[must_use]
    pub fn migration(&self) -> Option<&MigrationId> {
        Some(match self {
            Self::MigrationRequested(e) => &e.migration,
            Self::SourceInspected(e) => &e.migration,
            Self::SourceCopied(e) => &e.migration,
            Self::SourceNormalised(e) => &e.migration,
            Self::StagingBuilt(e) => &e.migration,
            Self::SecretsWritten(e) => &e.migration,
            Self::StagingVerified(e) => &e.migration,
            Self::FlipBegun(e) => &e.migration,
            Self::Flipped(e) => &e.migration,
            Self::MigrationFinished(e) => &e.migration,
            Self::MigrationFailed(e) => &e.migration,
            Self::MigrationRolledBack(e) => &e.migration,
            Self::MigrationAttemptFailed(e) => &e.migration,
            Self::MigrationUndoRequested(e) => &e.migration,
            Self::MigrationUndone(e) => &e.migration,
            Self::MigrationUndoRefused(e) => &e.migration,
            _ => return None,
        })
    }

    /// Returns the ended incarnation whose archive the event is about, if it is about one.
    #[must_use]
    pub fn remains(&self) -> Option<(&EnvironmentId, u32)> {
        Some(match self {
            Self::TrashMeasured(e) => (&e.environment, e.incarnation),
            Self::PurgeDecided(e) => (&e.environment, e.incarnation),
            Self::TrashPurged(e) => (&e.environment, e.incarnation),
            Self::RemainsAttemptFailed(e) => (&e.environment, e.incarnation),
            Self::RescueDropRequested(e) => (&e.environment, e.incarnation),
            Self::RescueDropped(e) => (&e.environment, e.incarnation),
            Self::LateWorkRescued(e) => (&e.environment, e.incarnation),
            Self::TrashLookFailed(e) => (&e.environment, e.incarnation),
            _ => return None,
        })
    }

    /// Returns the clean whose output in the trash the event is about, if it is about one.
    #[must_use]
    pub fn output(&self) -> Option<(&EnvironmentId, Seq)> {
        Some(match self {
            Self::CleanPurgeDecided(e) => (&e.environment, e.clean),
            Self::CleanPurged(e) => (&e.environment, e.clean),
            Self::CleanAttemptFailed(e) => (&e.environment, e.clean),
            _ => return None,
        })
    }
}
