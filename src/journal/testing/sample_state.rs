//! A state with every field set somewhere: the source of the golden snapshots.

use groundskeeper_core::event::{
    Actor, CleanAttemptFailed, CleanPurgeDecided, CleanUndoRequested, CleanUndone, Record,
    SweepRequested,
};
use groundskeeper_core::{Event, LeaseId, MigrationId, Seq, State, Time};

use crate::codec::{self, Decoded};
use crate::testing::golden;
use crate::testing::samples::samples;

/// Histories of one environment each, by the kinds of their events.
const HISTORIES: [(&str, &[&str]); 17] = [
    // A provision that is to be removed while its setup hook runs.
    ("env1", &["ProvisionRequested", "BaseResolved", "WorktreeAdded", "FilesIncluded"]),
    ("env1", &["SetupStarted", "DestroyRequested"]),
    // An environment in use whose clean is being undone.
    ("env2", &["ProvisionRequested", "WorktreeAdded", "SetupFinished", "EnvironmentReady"]),
    ("env2", &["ProcessStarted", "LeaseGranted", "CleanRequested", "Cleaned"]),
    ("env2", &["CleanUndoRequested", "DestroyRefused", "WatcherGaveUp"]),
    // The removal of a failed provision.
    ("env3", &["ProvisionRequested", "WorktreeAdded", "ProvisionFailed", "DestroyRequested"]),
    ("env3", &["TeardownInspected", "TeardownHookStarted", "TeardownHookFinished"]),
    ("env3", &["ProcessesEnded", "WorkRescued", "DirectoryTrashed", "BranchSettled"]),
    // A removal that is postponed, one that is to rescue work, and a provision that failed.
    ("env4", &["ProvisionRequested", "WorktreeAdded", "EnvironmentReady", "DestroyRequested"]),
    ("env4", &["TeardownPostponed", "RunRequested"]),
    ("env6", &["ProvisionRequested", "EnvironmentReady", "DestroyRequested", "TeardownInspected"]),
    ("env7", &["ProvisionRequested", "RolledBack"]),
    ("env8", &["ProvisionRequested", "AttemptFailed"]),
    // Cleans: one that was undone in part, one whose output cannot be unlinked.
    ("env9", &["ProvisionRequested", "WorktreeAdded", "EnvironmentReady", "CleanRequested"]),
    ("env9", &["Cleaned", "CleanUndone", "CleanAttemptFailed", "ProcessStarted", "LeaseGranted"]),
    ("demo", &["ProvisionRequested", "EnvironmentReady", "ProcessStarted", "CleanRequested"]),
    ("demo", &["Cleaned", "CleanPurgeDecided", "CleanAttemptFailed"]),
];

/// Histories of an environment that left archives.
const ARCHIVES: [(&str, &[&str]); 6] = [
    ("env5", &["ProvisionRequested", "BaseResolved", "WorktreeAdded", "EnvironmentReady"]),
    ("env5", &["DestroyRequested", "TeardownInspected", "ProcessesEnded", "WorkRescued"]),
    ("env5", &["DirectoryTrashed", "BranchSettled", "Tombstoned", "RestoreRequested"]),
    ("env5", &["WorktreeAdded", "EnvironmentReady", "DestroyRequested", "TeardownInspected"]),
    ("env5", &["WorkRescued", "DirectoryTrashed", "Tombstoned", "TrashMeasured"]),
    ("env5", &["PurgeDecided", "RemainsAttemptFailed", "RestoreRequested"]),
];

/// Events of the host, of control servers, runs and migrations.
const HOST: [&str; 24] = [
    "DaemonStarted",
    "RetentionChanged",
    "LogFoundOlder",
    "RepositoryTrusted",
    "SweepFinished",
    "SweepRequested",
    "LiveSetTaken",
    "LiveSetHeld",
    "RunRequested",
    "RunFinished",
    "EnvironmentAdopted",
    "LeaseReleased",
    "MigrationRequested",
    "SourceInspected",
    "SourceCopied",
    "SourceNormalised",
    "StagingBuilt",
    "SecretsWritten",
    "StagingVerified",
    "MigrationAttemptFailed",
    "Flipped",
    "MigrationFinished",
    "MigrationUndoRefused",
    "DaemonStopped",
];

/// Returns a state with every field set somewhere.
pub(crate) fn sample_state() -> State {
    let mut state = state_without_labels();
    put(&mut state, sample("EnvironmentLabeled", "env2"));
    state
}

/// Returns the state of which the golden snapshot of version 10 is.
pub(crate) fn state_without_labels() -> State {
    let mut state = earlier_state();
    put(&mut state, sample("RescueExpiryAnnounced", "env5"));
    state
}

/// Returns the state of which the golden snapshots before version 10 are.
pub(crate) fn earlier_state() -> State {
    let mut state = State::default();
    for (id, kinds) in HISTORIES.iter().chain(&ARCHIVES) {
        for kind in *kinds {
            let event = fitted(sample(kind, id), &state);
            put(&mut state, event);
        }
    }
    for kind in HOST {
        let event = fitted(sample(kind, "demo"), &state);
        put(&mut state, event);
    }
    let Event::MigrationRequested(mut second) = sample("MigrationRequested", "demo") else {
        panic!("a request")
    };
    second.migration = MigrationId::parse("00000001").expect("an id");
    put(&mut state, second.into());
    state
}

/// Changes a sample so that it applies to the state: fields that a sample sets the other way, or
/// that name a record.
fn fitted(event: Event, state: &State) -> Event {
    let last = |id| state.outputs_of(id).last().map_or(Seq(0), |output| output.clean);
    match event {
        Event::ProvisionRequested(mut e) => {
            e.plan.reuse_branch = ["env4", "env5"].contains(&e.environment.as_str());
            e.into()
        }
        Event::DestroyRequested(mut e) => {
            e.options.no_rescue = e.environment.as_str() != "env6";
            e.into()
        }
        Event::TeardownInspected(mut e) => {
            e.unseen = e.environment.as_str() != "env6";
            e.into()
        }
        Event::LeaseGranted(mut e) => {
            if e.environment.as_str() == "env2" {
                e.lease = LeaseId::parse("lease-2").expect("an id");
            }
            e.into()
        }
        Event::ProcessStarted(mut e) if e.environment.as_str() == "env9" => {
            e.actor = Actor::daemon();
            e.into()
        }
        Event::SweepRequested(e) => SweepRequested { actor: Actor::daemon(), ..e }.into(),
        Event::CleanRequested(mut e) => {
            e.now = e.environment.as_str() == "demo";
            e.into()
        }
        Event::Cleaned(mut e) => {
            e.fault = e.fault.filter(|_| e.environment.as_str() == "env2");
            e.into()
        }
        Event::CleanUndone(e) => CleanUndone { clean: last(&e.environment), ..e }.into(),
        Event::CleanUndoRequested(e) => {
            CleanUndoRequested { clean: last(&e.environment), ..e }.into()
        }
        Event::CleanPurgeDecided(e) => {
            CleanPurgeDecided { clean: last(&e.environment), ..e }.into()
        }
        Event::CleanAttemptFailed(e) => {
            CleanAttemptFailed { clean: last(&e.environment), ..e }.into()
        }
        other => other,
    }
}

fn put(state: &mut State, event: Event) {
    let seq = state.seq().next();
    state.apply(&Record { seq, at: Time(1_000 + seq.0), boot: 3, event });
}

/// Returns the sample of a kind, about another environment than `demo`.
fn sample(kind: &str, id: &str) -> Event {
    let event = samples().into_iter().find(|event| event.kind() == kind);
    let event = event.unwrap_or_else(|| panic!("no sample of {kind}"));
    let mut payload = codec::payload(&event).expect("encoded");
    // The ids have the same length, so the bytes around them stay valid.
    for at in 0..payload.len() {
        if payload[at..].starts_with(b"demo") {
            payload[at..at + 4].copy_from_slice(id.as_bytes());
        }
    }
    let sealed = golden::envelope(&event, &payload);
    match codec::decode(&sealed).expect("decoded") {
        Decoded::Record(record) => record.event,
        Decoded::Newer(what) => panic!("{what}"),
    }
}
