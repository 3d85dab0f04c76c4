//! The sweep: finds what no record explains, and removes what is proven to be ours.
//!
//! Proven means: a marker with this log's id, or a name that only this data directory gives, and a
//! log that knows the incarnation and records that it ended. Everything else is reported and left
//! alone. A log that lost its records therefore deletes nothing.

use crate::core::event::{Finding, SweepFinished};
use crate::core::{Fault, HostOutcome};
use crate::failpoint::kill::point;
use crate::world::effects::foreign_worktrees;
use crate::world::effects::sweep::repository::locks_of_git;
use crate::world::effects::sweep::task::{DEAD_LOCK, SettleAction, Task};

/// Most findings that the log names; further ones are only counted.
const FINDINGS_MAX: usize = 256;
/// Number of items that a sweep under the default limit may settle in any case; with more, it
/// settles none if they exceed this percentage of all known incarnations.
const SHARE_FREE: u64 = 10;
const SHARE_MAX: u64 = 50;

impl Task<'_> {
    /// Performs [`HostStep::Sweep`](crate::core::HostStep::Sweep).
    pub(in crate::world) fn perform(&self) -> Result<HostOutcome, Fault> {
        let sweep = self.state.sweep();
        let (apply, limit) = sweep.map_or((false, 0), |s| (s.apply, s.limit));
        let found = self.find_all()?;
        // A lock that names a dead daemon proves its own owner: one observation is enough.
        let may = |f: &Finding| f.ours && (f.kind == DEAD_LOCK || self.was_named(f));
        let ours = found.iter().filter(|(f, _)| may(f)).count() as u64;
        let mut finished = SweepFinished { found: found.len() as u64, ..SweepFinished::default() };
        // Many items at once, relative to what exists, suggest that the log
        // is wrong, not the world.
        let known = self.state.environments().count() as u64 + self.state.archives().count() as u64;
        let share = ours > SHARE_FREE && ours * 100 > known * SHARE_MAX;
        let held = apply && (ours > limit || share && limit == crate::core::policy::SWEEP_LIMIT);
        if held && ours > limit {
            finished.held =
                Some(format!("{ours} findings would be settled, and the limit is {limit}"));
        } else if held {
            finished.held = Some(format!(
                "{ours} findings would be settled, more than {SHARE_MAX} % of all {known} \
                 environments and archives"
            ));
        }
        for (mut finding, settle) in found {
            self.cancel.check()?;
            if apply && !held && may(&finding) {
                match self.settle(&settle) {
                    Ok(()) => {
                        finding.settled = true;
                        finished.settled += 1;
                    }
                    Err(fault) => finding.detail = format!("{}: {fault}", finding.detail),
                }
                point("sweep.settled_one");
            }
            if finished.findings.len() < FINDINGS_MAX {
                finished.findings.push(finding);
            }
        }
        if apply {
            self.world.cgroups.remove_empty();
        }
        Ok(HostOutcome::Swept(finished))
    }

    /// An unattended sweep settles only what the previous sweep reported.
    fn was_named(&self, finding: &Finding) -> bool {
        let seen_only = self.state.sweep().is_some_and(|s| s.seen_only);
        let before = self.state.last_sweep().map(|(_, s)| s.findings.as_slice());
        let same = |f: &Finding| f.kind == finding.kind && f.path == finding.path;
        !seen_only || before.unwrap_or_default().iter().any(same)
    }

    /// Lists everything that is found, each with the action that would settle it.
    fn find_all(&self) -> Result<Vec<(Finding, SettleAction)>, Fault> {
        let mut found = Vec::new();
        self.managed_root(&mut found);
        self.cancel.check()?;
        self.trash(&mut found);
        self.copies(&mut found);
        self.locks_and_transcripts(&mut found);
        for common in self.repositories() {
            self.cancel.check()?;
            self.repository(&common, &mut found);
            locks_of_git(&common, &mut found);
            self.refs(&common, &mut found);
        }
        self.processes(&mut found)?;
        // Inspecting foreign worktrees takes long; a sweep at start does not wait for it.
        if !self.state.sweep().is_some_and(|s| s.seen_only) {
            let root = self.world.layout.root();
            let others = foreign_worktrees::find(&self.repositories(), root, self.cancel)?;
            let adopted = |f: &Finding| {
                let mut live = self.state.environments().filter(|e| e.is_live());
                live.any(|e| e.plan.path == f.path)
            };
            found.extend(others.into_iter().filter(|f| !adopted(f)).map(|f| (f, SettleAction::No)));
        }
        Ok(found)
    }
}
