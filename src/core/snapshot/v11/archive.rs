//! Archives of ended incarnations, and the output that cleans took.

use std::borrow::Cow;

use crate::event::PurgeReason;
use crate::id::{EnvironmentId, Nonce, Seq, Time};
use crate::model::archive::ArchivedIncarnation as LiveArchive;
use crate::model::cleaned_output as live;
use crate::model::step::{ArchiveStep, OutputStep};
use crate::snapshot::frozen::{OrEmpty, frozen_enums, frozen_structs};
use crate::snapshot::v11::common::{Fault, Path, ProcessSeen, Rescue, Size, Text, Texts};
use crate::snapshot::v11::environment::{Base, Plan, Worktree};
use crate::snapshot::v11::step::Owed;

frozen_enums! {
    enum OutputPhase of live::OutputPhase { Taking, Kept, Returning }
}

frozen_structs! {
    pub(in crate::snapshot) struct ArchivedIncarnation<'a> of LiveArchive {
        id: Cow<'a, EnvironmentId>,
        incarnation: u32,
        plan: Plan<'a>,
        at: Time,
        trash: Option<Path<'a>>,
        size: Option<Size>,
        head: OrEmpty<'a, String>,
        base: Option<Base<'a>>,
        worktree: Option<Worktree<'a>>,
        rescue: Option<Rescue<'a>>,
        looked_at: Option<Time>,
        branch_deleted: bool,
        survivors: Vec<ProcessSeen<'a>>,
        restoring: Option<u32>,
        owed: Option<Owed<ArchiveStep>>,
        purge: OrEmpty<'a, PurgeReason>,
        fault: Option<Fault<'a>>,
        nonce: Option<Cow<'a, Nonce>>,
        lineage: Cow<'a, [Nonce]>,
        unseen: bool,
        on_branch: OrEmpty<'a, String>,
        rescue_ends: Option<Time>,
    }
    pub(in crate::snapshot) struct CleanedOutput<'a> of live::CleanedOutput {
        id: Cow<'a, EnvironmentId>,
        clean: Seq,
        incarnation: u32,
        at: Time,
        repository: Path<'a>,
        branch: Text<'a>,
        phase: OutputPhase,
        now: bool,
        trash: Option<Path<'a>>,
        paths: Texts<'a>,
        size: Option<Size>,
        purge: OrEmpty<'a, PurgeReason>,
        owed: Option<Owed<OutputStep>>,
        fault: Option<Fault<'a>>,
    }
}
