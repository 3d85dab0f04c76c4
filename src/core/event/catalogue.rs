//! The catalogue of events: every kind with its number, version and subject.

use serde::Serialize;

use crate::id::{EnvironmentId, MigrationId, Seq, Time};

#[allow(clippy::wildcard_imports, reason = "the catalogue names every payload")]
use crate::event::{
    archive::*, clean::*, common::*, host::*, label::*, live_set::*, migration::*, provision::*,
    teardown::*, watch::*,
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

/// The list of event kinds by topic: `Topic of subject { variant = kind number, version; }`, where
/// the version is the newest and the one that is written. Everything that must name every kind is
/// made from this list.
#[macro_export]
macro_rules! for_each_topic {
    ($then:ident) => {
        $crate::for_each_topic! { [$then] }
    };
    ([$($then:tt)+] $($more:ident)?) => {
        $($then)+! {
            $($more)?
            Host(HostEvent) of host {
                DaemonStarted = 1, 1; DaemonStopped = 2, 1; RetentionChanged = 3, 3;
                DataDirectoryMoved = 4, 1; DataDirectoryCopied = 5, 1; LogFoundOlder = 6, 1;
                LivesForgotten = 7, 1; LogTrimmed = 8, 1;
            }
            Provision(ProvisionEvent) of environment {
                ProvisionRequested = 10, 3; BaseResolved = 11, 1; WorktreeAdded = 12, 1;
                FilesIncluded = 13, 1; SetupStarted = 14, 1; SetupFinished = 15, 2;
                EnvironmentReady = 16, 1; ProvisionFailed = 17, 1; CancelRequested = 18, 1;
                RolledBack = 19, 3; AttemptFailed = 20, 1; IndexRefreshed = 21, 1;
                RestoreRequested = 22, 2; Restored = 23, 1; RescueApplied = 24, 1;
                EnvironmentAdopted = 25, 2;
            }
            Destroy(DestroyEvent) of environment {
                DestroyRequested = 30, 2; DestroyRefused = 31, 1; TeardownInspected = 32, 3;
                DirectoryTrashed = 33, 1; RegistrationRemoved = 34, 1; BranchSettled = 35, 1;
                Tombstoned = 36, 1; TeardownGaveUp = 37, 1;
            }
            Lease(LeaseEvent) of environment {
                LeaseGranted = 40, 1; LeaseReleased = 41, 1; LeaseExpired = 42, 1;
            }
            Repository(RepositoryEvent) of host {
                RepositoryTrusted = 50, 1; RepositoryDistrusted = 51, 1; RepositoryMoved = 52, 1;
            }
            Teardown(TeardownEvent) of environment {
                TeardownHookStarted = 60, 1; TeardownHookFinished = 61, 2; ProcessesEnded = 62, 1;
                WorkRescued = 63, 2; InspectionOutdated = 64, 1; TeardownPostponed = 65, 1;
            }
            Archive(ArchiveEvent) of archive {
                TrashMeasured = 70, 1; PurgeDecided = 71, 1; TrashPurged = 72, 1;
                RemainsAttemptFailed = 73, 1; RescueDropRequested = 74, 1; RescueDropped = 75, 1;
                LateWorkRescued = 76, 2; TrashLookFailed = 77, 1; LeftoverArchived = 78, 1;
                RescueFoldDecided = 79, 1; RescuesFolded = 89, 1; RescueExpiryAnnounced = 92, 1;
            }
            Process(ProcessEvent) of environment { ProcessStarted = 80, 1; ProcessExited = 81, 1; }
            Output(OutputEvent) of output {
                CleanPurgeDecided = 82, 1; CleanPurged = 83, 1; CleanAttemptFailed = 84, 1;
            }
            Clean(CleanEvent) of environment {
                CleanRequested = 85, 2; Cleaned = 86, 2; CleanUndoRequested = 87, 1;
                CleanUndone = 88, 1;
            }
            Sweep(SweepEvent) of host { SweepRequested = 90, 1; SweepFinished = 91, 1; }
            Label(LabelEvent) of environment { EnvironmentLabeled = 102, 1; }
            Watch(WatchEvent) of environment { WatcherGaveUp = 100, 1; WatcherResumed = 101, 1; }
            LiveSet(LiveSetEvent) of host {
                LiveSetTaken = 110, 1; LiveSetHeld = 111, 1; LiveSetContinued = 114, 1;
            }
            Run(RunEvent) of environment { RunRequested = 112, 1; RunFinished = 113, 1; }
            Migration(MigrationEvent) of migration {
                MigrationRequested = 120, 1; SourceInspected = 121, 1; SourceCopied = 122, 1;
                SourceNormalised = 123, 1; StagingBuilt = 124, 1; SecretsWritten = 125, 1;
                StagingVerified = 126, 1; FlipBegun = 127, 1; Flipped = 128, 1;
                MigrationFinished = 129, 1; MigrationFailed = 130, 1; MigrationRolledBack = 131, 1;
                MigrationAttemptFailed = 132, 1; MigrationUndoRequested = 133, 2;
                MigrationUndone = 134, 1; MigrationUndoRefused = 135, 1;
            }
        }
    };
}

/// Calls a macro with all kinds of events in one list: `variant = kind number, version;`. The
/// journal's codec and the golden files are made from it.
#[macro_export]
macro_rules! for_each_event {
    ($then:ident) => {
        $crate::for_each_topic! { [$crate::flatten_topics] $then }
    };
}

/// Calls a macro with the kinds of all topics in one list.
#[doc(hidden)]
#[macro_export]
macro_rules! flatten_topics {
    ($then:ident $($topic:ident($view:ident) of $subject:ident {
        $($kind:ident = $number:literal, $version:literal;)*
    })*) => {
        $then! { $($($kind = $number, $version;)*)* }
    };
}

/// Matches the subject of a topic: the environment, the archive or output of a clean, the
/// migration.
macro_rules! subject {
    (environment, environment, $e:ident) => {
        Some(&$e.environment)
    };
    (environment, archive, $e:ident) => {
        Some(&$e.environment)
    };
    (environment, output, $e:ident) => {
        Some(&$e.environment)
    };
    (archive, archive, $e:ident) => {
        Some((&$e.environment, $e.incarnation))
    };
    (output, output, $e:ident) => {
        Some((&$e.environment, $e.clean))
    };
    (migration, migration, $e:ident) => {
        Some(&$e.migration)
    };
    ($wanted:ident, $other:ident, $e:ident) => {{
        let _ = $e;
        None
    }};
}

/// Declares how the subject of a topic is read from its events, where it is applied by subject.
macro_rules! subject_of_view {
    ($view:ident of archive { $($kind:ident),* }) => {
        impl<'a> $view<'a> {
            /// Returns the ended incarnation.
            pub(crate) fn subject(self) -> (&'a EnvironmentId, u32) {
                match self { $(Self::$kind(e) => (&e.environment, e.incarnation)),* }
            }
        }
    };
    ($view:ident of output { $($kind:ident),* }) => {
        impl<'a> $view<'a> {
            /// Returns the environment, and the record that requested the clean.
            pub(crate) fn subject(self) -> (&'a EnvironmentId, Seq) {
                match self { $(Self::$kind(e) => (&e.environment, e.clean)),* }
            }
        }
    };
    ($view:ident of migration { $($kind:ident),* }) => {
        impl<'a> $view<'a> {
            /// Returns the id of the migration.
            pub(crate) fn subject(self) -> &'a MigrationId {
                match self { $(Self::$kind(e) => &e.migration),* }
            }
        }
    };
    ($view:ident of $other:ident $kinds:tt) => {};
}

macro_rules! event_enum {
    ($($topic:ident($view:ident) of $subject:ident {
        $($kind:ident = $number:literal, $version:literal;)*
    })*) => {
        /// An event: any fact that the log can hold.
        #[allow(missing_docs, reason = "each variant is documented at its payload")]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($($kind($kind),)*)*
            Opaque(Opaque),
        }

        /// An event by its topic, so that each topic can be matched in full where it is applied.
        #[derive(Clone, Copy)]
        pub(crate) enum Topic<'a> {
            $($topic($view<'a>),)*
            /// Of a kind that this program does not know.
            Opaque,
        }

        $(
            /// An event of one topic.
            #[allow(dead_code, reason = "the kind alone says what some events change")]
            #[allow(clippy::enum_variant_names, reason = "the names are those of the events")]
            #[derive(Clone, Copy)]
            pub(crate) enum $view<'a> { $($kind(&'a $kind)),* }

            subject_of_view!($view of $subject { $($kind),* });
        )*

        impl Event {
            /// Returns the stable number of the kind.
            #[must_use]
            pub fn kind_number(&self) -> u32 {
                match self { $($(Self::$kind(_) => $number,)*)* Self::Opaque(o) => o.kind }
            }

            /// Returns the newest version of the kind, which is the one that is written.
            #[must_use]
            pub fn kind_version(&self) -> u16 {
                match self { $($(Self::$kind(_) => $version,)*)* Self::Opaque(o) => o.version }
            }

            /// Returns the kind's name for users and scripts.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $($(Self::$kind(_) => stringify!($kind),)*)*
                    Self::Opaque(_) => "Opaque",
                }
            }

            /// Returns the event by its topic.
            pub(crate) fn topic(&self) -> Topic<'_> {
                match self {
                    $($(Self::$kind(e) => Topic::$topic($view::$kind(e)),)*)*
                    Self::Opaque(_) => Topic::Opaque,
                }
            }

            /// Returns the environment that the event is about, if it is about one.
            #[must_use]
            pub fn environment(&self) -> Option<&EnvironmentId> {
                match self {
                    $($(Self::$kind(e) => subject!(environment, $subject, e),)*)*
                    Self::Opaque(_) => None,
                }
            }

            /// Returns the migration that the event is about, if it is about one.
            #[must_use]
            pub fn migration(&self) -> Option<&MigrationId> {
                match self {
                    $($(Self::$kind(e) => subject!(migration, $subject, e),)*)*
                    Self::Opaque(_) => None,
                }
            }

            /// Returns the ended incarnation whose archive the event is about, if it is about one.
            #[must_use]
            pub fn archive(&self) -> Option<(&EnvironmentId, u32)> {
                match self {
                    $($(Self::$kind(e) => subject!(archive, $subject, e),)*)*
                    Self::Opaque(_) => None,
                }
            }

            /// Returns the clean whose output in the trash the event is about, if it is about one.
            #[must_use]
            pub fn output(&self) -> Option<(&EnvironmentId, Seq)> {
                match self {
                    $($(Self::$kind(e) => subject!(output, $subject, e),)*)*
                    Self::Opaque(_) => None,
                }
            }
        }

        $($(impl From<$kind> for Event {
            fn from(payload: $kind) -> Self { Self::$kind(payload) }
        })*)*
    };
}
for_each_topic!(event_enum);
