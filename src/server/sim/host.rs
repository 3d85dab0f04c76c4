//! The host's side of the model: the core over its fake disk, the outbox and the registry of
//! commands are real; the API and what stands before it are simulated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::core::event::{Actor, Plan, TeardownOptions};
use crate::core::model::live_set::LiveSet as Set;
use crate::core::sim::harness::Harness;
use crate::core::{
    Command, Environment, EnvironmentId, Event, Fault, Nonce, Phase, Provision, RequestId, Seq,
    State,
};
use crate::service::types::live_set::ReconciledView;
use crate::session::answers::refusal;
use crate::session::exchange::open_message;
use crate::session::outbox::Outbox;
use crate::session::protocol::{
    Answer, FromHost, FromServer, HostCommand, LiveSet, Open, Opened, Watch,
};
use crate::session::registry::{Admission, CommandRegistry, ReadyAnswer};

/// A command in the queue of its environment.
pub(super) struct Job {
    pub(super) host_command: HostCommand,
    pub(super) has_begun: bool,
    /// The incarnation that existed when the command began.
    pub(super) life: Option<u32>,
}

/// A host; a kill loses everything that is not in its log.
pub(in crate::server) struct Host {
    pub(super) harness: Harness,
    pub(super) known: CommandRegistry,
    queues: BTreeMap<String, VecDeque<Job>>,
    /// The `exec` commands that run now.
    pub(super) runs: Vec<HostCommand>,
    done: VecDeque<ReadyAnswer>,
    /// Messages to send in this session, and the position of its outbox.
    out: Vec<FromHost>,
    outbox: Option<Outbox>,
    /// Request ids of the commands that were started.
    pub(super) ran: Vec<String>,
    /// Requests found in the log, and the number of records that were searched.
    seen: (BTreeSet<RequestId>, usize),
    /// Disables a guard for the negative control: the core gets no stable request ids of `exec`.
    pub(in crate::server) is_forgetful: bool,
}

pub(super) fn id(text: &str) -> EnvironmentId {
    EnvironmentId::parse(text).expect("an id")
}

pub(super) fn plan(name: &str) -> Plan {
    Plan { branch: format!("gk/{name}"), ..Plan::default() }
}

impl Host {
    pub(in crate::server) fn new() -> Self {
        Self {
            harness: Harness::new(),
            known: CommandRegistry::default(),
            queues: BTreeMap::new(),
            runs: Vec::new(),
            done: VecDeque::new(),
            out: Vec::new(),
            outbox: None,
            ran: Vec::new(),
            seen: (BTreeSet::new(), 0),
            is_forgetful: false,
        }
    }

    pub(in crate::server) fn state(&self) -> &State {
        &self.harness.state
    }

    pub(in crate::server) fn disk_agrees(&self) {
        self.harness.disk_agrees();
    }

    /// Kills the daemon (SIGKILL) and starts it again.
    pub(in crate::server) fn crash(&mut self, how_far: u8) {
        self.harness.crash(how_far);
        let harness = std::mem::replace(&mut self.harness, Harness::new());
        let (ran, seen) = (std::mem::take(&mut self.ran), std::mem::take(&mut self.seen));
        *self = Self { harness, ran, seen, is_forgetful: self.is_forgetful, ..Self::new() };
    }

    /// Ends the session.
    pub(in crate::server) fn hang_up(&mut self) {
        self.outbox = None;
        self.out.clear();
    }

    pub(in crate::server) fn open(&mut self) -> Open {
        self.hang_up();
        open_message(self.state(), "instance", "log")
    }

    /// Returns a server's answer to `open`.
    pub(in crate::server) fn opened(live: LiveSet, acked: u64) -> FromServer {
        FromServer::Opened(Opened {
            session: "s".to_owned(),
            server: "srv".to_owned(),
            host: "box".to_owned(),
            protocol: 1,
            heartbeat_ms: 1,
            lease_ms: 1,
            live: Some(live),
            acked,
            watch: Watch::default(),
        })
    }

    pub(in crate::server) fn on_message(&mut self, message: FromServer) {
        match message {
            FromServer::Opened(opened) => {
                self.outbox = Some(Outbox::new(opened.acked));
                if let Some(live) = opened.live {
                    self.reconcile(&live);
                }
            }
            FromServer::Live(live) => self.reconcile(&live),
            FromServer::Ack(ack) => {
                if let Some(outbox) = self.outbox.as_mut() {
                    outbox.ack(ack.seq);
                }
            }
            FromServer::Command(host_command) => self.handle(host_command),
            _ => {}
        }
    }

    /// Returns the messages that are due: answers, reports and events.
    pub(in crate::server) fn outgoing(&mut self) -> Vec<FromHost> {
        let Some(outbox) = self.outbox.as_mut() else { return Vec::new() };
        while let Some(done) = self.done.pop_front() {
            self.out.extend(self.known.answer(done).map(FromHost::Answer));
        }
        let Seq(head) = self.harness.state.seq();
        if let Some(range) = outbox.next(head) {
            let events = outbox.build_batch(range, &self.harness.log, (&self.harness.state, &[]));
            self.out.push(FromHost::Events(events));
        }
        std::mem::take(&mut self.out)
    }

    /// Applies a live set, and checks that it retires nothing that is listed or leased, heals
    /// nothing that is not served, and makes nothing.
    fn reconcile(&mut self, live: &LiveSet) {
        let listed: BTreeSet<EnvironmentId> = live.live.iter().map(|name| id(name)).collect();
        let set = Set {
            server: "srv".to_owned(),
            epoch: live.epoch,
            live: listed,
            known: Seq(live.known),
            confirmed: live.confirmed,
            by_hand: false,
        };
        let (now, before) = (self.harness.now, self.harness.log.len());
        let report = self.state().reconcile(now, &set);
        let leased = |id: &EnvironmentId| self.state().leases_of(id, now).next().is_some();
        assert!(!report.retired.iter().any(|id| set.live.contains(id) || leased(id)));
        let served =
            |id: &EnvironmentId| self.state().environment(id).is_some_and(Environment::is_served);
        assert!(report.healed.iter().all(served), "a tombstoned incarnation is not revived");
        let (options, actor) = (TeardownOptions::default(), Actor::default());
        self.harness.command(Command::Reconcile { set, options, actor });
        let made = |event: &Event| {
            matches!(event, Event::ProvisionRequested(_) | Event::RestoreRequested(_))
        };
        assert!(
            !self.harness.log[before..].iter().any(|r| made(&r.event)),
            "the request created nothing"
        );
        self.out.push(FromHost::Reconciled(ReconciledView::of(live.epoch, report)));
    }

    fn handle(&mut self, host_command: HostCommand) {
        match self.known.admit(&host_command) {
            Admission::Answered(answer) => self.out.push(FromHost::Answer(answer)),
            Admission::InProgress => {}
            Admission::Started if host_command.name == "environment.cancel" => {
                self.known.accepted(&host_command);
                let begun = self.cancel(&host_command);
                self.end(host_command.request, begun);
            }
            Admission::Started => {
                let lane = self.queues.entry(host_command.environment.clone()).or_default();
                lane.push_back(Job { host_command, has_begun: false, life: None });
            }
        }
    }

    /// Runs one round: effects proceed, the first command of each queue begins or ends, every
    /// `exec` ends.
    pub(in crate::server) fn work(&mut self) {
        self.harness.flow();
        for name in self.queues.keys().cloned().collect::<Vec<_>>() {
            let Some(mut job) = self.queues.get_mut(&name).and_then(VecDeque::pop_front) else {
                continue;
            };
            match self.go_on(&mut job) {
                Some(ended) => self.end(job.host_command.request, ended),
                None if job.host_command.name == "exec" => {}
                None => self.queues.entry(name).or_default().push_front(job),
            }
        }
        for host_command in std::mem::take(&mut self.runs) {
            let request = RequestId::parse(&host_command.request).expect("a request");
            self.harness.command(Command::EndRun { request, code: Some(0), why: None });
            self.end(host_command.request, Ok((200, json!({ "code": 0 }))));
        }
        self.queues.retain(|_, lane| !lane.is_empty());
    }

    fn end(&mut self, request: String, ended: Result<(u16, Value), Fault>) {
        let answer = match ended {
            Ok((status, body)) => Answer { request, status, body },
            Err(fault) => refusal(request, &fault),
        };
        let done = self.known.finish(answer);
        self.done.push_back(done);
    }

    pub(in crate::server) fn remove_by_hand(&mut self, name: &str) {
        self.harness.command(Command::Destroy {
            environment: id(name),
            incarnation: None,
            force: true,
            options: TeardownOptions::default(),
            actor: Actor::default(),
            request: None,
        });
    }

    pub(in crate::server) fn make_by_hand(&mut self, name: &str) {
        let (environment, plan, actor) = (id(name), plan(name), Actor::default());
        let (request, nonce, attributes) = (None, nonce(), None);
        let made =
            Command::Provision(Provision { environment, plan, actor, request, nonce, attributes });
        self.harness.command(made);
    }

    pub(in crate::server) fn restore_by_hand(&mut self, name: &str) {
        let (environment, actor) = (id(name), Actor::default());
        self.harness.command(restore(environment, actor, None));
    }

    /// Counts the `exec` commands that were started.
    pub(in crate::server) fn commands(&self) -> u64 {
        self.ran.len() as u64
    }

    /// Returns whether this incarnation exists and is not tombstoned.
    pub(in crate::server) fn lives(&self, name: &str, life: u64) -> bool {
        let env = self.state().environment(&id(name));
        env.is_some_and(|e| u64::from(e.incarnation) == life && e.phase != Phase::Tombstoned)
    }

    /// Returns the ids of the host's leases.
    pub(in crate::server) fn leases(&self) -> BTreeSet<String> {
        self.state().leases().map(|(lease, _)| lease.to_string()).collect()
    }

    /// Returns whether nothing is owed now, nothing runs, and the whole log is acknowledged.
    pub(in crate::server) fn is_quiet(&self) -> bool {
        let Seq(head) = self.state().seq();
        let owes = self.state().owed(self.harness.now).next().is_some();
        let is_acknowledged = self.outbox.as_ref().is_some_and(|outbox| outbox.acked() == head);
        !owes
            && is_acknowledged
            && self.queues.is_empty()
            && self.runs.is_empty()
            && self.done.is_empty()
    }

    /// Checks that a request led to at most one record, and its command ran at most once.
    pub(in crate::server) fn did_nothing_twice(&mut self) {
        let (seen, known) = &mut self.seen;
        for record in &self.harness.log[*known..] {
            let request = match &record.event {
                Event::ProvisionRequested(e) => e.request.as_ref(),
                Event::RestoreRequested(e) => e.request.as_ref(),
                Event::DestroyRequested(e) => e.request.as_ref(),
                Event::LeaseGranted(e) => e.request.as_ref(),
                Event::RunRequested(e) => Some(&e.request),
                _ => None,
            };
            if let Some(request) = request {
                assert!(seen.insert(request.clone()), "{request} was done twice");
            }
        }
        *known = self.harness.log.len();
        let once: BTreeSet<&String> = self.ran.iter().collect();
        assert_eq!(once.len(), self.ran.len(), "a command was run twice");
    }

    pub(in crate::server) fn history(&self) -> Vec<String> {
        let short = |record: &crate::core::Record| {
            format!("{record:?}").chars().take(300).collect::<String>()
        };
        self.harness.log.iter().map(short).collect()
    }
}

/// The histories tell incarnations apart by id and number, so any nonce serves.
pub(super) fn nonce() -> Nonce {
    Nonce::parse(&"0".repeat(32)).expect("a nonce")
}

pub(super) fn restore(
    environment: EnvironmentId,
    actor: Actor,
    request: Option<RequestId>,
) -> Command {
    let (incarnation, branch, reuse_branch, nonce) = (None, None, false, nonce());
    let wanted = crate::core::Restore {
        environment,
        incarnation,
        branch,
        reuse_branch,
        actor,
        request,
        nonce,
    };
    Command::Restore(wanted)
}
