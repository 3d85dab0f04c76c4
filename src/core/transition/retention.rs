//! Retention of the trash: what is unlinked by age, by size, for disk space, or on request.
//!
//! A last copy is unlinked for none of these reasons, but only when a request names it and accepts
//! the loss. Nothing here unlinks: the core decides and `world` performs it.

use crate::decision::Decision;
use crate::event::{Actor, Event};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, Time};
use crate::model::archive::{LOSE, Remains};
use crate::policy;
use crate::state::State;

impl State {
    /// Returns whether the trash holds something whose unlinking could free space.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        self.remains().any(Remains::is_kept) || self.has_outputs()
    }

    /// Returns whether the trash holds more bytes than its limit.
    pub(crate) fn trash_is_over(&self) -> bool {
        let may_go = |r: &&Remains| r.is_kept() && !r.is_last_copy();
        let sizes = self.remains().filter(may_go).filter_map(|r| r.size);
        let total = sizes.map(|s| s.allocated).fold(0, u64::saturating_add);
        let total = total.saturating_add(self.output_bytes());
        total > self.retention().trash_bytes && total > 0
    }

    /// Returns the purges due by age, number, or because the trash is over its limit; oldest first.
    pub(crate) fn purges_due(&self, now: Time) -> Vec<Event> {
        let limits = self.retention();
        let may_go = |r: &&Remains| r.is_kept() && !r.is_last_copy();
        let mut kept: Vec<&Remains> = self.remains().filter(may_go).collect();
        kept.sort_by_key(|r| r.at);
        let bytes = |r: &Remains| r.size.map_or(0, |s| s.allocated);
        let mut total: u64 = kept.iter().map(|r| bytes(r)).fold(0, u64::saturating_add);
        // Output that a build can make again is purged before anything else.
        let (mut events, outputs) = self.outputs_due(now, total);
        total = total.saturating_add(outputs);
        let too_many = kept.len().saturating_sub(policy::REMAINS_MAX);
        for (n, remains) in kept.into_iter().enumerate() {
            if n < too_many {
                events.push(remains.purge("count", None));
            } else if remains.expires(limits.trash_seconds) <= now {
                events.push(remains.purge("age", None));
            } else if total > limits.trash_bytes && remains.size.is_some() {
                events.push(remains.purge("bytes", None));
            } else {
                continue;
            }
            total = total.saturating_sub(bytes(remains));
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
        if self.remains().any(|r| !r.purge.is_empty() && r.fault.is_none()) {
            return Vec::new();
        }
        let may_go = |r: &&Remains| r.is_kept() && !r.is_last_copy();
        let oldest = self.remains().filter(may_go).min_by_key(|r| r.at);
        oldest.map(|r| r.purge("disk", None)).into_iter().collect()
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
        let wanted = self.remains().filter(|r| only.is_none_or(|id| *id == r.id));
        let (mut events, mut stays) = (Vec::new(), Vec::new());
        for remains in wanted.filter(|r| r.is_kept() || r.is_put_off()) {
            // No attempt could inspect it; a request suggests that the obstacle is gone by now.
            let again = remains.is_given_up() && !remains.unseen;
            if lose {
                events.push(remains.purge(LOSE, Some(actor.clone())));
            } else if remains.is_last_copy() && !again {
                stays.push(remains);
            } else {
                events.push(remains.purge("request", Some(actor.clone())));
            }
        }
        events.extend(self.outputs_to_empty(only, actor));
        match (events.is_empty(), only, stays.first()) {
            (true, Some(_), Some(remains)) => Err(last_copy(remains)),
            _ => Ok(events),
        }
    }
}

fn last_copy(remains: &Remains) -> Fault {
    let (id, life) = (&remains.id, remains.incarnation);
    let message = format!(
        "the trash entry of {id} (incarnation {life}) holds content that exists nowhere else"
    );
    let hint = format!(
        "run `groundskeeper restore {id}` to restore it, or `groundskeeper trash empty {id} \
         --lose` to unlink it permanently"
    );
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(remains.is_last_copy_of())
}
