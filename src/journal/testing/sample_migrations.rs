//! One event of every kind of a staged migration, for the golden files.

use crate::testing::parts::{actor, fault};
use groundskeeper_core::event::{
    FlipBegun, Flipped, MigrationAttemptFailed, MigrationFailed, MigrationFinished, MigrationPlan,
    MigrationRequested, MigrationRolledBack, MigrationUndoRefused, MigrationUndoRequested,
    MigrationUndone, SecretsWritten, SourceCopied, SourceCopy, SourceInspected, SourceNormalised,
    SourceState, Staging, StagingBuilt, StagingVerified,
};
use groundskeeper_core::{Event, HostPath, MigrationId, Time};

fn plan() -> MigrationPlan {
    MigrationPlan {
        recipe: Some("executor".into()),
        folder: Some("/home/u/recipe".into()),
        folder_hash: Some("ab".repeat(32)),
        database: HostPath(b"/home/u/.exec\xffutor/data.db".to_vec()),
        secrets: Some("/home/u/.local/share/executor/auth.json".into()),
        tenant: "workspace-1a2b3c4d".into(),
        on_conflict: "rename".into(),
        dry_run: true,
        at_ms: 1_795_168_144_950,
    }
}

fn rows() -> Vec<(String, u64)> {
    vec![("tool".into(), 20_000), ("source".into(), 200)]
}

/// Returns one event of every kind, with every field set to a value that is not its default.
pub(crate) fn migrations() -> Vec<Event> {
    let migration = MigrationId::parse("43ed30c8").expect("a name");
    let m = || migration.clone();
    let backup: HostPath = "/home/u/.executor/data.db.v1-v2-1795168144950-43ed30c8".into();
    let warnings = vec!["Skipped binding group".to_owned()];
    let found = SourceState {
        old: true,
        taken_over: Some("built".into()),
        backup: Some(backup.clone()),
        warnings: warnings.clone(),
    };
    let copy = SourceCopy {
        bytes: 39_500_000,
        fingerprint: "39500000@1795168144.000000001 -".into(),
        checksum: 0xdead_beef,
        rows: rows(),
        has_secrets: true,
    };
    let report = "{\"integrations\":200}".to_owned();
    let staging = Staging { rows: rows(), warnings: warnings.clone(), report };
    let leftovers = vec!["/home/u/.executor/data.db.source-43ed30c8".to_owned()];
    vec![
        MigrationRequested { migration: m(), plan: plan(), actor: actor() }.into(),
        SourceInspected { migration: m(), found }.into(),
        SourceCopied { migration: m(), copy }.into(),
        SourceNormalised { migration: m(), warnings }.into(),
        StagingBuilt { migration: m(), staging }.into(),
        SecretsWritten { migration: m(), entries: 3 }.into(),
        StagingVerified {
            migration: m(),
            bytes: 38_400_000,
            fingerprint: "38400000@1795168145.000000005 -".into(),
        }
        .into(),
        FlipBegun { migration: m() }.into(),
        Flipped { migration: m(), backup }.into(),
        MigrationFinished { migration: m(), leftovers: leftovers.clone() }.into(),
        MigrationFailed { migration: m(), step: "flip".into(), fault: fault() }.into(),
        MigrationRolledBack { migration: m(), leftovers }.into(),
        MigrationAttemptFailed {
            migration: m(),
            step: "clean_up".into(),
            attempts: 2,
            retry_at: Time(1_795_168_146_000_000_000),
            fault: fault(),
        }
        .into(),
        MigrationUndoRequested { migration: m(), actor: actor(), keep_new: true }.into(),
        MigrationUndone { migration: m(), kept: "/home/u/.executor/data.db.undone-1".into() }
            .into(),
        MigrationUndoRefused { migration: m(), fault: fault() }.into(),
    ]
}
