//! How the host of the model carries out a command: it begins, and later it has ended. The core
//! decides; the answers are those that the API gives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::event::{Actor, LeaseGranted, TeardownOptions};
use crate::core::model::run::RunEnd;
use crate::core::{
    Code, Command, Environment, EnvironmentId, Fault, LeaseId, Phase, Provision, RequestId,
    destroyed, not_found,
};
use crate::server::sim::host::{Host, Job, id, nonce, plan, restore};
use crate::service::types::environment::EnvironmentView;
use crate::service::types::removal::RemovedView;
use crate::session::protocol::HostCommand;
use crate::session::registry::cancelled;

fn lease_id(host_command: &HostCommand, field: &str) -> LeaseId {
    LeaseId::parse(host_command.body[field].as_str().unwrap_or("none")).expect("a lease")
}

impl Host {
    /// Begins a command or checks whether it has ended; `None` while it runs.
    pub(super) fn go_on(&mut self, job: &mut Job) -> Option<Result<(u16, Value), Fault>> {
        let name = id(&job.host_command.environment);
        if !job.has_begun {
            let life = self.state().environment(&name).map(|e| e.incarnation);
            let begun = self.begin(&job.host_command);
            (job.has_begun, job.life) = (true, life);
            match begun {
                Ok(None) => {}
                Ok(Some(ended)) => return Some(Ok(ended)),
                Err(fault) => return Some(Err(fault)),
            }
        }
        let found = self.state().environment(&name);
        match job.host_command.name.as_str() {
            "environment.provision" | "environment.restore" => {
                let over = found.is_none_or(|e| e.phase != Phase::Provisioning);
                over.then(|| found.map(|e| (200, self.view(e))).ok_or_else(|| not_found(&name)))
            }
            "environment.destroy" => self.removed(&name, job.life),
            _ => None,
        }
    }

    fn view(&self, env: &Environment) -> Value {
        serde_json::to_value(EnvironmentView::of(self.state(), env)).expect("json")
    }

    /// Answers a destroy as the API does, once it has ended.
    fn removed(
        &self,
        name: &EnvironmentId,
        life: Option<u32>,
    ) -> Option<Result<(u16, Value), Fault>> {
        let meant = |e: &&Environment| life.is_none_or(|life| life == e.incarnation);
        let env = self.state().environment(name).filter(meant);
        let served = |e: &Environment| matches!(e.phase, Phase::Ready | Phase::Retiring);
        if env.is_some_and(|e| e.owed.is_some() && !served(e)) {
            return None;
        }
        let alive = env.filter(|e| !matches!(e.phase, Phase::Tombstoned | Phase::TearingDown));
        if let Some(fault) = alive.and_then(|e| e.refusal.clone()) {
            return Some(Err(fault));
        }
        let mut view = RemovedView::of(name.as_str(), env, self.state().seq());
        if env.is_none() {
            view.incarnation = life.unwrap_or_default();
        }
        let status = if view.phase == "tombstoned" { 200 } else { 202 };
        Some(Ok((status, serde_json::to_value(view).expect("json"))))
    }

    /// Begins a command; returns its result if it ends at once.
    fn begin(&mut self, host_command: &HostCommand) -> Result<Option<(u16, Value)>, Fault> {
        let (environment, actor) = (id(&host_command.environment), Actor::default());
        let request = RequestId::parse(&host_command.request).ok();
        let command = match host_command.name.as_str() {
            "environment.provision" => {
                if !self.known.unqueue(&host_command.environment, &host_command.request) {
                    return Err(cancelled());
                }
                let plan = plan(&host_command.environment);
                let (nonce, attributes) = (nonce(), None);
                Command::Provision(Provision {
                    environment,
                    plan,
                    actor,
                    request,
                    nonce,
                    attributes,
                })
            }
            "environment.restore" => restore(environment, actor, request),
            "environment.destroy" => {
                let life = host_command.body["incarnation"].as_u64();
                Command::Destroy {
                    environment,
                    incarnation: life.and_then(|n| u32::try_from(n).ok()),
                    force: host_command.body["force"] == true,
                    options: TeardownOptions::default(),
                    actor,
                    request,
                }
            }
            "lease.acquire" => {
                let lease = lease_id(host_command, "id");
                let until = self.harness.now.after(Duration::from_secs(86_400));
                let purpose = "thread".to_owned();
                Command::Lease(LeaseGranted { environment, lease, until, purpose, actor, request })
            }
            "lease.release" => return self.release(host_command).map(Some),
            _ => return self.run(host_command),
        };
        self.decide(command)?;
        Ok((host_command.name == "lease.acquire").then(|| (201, json!({}))))
    }

    /// Submits a command to the core; returns its refusal, or whether it changed anything.
    fn decide(&mut self, command: Command) -> Result<bool, Fault> {
        self.state().decide(self.harness.now, command.clone())?;
        Ok(self.harness.command(command))
    }

    pub(super) fn cancel(&mut self, host_command: &HostCommand) -> Result<(u16, Value), Fault> {
        let environment = id(&host_command.environment);
        self.decide(Command::Cancel { environment: environment.clone(), actor: Actor::default() })?;
        match self.state().environment(&environment) {
            Some(env) if env.phase == Phase::Tombstoned => Err(destroyed(&environment)),
            Some(env) => Ok((202, self.view(env))),
            None => Err(not_found(&environment)),
        }
    }

    fn release(&mut self, host_command: &HostCommand) -> Result<(u16, Value), Fault> {
        let lease = lease_id(host_command, "lease");
        if self.state().lease(&lease).is_none() {
            return Err(Fault::new(Code::LeaseEnded, "it has ended", "acquire one"));
        }
        self.decide(Command::Release { lease })?;
        Ok((204, Value::Null))
    }

    fn run(&mut self, host_command: &HostCommand) -> Result<Option<(u16, Value)>, Fault> {
        let (environment, actor) = (id(&host_command.environment), Actor::default());
        let mut request = RequestId::parse(&host_command.request).expect("a request");
        if self.is_forgetful {
            let name = format!("{}-{}", host_command.request, self.state().seq());
            request = RequestId::parse(&name).expect("a request");
        }
        let name = "test".to_owned();
        let begin =
            Command::BeginRun { environment, request: request.clone(), lease: None, name, actor };
        if self.decide(begin)? {
            self.ran.push(host_command.request.clone());
            self.runs.push(host_command.clone());
            return Ok(None);
        }
        match self.state().run(&request).and_then(|run| run.ended.clone()) {
            Some(RunEnd { code, why }) => {
                Ok(Some((200, json!({ "code": code, "why": why.unwrap_or_default() }))))
            }
            None => Err(Fault::new(Code::LimitReached, "it is being carried out", "ask again")),
        }
    }
}
