//! The result of an inspection before a teardown: it goes on, is refused, or is postponed.
//!
//! Work at risk is removed only by consent, and the consent covers the tree that was inspected.

use crate::effect::Inspection;
use crate::event::{DestroyRefused, Event, TeardownInspected, TeardownReason};
use crate::fault::{Code, Fault};
use crate::id::Time;
use crate::model::environment::{Environment, Phase, Teardown};
use crate::model::step::EnvironmentStep as Step;
use crate::policy;

impl Environment {
    /// Returns the events that the end of an inspection leads to.
    pub(crate) fn inspected(&self, now: Time, leased: &[String], seen: Inspection) -> Vec<Event> {
        let environment = self.id.clone();
        let Some(teardown) = &self.teardown else { return Vec::new() };
        let refuse = |fault| vec![DestroyRefused { environment: self.id.clone(), fault }.into()];
        // Force broke the leases held at the request, not those granted since a postponement.
        let spares = teardown.options.reason == TeardownReason::Reconcile;
        if !leased.is_empty() && (!teardown.force || spares || self.phase == Phase::Retiring) {
            return refuse(in_use(self, leased));
        }
        if let Some(fault) = seen.immovable {
            return refuse(fault);
        }
        if spares && !seen.quiet && teardown.inspections == 0 {
            return refuse(lived_in(self));
        }
        if spares && seen.nested && teardown.inspections == 0 {
            return refuse(unsafe_to_remove(self, seen.unsaved));
        }
        if seen.unseen && teardown.force && !teardown.options.no_rescue {
            return refuse(nothing_can_be_saved(self, seen.unsaved));
        }
        let safe = seen.unsaved.is_empty();
        // Work written by the hook or an ending process after an inspection that found everything
        // safe is rescued like any other; it is no reason to stop half-way.
        let own_doing = teardown.inspections > 0 && !teardown.disturbed;
        if !safe && !teardown.force && !own_doing {
            return refuse(unsafe_to_remove(self, seen.unsaved));
        }
        if !safe && teardown.disturbed && teardown.consent_is_outdated(&seen) {
            return refuse(changed_since(self, &seen.unsaved));
        }
        if teardown.inspections >= policy::INSPECTIONS_MAX {
            let message = format!("environment {} keeps changing between inspections", self.id);
            let hint = format!("end the process that writes there: `groundskeeper ps {}`", self.id);
            let fault =
                Fault::new(Code::EnvironmentBusy, message, hint).with_evidence(seen.unsaved);
            return self.postpone(now, Step::Inspect, fault);
        }
        let mut bounded = Fault::new(Code::UnsafeToRemove, "", "").with_evidence(seen.unsaved);
        let unsaved = std::mem::take(&mut bounded.evidence);
        let Inspection { fingerprint, head, rescue, has_hook, quiet, .. } = seen;
        let (noted, unseen, branch) = (seen.noted, seen.unseen, seen.branch);
        vec![
            TeardownInspected {
                environment,
                unsaved,
                fingerprint,
                head,
                rescue,
                has_hook,
                quiet,
                noted,
                unseen,
                branch,
            }
            .into(),
        ]
    }
}

impl Teardown {
    /// Returns whether the consent covers a different tree than the one inspected now.
    fn consent_is_outdated(&self, seen: &Inspection) -> bool {
        self.fingerprint.is_some() && self.fingerprint != seen.fingerprint
    }
}

fn in_use(env: &Environment, leases: &[String]) -> Fault {
    let message = format!("environment {} is in use", env.id);
    let hint = format!(
        "release its leases with `groundskeeper release LEASE`, wait until they expire, or run \
         `groundskeeper rm {} --force`",
        env.id
    );
    Fault::new(Code::EnvironmentBusy, message, hint).with_evidence(leases.iter().cloned())
}

fn lived_in(env: &Environment) -> Fault {
    let message = format!(
        "environment {} is not in the live set of the control server, but processes run in it",
        env.id
    );
    let hint = format!(
        "run `groundskeeper ps {}` to list them; it can be removed when they have ended",
        env.id
    );
    Fault::new(Code::EnvironmentBusy, message, hint)
}

fn unsafe_to_remove(env: &Environment, unsaved: Vec<String>) -> Fault {
    let message = format!("environment {} has unsaved work", env.id);
    let hint = format!(
        "commit and push it, or run `groundskeeper rm {} --force` to move it to the trash and save \
         what git does not ignore under a rescue ref",
        env.id
    );
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(unsaved)
}

fn nothing_can_be_saved(env: &Environment, unsaved: Vec<String>) -> Fault {
    let message = format!("cannot save the work of environment {} under a rescue ref now", env.id);
    let hint = format!(
        "make its repository available again, or run `groundskeeper rm {} --force --no-rescue` to \
         move all of it to the trash, where it stays until it can be inspected",
        env.id
    );
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(unsaved)
}

fn changed_since(env: &Environment, unsaved: &[String]) -> Fault {
    let message = format!("environment {} has changed since its removal was accepted", env.id);
    let hint = format!("inspect it, then run `groundskeeper rm {} --force` again", env.id);
    Fault::new(Code::UnsafeToRemove, message, hint).with_evidence(unsaved.iter().cloned())
}
