//! Environments with their teardowns.

use std::borrow::Cow;

use crate::event;
use crate::id::{EnvironmentId, HostPath, Nonce, Seq, Time};
use crate::model::environment as live;
use crate::model::process::ProcessId as LiveProcessId;
use crate::model::step::EnvironmentStep;
use crate::policy::BranchPolicy;
use crate::snapshot::frozen::{Entries, OrEmpty, frozen_enums, frozen_structs};
use crate::snapshot::v11::common::{Fault, Path, ProcessSeen, Rescue, Size, Text, Texts};
use crate::snapshot::v11::step::Owed;

frozen_enums! {
    enum Phase of live::Phase {
        Provisioning, Ready, Retiring, TearingDown, Tombstoned, Failed,
    }
}

frozen_structs! {
    pub(in crate::snapshot) struct Environment<'a> of live::Environment {
        id: Cow<'a, EnvironmentId>,
        incarnation: u32,
        phase: Phase,
        plan: Plan<'a>,
        created_at: Time,
        changed_at: Time,
        seq: Seq,
        begun: Seq,
        base: Option<Base<'a>>,
        worktree: Option<Worktree<'a>>,
        included: Option<Included<'a>>,
        hook: Option<ProcessId>,
        setup: Option<SetupReport<'a>>,
        owed: Option<Owed<EnvironmentStep>>,
        fault: Option<Fault<'a>>,
        refusal: Option<Fault<'a>>,
        destroy_wanted: bool,
        teardown: Option<Teardown<'a>>,
        leftovers: Texts<'a>,
        adopted: bool,
        restore: Option<RestoreFrom<'a>>,
        processes: Entries<'a, u32, Process<'a>>,
        failed_teardowns: u32,
        cleaned: Option<Cleaned<'a>>,
        undoing: Option<Seq>,
        undone: Option<CleanUndone<'a>>,
        unwatched: Option<Text<'a>>,
        nonce: Option<Cow<'a, Nonce>>,
        attributes: Option<Text<'a>>,
        lineage: Cow<'a, [Nonce]>,
    }
    pub(in crate::snapshot) struct ProcessId of LiveProcessId {
        pid: u32,
        start_time: u64,
    }
    pub(in crate::snapshot) struct Process<'a> of live::Process {
        started: u64,
        name: Text<'a>,
        of_daemon: bool,
    }
    pub(in crate::snapshot) struct Teardown<'a> of live::Teardown {
        force: bool,
        options: TeardownOptions<'a>,
        of_failed: bool,
        requester: u32,
        unsaved: Texts<'a>,
        looked_at: Time,
        fingerprint: OrEmpty<'a, String>,
        head: OrEmpty<'a, String>,
        rescue_wanted: bool,
        has_hook: bool,
        hooked: bool,
        quiet: bool,
        inspections: u32,
        disturbed: bool,
        trash: Option<Path<'a>>,
        branch_deleted: bool,
        branch_reason: Text<'a>,
        rescue: Option<Rescue<'a>>,
        other_refs: Texts<'a>,
        spared: Vec<ProcessSeen<'a>>,
        survivors: Vec<ProcessSeen<'a>>,
        hook_fault: Option<Fault<'a>>,
        noted: Texts<'a>,
        unseen: bool,
        on_branch: OrEmpty<'a, String>,
    }
    pub(in crate::snapshot) struct TeardownOptions<'a> of event::TeardownOptions {
        branch: Cow<'a, BranchPolicy>,
        hook_path: OrEmpty<'a, String>,
        hook_limit_ms: u64,
        grace_ms: u64,
        end_bystanders: bool,
        no_rescue: bool,
        reason: Cow<'a, event::TeardownReason>,
    }
    pub(in crate::snapshot) struct Plan<'a> of event::Plan {
        repository: Repository<'a>,
        path: Path<'a>,
        base: Option<Text<'a>>,
        branch: Text<'a>,
        reuse_branch: bool,
        fetch: bool,
        fetch_limit_ms: u64,
        keep_failed: bool,
        setup_path: OrEmpty<'a, String>,
        setup_limit_ms: u64,
    }
    pub(in crate::snapshot) struct Repository<'a> of event::Repository {
        common_dir: Path<'a>,
        source: OrEmpty<'a, HostPath>,
        name: Text<'a>,
        object_format: Text<'a>,
    }
    pub(in crate::snapshot) struct Base<'a> of event::Base {
        commit: Text<'a>,
        reference: OrEmpty<'a, String>,
        upstream: OrEmpty<'a, String>,
        behind: u64,
        ahead: u64,
        fetch: OrEmpty<'a, String>,
    }
    pub(in crate::snapshot) struct Worktree<'a> of event::Worktree {
        admin_dir: Path<'a>,
        device: u64,
        inode: u64,
        checkout: Cow<'a, event::CheckoutMethod>,
        checkout_reason: OrEmpty<'a, String>,
        files: u64,
        racy: bool,
        has_include: bool,
        has_setup: bool,
    }
    pub(in crate::snapshot) struct Included<'a> of event::Included {
        files: u64,
        bytes: u64,
        reflinked: u64,
        skipped: Texts<'a>,
    }
    pub(in crate::snapshot) struct SetupReport<'a> of event::SetupReport {
        millis: u64,
        output_bytes: u64,
        transcript: Path<'a>,
    }
    pub(in crate::snapshot) struct RestoreFrom<'a> of event::RestoreFrom {
        incarnation: u32,
        trash: Option<Path<'a>>,
        head: OrEmpty<'a, String>,
        rescue: OrEmpty<'a, String>,
        nonce: Option<Cow<'a, Nonce>>,
        saved: Option<Rescue<'a>>,
    }
    pub(in crate::snapshot) struct Cleaned<'a> of event::Cleaned {
        environment: Cow<'a, EnvironmentId>,
        paths: Texts<'a>,
        size: Size,
        fault: Option<Fault<'a>>,
        left: Vec<NotMoved<'a>>,
        trash: Option<Path<'a>>,
    }
    pub(in crate::snapshot) struct NotMoved<'a> of event::NotMoved {
        path: Text<'a>,
        why: Text<'a>,
    }
    pub(in crate::snapshot) struct CleanUndone<'a> of event::CleanUndone {
        environment: Cow<'a, EnvironmentId>,
        clean: Seq,
        returned: Texts<'a>,
        left: Vec<NotMoved<'a>>,
        size: Size,
        fault: Option<Fault<'a>>,
    }
}
