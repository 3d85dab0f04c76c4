//! Staged migrations.

use std::borrow::Cow;

use crate::event;
use crate::id::{HostPath, MigrationId, Seq, Time};
use crate::model::migration as live;
use crate::model::step::MigrationStep;
use crate::snapshot::frozen::{OrEmpty, frozen_enums, frozen_structs};
use crate::snapshot::v11::common::{Fault, Path, Text, Texts};
use crate::snapshot::v11::step::Owed;

frozen_enums! {
    enum MigrationPhase of live::MigrationPhase {
        Started, Inspected, Copied, Normalised, Staged, SecretsWritten, FlipBegun, Flipped,
        Finished, RollingBack, Failed, Rehearsed, Undoing, Undone, UndoingKeepNew,
    }
}

frozen_structs! {
    pub(in crate::snapshot) struct Migration<'a> of live::Migration {
        id: Cow<'a, MigrationId>,
        plan: MigrationPlan<'a>,
        phase: MigrationPhase,
        created_at: Time,
        changed_at: Time,
        seq: Seq,
        found: SourceState<'a>,
        copy: Option<SourceCopy<'a>>,
        replayed: Texts<'a>,
        staging: Option<Staging<'a>>,
        secrets: u64,
        backup: Option<Path<'a>>,
        installed: Text<'a>,
        owed: Option<Owed<MigrationStep>>,
        fault: Option<Fault<'a>>,
        leftovers: Texts<'a>,
    }
    pub(in crate::snapshot) struct MigrationPlan<'a> of event::MigrationPlan {
        recipe: OrEmpty<'a, String>,
        folder: OrEmpty<'a, HostPath>,
        folder_hash: OrEmpty<'a, String>,
        database: Path<'a>,
        secrets: OrEmpty<'a, HostPath>,
        tenant: Text<'a>,
        on_conflict: Cow<'a, event::ConflictPolicy>,
        dry_run: bool,
        at_ms: u64,
    }
    pub(in crate::snapshot) struct SourceState<'a> of event::SourceState {
        old: bool,
        taken_over: OrEmpty<'a, String>,
        backup: OrEmpty<'a, HostPath>,
        warnings: Texts<'a>,
    }
    pub(in crate::snapshot) struct SourceCopy<'a> of event::SourceCopy {
        bytes: u64,
        fingerprint: Text<'a>,
        checksum: u32,
        rows: Cow<'a, [(String, u64)]>,
        has_secrets: bool,
    }
    pub(in crate::snapshot) struct Staging<'a> of event::Staging {
        rows: Cow<'a, [(String, u64)]>,
        warnings: Texts<'a>,
        report: Text<'a>,
    }
}
