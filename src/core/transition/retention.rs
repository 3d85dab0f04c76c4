//! Retention of the trash: what is unlinked by age, by size, for disk space, or on request.
//!
//! A last copy is unlinked for none of these reasons, but only when a request names it and accepts
//! the loss. Nothing here unlinks: the core decides and `world` performs it.

use crate::decision::Decision;
use crate::event::{Actor, Event, PurgeDecided, PurgeReason};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, Time};
use crate::model::archive::ArchivedIncarnation;
use crate::model::step::ArchiveStep;
use crate::policy;
use crate::state::State;

impl ArchivedIncarnation {
    /// Retries a failed inspection at once: what it lacked may be available now.
    pub(crate) fn retry_now(&mut self, now: Time) {
        let waits = self.fault.is_some();
        if let Some(owed) = self.owed.as_mut().filter(|o| waits && o.step == ArchiveStep::Measure) {
            owed.not_before = owed.not_before.min(now);
        }
    }

    pub(crate) fn purge(&self, reason: PurgeReason, actor: Option<Actor>) -> Event {
        PurgeDecided { environment: self.id.clone(), incarnation: self.incarnation, reason, actor }
            .into()
    }
}

impl State {
    /// Returns whether the trash holds something whose unlinking could free space.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        self.archives().any(ArchivedIncarnation::is_kept) || self.has_outputs()
    }

    /// Returns whether the trash holds more bytes than its limit.
    pub(crate) fn trash_is_over(&self) -> bool {
        let may_go = |r: &&ArchivedIncarnation| r.is_kept() && !r.is_last_copy();
        let sizes = self.archives().filter(may_go).filter_map(|r| r.size);
        let total = sizes.map(|s| s.allocated).fold(0, u64::saturating_add);
        let total = total.saturating_add(self.output_bytes());
        total > self.retention().trash_bytes && total > 0
    }

    /// Returns the purges due by age, number, or because the trash is over its limit; oldest first.
    pub(crate) fn purges_due(&self, now: Time) -> Vec<Event> {
        let limits = self.retention();
        let may_go = |r: &&ArchivedIncarnation| r.is_kept() && !r.is_last_copy();
        let mut kept: Vec<&ArchivedIncarnation> = self.archives().filter(may_go).collect();
        kept.sort_by_key(|r| r.at);
        let bytes = |r: &ArchivedIncarnation| r.size.map_or(0, |s| s.allocated);
        let mut total: u64 = kept.iter().map(|r| bytes(r)).fold(0, u64::saturating_add);
        // Output that a build can make again is purged before anything else.
        let (mut events, outputs) = self.outputs_due(now, total);
        total = total.saturating_add(outputs);
        let too_many = kept.len().saturating_sub(policy::ARCHIVES_MAX);
        for (n, archive) in kept.into_iter().enumerate() {
            if n < too_many {
                events.push(archive.purge(PurgeReason::Count, None));
            } else if archive.expires(limits.trash_seconds) <= now {
                events.push(archive.purge(PurgeReason::Age, None));
            } else if total > limits.trash_bytes && archive.size.is_some() {
                events.push(archive.purge(PurgeReason::Bytes, None));
            } else {
                continue;
            }
            total = total.saturating_sub(bytes(archive));
        }
        events
    }

    /// Decides what to purge on a nearly full disk: the output of cleans, then the oldest directory
    /// in the trash; one at a time, so that no more is purged than needed.
    pub(crate) fn decide_disk_low(&self) -> Vec<Event> {
        if let Some(first) = self.output_for_space() {
            return first;
        }
        // One purge at a time; but one that is blocked frees no space, so it does not count.
        if self.archives().any(|r| r.purge.is_some() && r.fault.is_none()) {
            return Vec::new();
        }
        let may_go = |r: &&ArchivedIncarnation| r.is_kept() && !r.is_last_copy();
        let oldest = self.archives().filter(may_go).min_by_key(|r| r.at);
        oldest.map(|r| r.purge(PurgeReason::Disk, None)).into_iter().collect()
    }

    /// Purges the directories of one environment (all its incarnations), or of all environments.
    pub(crate) fn decide_empty_trash(
        &self,
        only: Option<&EnvironmentId>,
        lose: bool,
        actor: &Actor,
    ) -> Decision {
        if lose && only.is_none() {
            let message =
                "content that exists nowhere else is unlinked for one named environment only";
            let hint = "run `groundskeeper trash ls`, then `groundskeeper trash empty ID --lose`";
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        }
        let wanted = self.archives().filter(|r| only.is_none_or(|id| *id == r.id));
        let (mut events, mut stays) = (Vec::new(), Vec::new());
        for archive in wanted.filter(|r| r.is_kept() || r.is_postponed()) {
            // No attempt could inspect it; a request suggests that the obstacle is gone by now.
            let again = archive.is_given_up() && !archive.unseen;
            if lose {
                events.push(archive.purge(PurgeReason::Lose, Some(actor.clone())));
            } else if archive.is_last_copy() && !again {
                stays.push(archive);
            } else {
                events.push(archive.purge(PurgeReason::Request, Some(actor.clone())));
            }
        }
        events.extend(self.outputs_to_empty(only, actor));
        match (events.is_empty(), only, stays.first()) {
            (true, Some(_), Some(archive)) => Err(last_copy(archive)),
            _ => Ok(events),
        }
    }
}

fn last_copy(archive: &ArchivedIncarnation) -> Fault {
    let (id, life) = (&archive.id, archive.incarnation);
    let message = format!(
        "the trash entry of {id} (incarnation {life}) holds content that exists nowhere else"
    );
    let hint = format!(
        "run `groundskeeper restore {id}` to restore it, or `groundskeeper trash empty {id} \
         --lose` to unlink it permanently"
    );
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(archive.is_last_copy_of())
}
