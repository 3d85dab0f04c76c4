//! Requests from outside the host: live sets, commands that run once, and migrations.

use crate::command::Command;
use crate::decision::Decision;
use crate::event::{Event, LiveSetHeld, LiveSetTaken, RunFinished, RunRequested};
use crate::fault::{Code, Fault};
use crate::id::{EnvironmentId, LeaseId, RequestId, Time};
use crate::model::lease::Lease;
use crate::model::run::Run;
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    pub(crate) fn decide_from_afar(&self, now: Time, command: Command) -> Decision {
        match command {
            Command::Reconcile { set, options, actor } => {
                Ok(self.decide_reconcile(now, &set, &options, &actor))
            }
            Command::ConfirmLiveSet { epoch, options, actor } => {
                self.decide_confirm(now, epoch, &options, &actor)
            }
            Command::BeginRun { environment, request, lease, name, actor } => {
                let run = RunRequested { environment, request, name, actor };
                self.decide_begin_run(now, run, lease.as_ref())
            }
            Command::EndRun { request, code, why } => Ok(self.decide_end_run(request, code, why)),
            Command::Migrate { migration, plan, actor } => {
                self.decide_migrate(migration, plan, actor)
            }
            Command::UndoMigration { migration, actor } => {
                self.decide_undo_migration(&migration, actor)
            }
            other => {
                let message = format!("unexpected command: {other:?}");
                Err(Fault::new(Code::Defect, message, "please report this"))
            }
        }
    }

    /// Decides a run. A request runs once; one that names a lease must hold it.
    fn decide_begin_run(&self, now: Time, run: RunRequested, lease: Option<&LeaseId>) -> Decision {
        if let Some(known) = self.run(&run.request) {
            if known.environment == run.environment {
                return Ok(Vec::new());
            }
            let used_in = &known.environment;
            let message = format!("this idempotency key was already used for a run in {used_in}");
            let hint = "use a new key for a new request";
            return Err(Fault::new(Code::IdempotencyConflict, message, hint));
        }
        self.served(&run.environment)?;
        if let Some(id) = lease {
            self.held_lease(now, id, &run.environment)?;
        }
        Ok(vec![run.into()])
    }

    /// Returns a lease that is in force on an environment.
    ///
    /// # Errors
    /// It is unknown, has ended, or is on another environment.
    fn held_lease(
        &self,
        now: Time,
        id: &LeaseId,
        environment: &EnvironmentId,
    ) -> Result<&Lease, Fault> {
        let hint = "acquire a lease on this environment, or omit the lease";
        match self.lease(id) {
            Some(lease) if lease.environment != *environment => {
                let message = format!("lease {id} belongs to environment {}", lease.environment);
                Err(Fault::new(Code::InvalidRequest, message, hint))
            }
            Some(lease) if lease.until > now => Ok(lease),
            Some(_) => Err(Fault::new(Code::LeaseEnded, format!("lease {id} has ended"), hint)),
            None if self.has_ended(id) => {
                Err(Fault::new(Code::LeaseEnded, format!("lease {id} has ended"), hint))
            }
            None => Err(Fault::new(Code::LeaseNotFound, format!("there is no lease {id}"), hint)),
        }
    }

    pub(crate) fn decide_end_run(
        &self,
        request: RequestId,
        code: Option<i32>,
        why: String,
    ) -> Vec<Event> {
        let run = self.run(&request).filter(|run| run.ended.is_none());
        let environment = run.map(|run| run.environment.clone());
        let ended =
            environment.map(|environment| RunFinished { environment, request, code, why }.into());
        ended.into_iter().collect()
    }

    pub(crate) fn live_set_taken(&mut self, e: &LiveSetTaken) {
        self.live.held = self.live.held.take().filter(|held| held.server != e.server);
        self.live.taken = Some(e.clone());
    }

    pub(crate) fn live_set_held(&mut self, at: At, e: &LiveSetHeld) {
        self.live.held = Some(e.clone());
        self.live.held_at = at.seq;
    }

    pub(crate) fn run_requested(&mut self, at: At, e: &RunRequested) {
        if self.runs.len() >= policy::RUNS_REMEMBERED {
            let oldest = self.runs.iter().min_by_key(|(_, run)| run.seq).map(|(id, _)| id.clone());
            drop(oldest.map(|id| self.runs.remove(&id)));
        }
        let environment = e.environment.clone();
        self.runs.insert(e.request.clone(), Run { environment, seq: at.seq, ended: None });
    }

    pub(crate) fn run_finished(&mut self, e: &RunFinished) {
        if let Some(run) = self.runs.get_mut(&e.request) {
            run.ended = Some((e.code, e.why.clone()));
        }
    }
}
