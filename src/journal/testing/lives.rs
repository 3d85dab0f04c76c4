//! Lives that are over, written into a log as a daemon writes them: for tests of what years of use
//! cost. No daemon has the log open meanwhile.

use std::path::Path;
use std::time::Duration;

use groundskeeper_core::event::{
    Actor, Base, BaseResolved, BranchSettled, DestroyRequested, DirectoryTrashed, EnvironmentReady,
    Event, Plan, ProvisionRequested, Record, RegistrationRemoved, TeardownInspected,
    TeardownOptions, Tombstoned, Worktree, WorktreeAdded,
};
use groundskeeper_core::{EnvironmentId, HostPath, Seq, Time};

use crate::{Error, Journal, Options};

/// Records of one life.
pub const RECORDS: usize = 10;
/// Lives in one commit.
const GROUP: usize = 100;

/// Appends lives that ended one after another within a span of time, which begins at a time, or at
/// that of the last record if it is later. Returns the seq of the last record.
///
/// # Errors
/// As [`Journal::open`] and [`Journal::append`].
pub fn append(
    log: &Path,
    ids: &[EnvironmentId],
    begin: Time,
    span: Duration,
) -> Result<Seq, Error> {
    let (mut journal, found) = Journal::open(log, Options::default())?;
    let mut state = found.state;
    let begin = state.at().max(begin);
    let parts = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
    let mut at = begin;
    for group in ids.chunks(GROUP) {
        let mut records = Vec::new();
        for id in group {
            at = at.after(span / parts);
            for event in life(id) {
                let record = Record { seq: state.seq().next(), at, boot: state.boot(), event };
                state.apply(&record);
                records.push(record);
            }
        }
        journal.append(&records, &state)?;
    }
    journal.checkpoint()?;
    Ok(state.seq())
}

/// Returns the events of one life of which nothing is left.
fn life(id: &EnvironmentId) -> [Event; RECORDS] {
    let environment = || id.clone();
    let plan = Plan { path: HostPath::from(format!("/gone/{id}").as_str()), ..Plan::default() };
    let (actor, request) = (Actor::default(), None);
    let options = TeardownOptions::default();
    let inspected = TeardownInspected {
        environment: environment(),
        unsaved: Vec::new(),
        fingerprint: Some("f".into()),
        head: Some("c".repeat(40)),
        rescue: false,
        has_hook: false,
        quiet: true,
        noted: Vec::new(),
        unseen: false,
        branch: None,
    };
    let settled = BranchSettled {
        environment: environment(),
        deleted: true,
        reason: "merged".into(),
        rescue: Vec::new(),
    };
    let (nonce, attributes, incarnation) = (None, None, 1);
    [
        ProvisionRequested {
            environment: environment(),
            incarnation,
            plan,
            actor: actor.clone(),
            request: request.clone(),
            nonce,
            attributes,
        }
        .into(),
        BaseResolved { environment: environment(), base: Base::default() }.into(),
        WorktreeAdded { environment: environment(), worktree: Worktree::default() }.into(),
        EnvironmentReady { environment: environment() }.into(),
        DestroyRequested { environment: environment(), force: true, actor, request, options }
            .into(),
        inspected.into(),
        DirectoryTrashed { environment: environment(), trash: None }.into(),
        RegistrationRemoved { environment: environment() }.into(),
        settled.into(),
        Tombstoned { environment: environment(), leftovers: Vec::new() }.into(),
    ]
}
