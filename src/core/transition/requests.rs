//! Requests that run once: remembered idempotency keys, and runs.

use crate::decision::Decision;
use crate::event::{Event, RunEvent, RunFinished, RunRequested};
use crate::fault::{Code, Fault};
use crate::former::Moment;
use crate::id::{EnvironmentId, LeaseId, RequestId, Seq};
use crate::model::lease::IdempotencyRecord;
use crate::model::run::{Run, RunEnd};
use crate::model::step::At;
use crate::policy;
use crate::state::State;

impl State {
    /// Returns whether this very request was decided before. A key that was used for another verb,
    /// or another environment than `environment`, is refused; `None` accepts any environment.
    pub(crate) fn remembers(
        &self,
        key: Option<&RequestId>,
        verb: &str,
        environment: Option<&EnvironmentId>,
    ) -> Result<bool, Fault> {
        let Some(known) = key.and_then(|k| self.request(k)) else { return Ok(false) };
        if known.verb == verb && environment.is_none_or(|e| *e == known.environment) {
            return Ok(true);
        }
        Err(Fault::new(
            Code::IdempotencyConflict,
            format!(
                "this idempotency key was already used to {} {}",
                known.verb, known.environment
            ),
            "use a new Idempotency-Key for a new request",
        ))
    }

    pub(crate) fn remember(
        &mut self,
        key: Option<&RequestId>,
        env: &EnvironmentId,
        verb: &str,
        seq: Seq,
    ) {
        let Some(key) = key else { return };
        let what = IdempotencyRecord { environment: env.clone(), verb: verb.to_owned(), seq };
        if let Some(old) = self.requests.insert(key.clone(), what) {
            self.request_order.remove(&old.seq);
        }
        self.request_order.insert(seq, key.clone());
        while self.request_order.len() > policy::REQUESTS_REMEMBERED {
            if let Some((_, oldest)) = self.request_order.pop_first() {
                self.requests.remove(&oldest);
            }
        }
    }

    /// Decides a run. A request runs once; one that names a lease must hold it.
    pub(crate) fn decide_begin_run(
        &self,
        moment: &Moment,
        run: RunRequested,
        lease: Option<&LeaseId>,
    ) -> Decision {
        if let Some(known) = self.run(&run.request) {
            if known.environment == run.environment {
                return Ok(Vec::new());
            }
            let used_in = &known.environment;
            let message = format!("this idempotency key was already used for a run in {used_in}");
            let hint = "use a new key for a new request";
            return Err(Fault::new(Code::IdempotencyConflict, message, hint));
        }
        self.served(&moment.former, &run.environment)?;
        if let Some(id) = lease {
            self.holds_lease(moment.now, id, &run.environment)?;
        }
        Ok(vec![run.into()])
    }

    pub(crate) fn decide_end_run(
        &self,
        request: RequestId,
        code: Option<i32>,
        why: Option<String>,
    ) -> Vec<Event> {
        let run = self.run(&request).filter(|run| run.ended.is_none());
        let environment = run.map(|run| run.environment.clone());
        let ended =
            environment.map(|environment| RunFinished { environment, request, code, why }.into());
        ended.into_iter().collect()
    }

    /// Folds in an event about a run.
    pub(crate) fn apply_run(&mut self, at: At, event: RunEvent<'_>) {
        match event {
            RunEvent::RunRequested(e) => self.run_requested(at, e),
            RunEvent::RunFinished(e) => self.run_finished(e),
        }
    }

    fn run_requested(&mut self, at: At, e: &RunRequested) {
        if self.runs.len() >= policy::RUNS_REMEMBERED {
            let oldest = self.runs.iter().min_by_key(|(_, run)| run.seq).map(|(id, _)| id.clone());
            drop(oldest.map(|id| self.runs.remove(&id)));
        }
        let environment = e.environment.clone();
        self.runs.insert(e.request.clone(), Run { environment, seq: at.seq, ended: None });
    }

    fn run_finished(&mut self, e: &RunFinished) {
        if let Some(run) = self.runs.get_mut(&e.request) {
            run.ended = Some(RunEnd { code: e.code, why: e.why.clone() });
        }
    }
}
