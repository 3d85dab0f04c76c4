//! The sweep: finds what no record explains, and removes what is proven to be ours.
//!
//! Proven means: a marker with this log's id, or a name that only this data directory gives, and a
//! log that knows the incarnation and records that it ended. Everything else is reported and left
//! alone. A log that lost its records therefore deletes nothing. The first sweep after a crash
//! settles what it left: a directory goes to the trash, where it can be restored.

use crate::core::event::{Finding, SweepFinished};
use crate::core::policy::SWEEP_LIMIT;
use crate::core::{Fault, HostOutcome};
use crate::failpoint::kill::point;
use crate::world::effects::foreign_worktrees;
use crate::world::effects::sweep::repository::locks_of_git;
use crate::world::effects::sweep::task::{SettleAction, Task};

/// Most findings that the log names; further ones are only counted.
const FINDINGS_MAX: usize = 256;
/// Number of items that a sweep under the default limit may settle in any case; with more, it
/// settles none if they exceed this percentage of all known incarnations.
const SHARE_FREE: u64 = 10;
const SHARE_MAX: u64 = 50;
/// Most things without content (lock files, staging names) that one sweep removes; the rest is left
/// to the next one, so that a start never works through the leftovers of years.
const HARMLESS_MAX: usize = 2_000;

impl Task<'_> {
    /// Performs [`HostStep::Sweep`](crate::core::HostStep::Sweep).
    pub(in crate::world) fn perform(&self) -> Result<HostOutcome, Fault> {
        let apply = self.state.sweep().is_some_and(|s| s.apply);
        let mut found = self.find_all()?;
        // The log names a bounded number; what has content comes first.
        found.sort_by_key(|(f, _)| !f.is_limited());
        let held = self.held(&found).filter(|_| apply);
        let mut finished = SweepFinished {
            found: found.len() as u64,
            held: held.clone(),
            ..SweepFinished::default()
        };
        let (mut archived, mut harmless) = (Vec::new(), 0);
        for (mut finding, settle) in found {
            self.cancel.check()?;
            let limited = finding.is_limited();
            harmless += usize::from(finding.ours && !limited);
            let may = if limited { held.is_none() } else { harmless <= HARMLESS_MAX };
            if apply && finding.ours && may {
                match self.settle(&settle) {
                    Ok(archive) => {
                        archived.extend(archive);
                        finding.settled = true;
                        finished.settled += 1;
                    }
                    Err(fault) => {
                        finding.detail = format!("{}: {fault}; {}", finding.detail, fault.hint);
                    }
                }
                point("sweep.settled_one");
            }
            if finished.findings.len() < FINDINGS_MAX {
                finished.findings.push(finding);
            }
        }
        if apply {
            self.world.cgroups.remove_empty();
            report(&finished);
        }
        Ok(HostOutcome::Swept(finished, archived))
    }

    /// Returns why nothing that has content may be settled. Many such things at once, relative to
    /// what exists, suggest that the log is wrong, not the world.
    fn held(&self, found: &[(Finding, SettleAction)]) -> Option<String> {
        let limit = self.state.sweep().map_or(0, |s| s.limit);
        let many = found.iter().filter(|(f, _)| f.ours && f.is_limited()).count() as u64;
        let what = "directories, registrations, refs and processes";
        let how = format!("run `groundskeeper sweep --apply --limit {many}` to settle them");
        if many > limit {
            return Some(format!(
                "{many} findings ({what}) would be settled, and the limit is {limit}; {how}"
            ));
        }
        let known = self.state.environments().count() as u64 + self.state.archives().count() as u64;
        let share = many > SHARE_FREE && many * 100 > known * SHARE_MAX;
        (share && limit == SWEEP_LIMIT).then(|| {
            let how = format!("run `groundskeeper sweep --apply --limit {}`", many.max(limit + 1));
            format!(
                "{many} findings ({what}) would be settled, more than {SHARE_MAX} % of all {known} \
                 environments and archives; {how} to settle them"
            )
        })
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
            self.rescues(&common, &mut found);
        }
        self.processes(&mut found)?;
        // Inspecting foreign worktrees takes long; a sweep of the daemon does not wait for it.
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

/// Writes what a sweep has settled, and what it was held back from, to the daemon's log.
fn report(finished: &SweepFinished) {
    for finding in finished.findings.iter().filter(|f| f.settled && f.is_limited()) {
        tracing::info!(kind = finding.kind, path = %finding.path, "sweep settled a leftover");
    }
    let (found, settled) = (finished.found, finished.settled);
    if let Some(held) = &finished.held {
        tracing::warn!(found, settled, held, "sweep was held back");
    } else {
        tracing::info!(found, settled, "sweep ended");
    }
}
