//! Leases: who uses an environment, and until when. When a lease is in force is decided only here.

use crate::decision::{Decision, limit};
use crate::event::{Event, LeaseEvent, LeaseExpired, LeaseGranted, LeaseReleased};
use crate::fault::{Code, Fault};
use crate::former::Moment;
use crate::id::{EnvironmentId, LeaseId, Time};
use crate::model::lease::Lease;
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    /// Returns a lease that is in force at `now`.
    ///
    /// # Errors
    /// `lease_not_found` when it never existed, `lease_ended` when it has ended.
    pub fn lease_in_force(&self, id: &LeaseId, now: Time) -> Result<&Lease, Fault> {
        let hint = "acquire a lease first";
        match self.lease(id) {
            Some(lease) if lease.until > now => Ok(lease),
            None if !self.has_ended(id) => {
                Err(Fault::new(Code::LeaseNotFound, format!("there is no lease {id}"), hint))
            }
            _ => Err(Fault::new(Code::LeaseEnded, format!("lease {id} has ended"), hint)),
        }
    }

    /// Checks that a lease is in force on an environment.
    ///
    /// # Errors
    /// It is unknown, has ended, or is on another environment.
    pub(crate) fn holds_lease(
        &self,
        now: Time,
        id: &LeaseId,
        environment: &EnvironmentId,
    ) -> Result<(), Fault> {
        let hint = "acquire a lease on this environment, or omit the lease";
        if let Some(lease) = self.lease(id).filter(|lease| lease.environment != *environment) {
            let message = format!("lease {id} belongs to environment {}", lease.environment);
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        }
        let held = self.lease_in_force(id, now);
        held.map(|_| ()).map_err(|fault| Fault { hint: hint.to_owned(), ..fault })
    }

    pub(crate) fn claims(&self, id: &EnvironmentId, now: Time) -> Vec<String> {
        let leases = self.leases_of(id, now);
        leases.map(|(id, lease)| format!("lease {id}: {}", lease.purpose)).collect()
    }

    pub(crate) fn decide_lease(&self, moment: &Moment, grant: LeaseGranted) -> Decision {
        if self.remembers(grant.request.as_ref(), "lease", Some(&grant.environment))? {
            return Ok(Vec::new());
        }
        let (id, now) = (&grant.environment, moment.now);
        self.served(&moment.former, id)?;
        if grant.until.since(now) > policy::LEASE_SPAN_MAX || grant.until <= now {
            let days = policy::LEASE_SPAN_MAX.as_secs() / 86_400;
            let message = format!("a lease must end in the future and last at most {days} days");
            let hint = format!("choose a duration of 1 second to {days} days");
            return Err(Fault::new(Code::InvalidRequest, message, hint));
        }
        match self.lease(&grant.lease) {
            Some(held) if held.environment != *id => {
                let message =
                    format!("lease {} belongs to environment {}", grant.lease, held.environment);
                return Err(Fault::new(Code::InvalidRequest, message, "use another lease id"));
            }
            Some(_) => {}
            None if self.leases_of(id, now).count() >= policy::LEASES_PER_ENVIRONMENT_MAX => {
                return Err(limit("leases on one environment", policy::LEASES_PER_ENVIRONMENT_MAX));
            }
            None => {}
        }
        Ok(vec![grant.into()])
    }

    pub(crate) fn decide_release(&self, lease: LeaseId) -> Vec<Event> {
        match self.lease(&lease) {
            Some(held) => {
                let environment = held.environment.clone();
                vec![LeaseReleased { environment, lease }.into()]
            }
            None => Vec::new(),
        }
    }

    /// Returns the events of the leases that have ended by `now`.
    pub(crate) fn leases_over(&self, now: Time) -> Vec<Event> {
        let ended = self.leases().filter(|(_, lease)| lease.until <= now);
        let ended = ended.map(|(id, lease)| {
            let environment = lease.environment.clone();
            LeaseExpired { environment, lease: id.clone() }.into()
        });
        ended.collect()
    }

    /// Folds in an event about a lease.
    pub(crate) fn apply_lease(&mut self, at: At, event: LeaseEvent<'_>) {
        match event {
            LeaseEvent::LeaseGranted(e) => self.lease_granted(at, e),
            LeaseEvent::LeaseReleased(e) => self.lease_ended(&e.lease),
            LeaseEvent::LeaseExpired(e) => self.lease_ended(&e.lease),
        }
    }

    fn lease_granted(&mut self, at: At, e: &LeaseGranted) {
        self.remember(e.request.as_ref(), &e.environment, "lease", at.seq);
        self.with(at, &e.environment, |_| {});
        let lease = Lease {
            environment: e.environment.clone(),
            until: e.until,
            purpose: e.purpose.clone(),
        };
        self.leases.insert(e.lease.clone(), lease);
    }

    pub(crate) fn lease_ended(&mut self, lease: &LeaseId) {
        if self.leases.remove(lease).is_none() {
            return;
        }
        self.ended_leases.retain(|other| other != lease);
        self.ended_leases.push(lease.clone());
        if self.ended_leases.len() > policy::ENDED_LEASES_REMEMBERED {
            self.ended_leases.remove(0);
        }
    }
}
