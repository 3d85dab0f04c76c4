//! One session, from `open` to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::core::event::KeepReason;
use crate::core::{EnvironmentId, Phase, Seq, State};
use crate::engine::watcher::{Change, Subscription};
use crate::service::reconcile::apply_live_set;
use crate::service::types::live_set::LiveView;
use crate::service::types::problem::Problem;
use crate::session::calls::actor;
use crate::session::context::Client;
use crate::session::heartbeat::{Clock, Liveness, Verdict};
use crate::session::outbox::{Outbox, fact};
use crate::session::protocol::{
    Changed, Fact, FromHost, FromServer, LiveSet, Open, Opened, PROTOCOL_MAX, PROTOCOL_MIN,
    Protocols, Watch,
};
use crate::session::transport::{SessionError, Wire};

/// Timeout of the server's answer to `open`.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Interval at which a live set is applied again: an environment in use may be idle by then.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
/// Bounds on the heartbeat interval that a server may ask for, in milliseconds.
const HEARTBEAT_BOUNDS: (u64, u64) = (50, 60_000);
/// Longest interval of the check for a suspend, after which a new session is opened at once.
pub(super) const SUSPEND_CHECK_EVERY: Duration = Duration::from_secs(2);

/// Reason why a session ended.
pub(super) enum Ended {
    /// The connection failed or was closed.
    SessionError(SessionError),
    /// The server refused the session.
    Refused(Box<Problem>),
    /// Another daemon took this host's session.
    Replaced,
    /// The machine was suspended; the connection may be stale, and neither side is at fault.
    Suspended,
}

impl From<SessionError> for Ended {
    fn from(broken: SessionError) -> Self {
        Self::SessionError(broken)
    }
}

/// One session on one connection.
pub(super) struct Session<'a, S> {
    client: &'a mut Client,
    wire: Wire<S, FromServer, FromHost>,
    server: String,
    outbox: Outbox,
    /// The last live set, to be applied again while `keeps_some` is set.
    live: Option<LiveSet>,
    keeps_some: bool,
    watched: Watched,
}

/// The server's subscription to changes of worktrees.
#[derive(Default)]
struct Watched {
    all: bool,
    which: BTreeSet<String>,
    subscriptions: Vec<Subscription>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    pub(super) fn new(client: &'a mut Client, wire: Wire<S, FromServer, FromHost>) -> Self {
        Self {
            client,
            wire,
            server: String::new(),
            outbox: Outbox::new(0),
            live: None,
            keeps_some: false,
            watched: Watched::default(),
        }
    }

    pub(super) async fn run(mut self) -> Ended {
        let opened = match self.open().await {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        match self.run_loop(opened).await {
            Ok(never) => match never {},
            Err(ended) => {
                self.wire.close().await;
                ended
            }
        }
    }

    async fn open(&mut self) -> Result<Opened, Ended> {
        self.wire.send(&FromHost::Open(Box::new(self.open_message()))).await?;
        let answer = tokio::time::timeout(OPEN_LIMIT, self.wire.receive()).await;
        let opened = match answer.map_err(|_| SessionError::TimedOut)?? {
            FromServer::Opened(opened) => opened,
            FromServer::Refused(refused) => {
                return Err(Ended::Refused(Box::new(refused.problem)));
            }
            FromServer::Close(close) if close.reason == "replaced" => return Err(Ended::Replaced),
            other => {
                return Err(
                    SessionError::Malformed(format!("received {other:?} before `opened`")).into()
                );
            }
        };
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&opened.protocol) {
            return Err(SessionError::Malformed(format!(
                "protocol {} is unknown",
                opened.protocol
            ))
            .into());
        }
        self.wire.set_session(&opened.session);
        self.server.clone_from(&opened.server);
        self.outbox = Outbox::new(opened.acked);
        self.client.status.send_modify(|view| {
            "open".clone_into(&mut view.stage);
            view.host.clone_from(&opened.host);
            view.acked = opened.acked;
            view.opened += 1;
            view.error.clear();
        });
        tracing::info!(server = %opened.server, host = %opened.host, "session opened");
        Ok(opened)
    }

    fn open_message(&self) -> Open {
        let (app, instance) = (&self.client.app, &self.client.instance);
        app.handle.view(|state| open_message(state, instance, &app.about.log_id))
    }

    async fn run_loop(&mut self, opened: Opened) -> Result<std::convert::Infallible, Ended> {
        let (least, most) = HEARTBEAT_BOUNDS;
        let every = Duration::from_millis(opened.heartbeat_ms.clamp(least, most));
        // At least two heartbeats must fit into the timeout, whatever the server asks for.
        let lease = Duration::from_millis(opened.lease_ms).max(every * 2);
        let mut heartbeat = ticks(every);
        let mut again = ticks(AGAIN_EVERY);
        let app = Arc::clone(&self.client.app);
        let (mut head, mut changes) = (app.handle.head(), app.watching.changes());
        let (clock, mut suspend_check) = (Clock::new(), ticks(SUSPEND_CHECK_EVERY.min(every)));
        let mut liveness = Liveness::new(clock.read(), lease);
        self.watch(&opened.watch);
        if let Some(live) = opened.live {
            self.reconcile(live).await?;
        }
        self.deliver().await?;
        loop {
            tokio::select! {
                message = self.wire.receive() => {
                    liveness.on_received(clock.read());
                    self.on_message(message?).await?;
                }
                // An answer that is lost with the connection is not repeated from here: the server
                // sends the command again, and the cache answers it.
                done = self.client.commands.done.recv() => {
                    let answer = done.and_then(|done| self.client.commands.answer(done));
                    if let Some(answer) = answer {
                        self.wire.send(&FromHost::Answer(answer)).await?;
                    }
                }
                _ = head.changed() => self.deliver().await?,
                change = changes.recv() => self.changed(change).await?,
                _ = suspend_check.tick() => match liveness.check(clock.read()) {
                    Verdict::Alive => {}
                    Verdict::Suspended => return Err(Ended::Suspended),
                    Verdict::Silent => return Err(SessionError::Silent(lease.as_secs()).into()),
                },
                _ = heartbeat.tick() => self.wire.send(&FromHost::Ping).await?,
                _ = again.tick() => {
                    self.deliver().await?;
                    if let Some(live) = self.live.clone().filter(|_| self.keeps_some) {
                        self.reconcile(live).await?;
                    }
                }
            }
        }
    }

    async fn on_message(&mut self, message: FromServer) -> Result<(), Ended> {
        match message {
            FromServer::Command(command) => {
                let app = Arc::clone(&self.client.app);
                if let Some(answer) = self.client.commands.handle(&app, command) {
                    self.wire.send(&FromHost::Answer(answer)).await?;
                }
            }
            FromServer::Live(live) => self.reconcile(live).await?,
            FromServer::Ack(ack) => {
                self.outbox.ack(ack.seq);
                self.delivered().await?;
            }
            FromServer::Nack(nack) => {
                tracing::warn!(nack.first, nack.last, nack.why, "the server rejected events");
                if let Some(seq) = self.outbox.nack(nack.first, nack.last) {
                    self.skip_record(seq, &nack.why).await;
                }
                self.delivered().await?;
            }
            FromServer::Watch(watch) => self.watch(&watch),
            FromServer::Close(close) if close.reason == "replaced" => return Err(Ended::Replaced),
            FromServer::Close(close) => {
                tracing::info!(close.reason, "the server closed the session");
                return Err(SessionError::Closed.into());
            }
            FromServer::Ping => self.wire.send(&FromHost::Pong).await?,
            FromServer::Refused(refused) => {
                return Err(Ended::Refused(Box::new(refused.problem)));
            }
            FromServer::Pong | FromServer::Opened(_) | FromServer::Unknown => {}
        }
        Ok(())
    }

    /// Applies a live set and reports the result. A failure is logged and does not end the session.
    async fn reconcile(&mut self, live: LiveSet) -> Result<(), Ended> {
        let wanted = LiveView {
            server: self.server.clone(),
            epoch: live.epoch,
            live: live.live.clone(),
            known: Some(live.known),
            confirmed: live.confirmed,
        };
        match apply_live_set(&self.client.app, wanted, actor()).await {
            Ok(report) => {
                self.keeps_some = report.kept.iter().any(|k| k.why != KeepReason::Adopted.as_str());
                // A retired environment returns to service if its teardown finds processes in it.
                self.keeps_some |= !report.retired.is_empty() && !report.held;
                let epoch = live.epoch;
                self.live = Some(live);
                self.client.status.send_modify(|view| view.epoch = epoch);
                self.wire.send(&FromHost::Reconciled(report)).await?;
            }
            Err(fault) => tracing::warn!(%fault, "cannot apply a live set"),
        }
        Ok(())
    }

    async fn delivered(&mut self) -> Result<(), Ended> {
        let acked = self.outbox.acked();
        self.client.status.send_modify(|view| view.acked = acked);
        self.deliver().await
    }

    /// Skips a record that the server rejects: logs it, and counts it once in the status.
    async fn skip_record(&mut self, seq: u64, why: &str) {
        let kind = self.client.kind_of(seq).await;
        tracing::error!(seq, kind, why, "the server rejected a record; skipping it");
        if seq > self.client.last_rejected {
            self.client.last_rejected = seq;
            self.client.status.send_modify(|view| view.skipped += 1);
        }
    }

    async fn deliver(&mut self) -> Result<(), Ended> {
        match self.outbox.batch(&self.client.app).await {
            Ok(Some(events)) => self.wire.send(&FromHost::Events(events)).await?,
            Ok(None) => {}
            Err(fault) => tracing::warn!(%fault, "cannot read events for the server"),
        }
        Ok(())
    }

    fn watch(&mut self, wanted: &Watch) {
        let watching = &self.client.app.watching;
        let ids = wanted.environments.iter().filter_map(|id| EnvironmentId::parse(id).ok());
        let subscriptions = if wanted.all {
            vec![watching.subscribe(None)]
        } else {
            ids.map(|id| watching.subscribe(Some(id))).collect()
        };
        let which = wanted.environments.iter().cloned().collect();
        // Assigned last: the old subscriptions end after the new ones began, so that a worktree in
        // both sets is watched without a gap.
        self.watched = Watched { all: wanted.all, which, subscriptions };
    }

    async fn changed(
        &mut self,
        change: Result<Change, broadcast::error::RecvError>,
    ) -> Result<(), Ended> {
        // Lagged behind. Changes are hints, and the server gets the present state when it asks.
        let Ok(change) = change else { return Ok(()) };
        let environment = change.environment.to_string();
        let followed = self.watched.all || self.watched.which.contains(&environment);
        if followed && !self.watched.subscriptions.is_empty() {
            let kinds = change.kinds.names().into_iter().map(str::to_owned).collect();
            self.wire.send(&FromHost::Changed(Changed { environment, kinds })).await?;
        }
        Ok(())
    }
}

/// Returns the first message of a session, from the present state.
pub(crate) fn open_message(state: &State, instance: &str, log: &str) -> Open {
    let alive = state.environments().filter(|e| e.phase != Phase::Tombstoned);
    let leases = state.leases();
    let Seq(head) = state.seq();
    Open {
        host: None,
        instance: instance.to_owned(),
        boot: state.boot(),
        version: crate::VERSION.to_owned(),
        protocol: Protocols::OURS,
        log: log.to_owned(),
        head,
        // The error of an environment is sent with the next record about it.
        loaded: alive.map(|env| Fact { error: None, ..fact(env) }).collect(),
        leases: leases.map(|(id, l)| (id.to_string(), l.environment.to_string())).collect(),
    }
}

/// Returns an interval that starts one period from now and does not burst after a stall.
fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}
