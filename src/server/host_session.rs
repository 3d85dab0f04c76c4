//! One session with a host, from its first message to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::core::{Code, Fault};
use crate::server::app::Shared;
use crate::server::catalog::Host;
use crate::server::facts;
use crate::server::registry::{LiveSession, QUEUE_MAX};
use crate::server::sync::{self, SyncCursor};
use crate::service::types::problem::Problem;
use crate::session::connector::random_name;
use crate::session::protocol::{
    Ack, Answer, Close, Events, FromHost, FromServer, Nack, Open, Opened, Protocols, Refused, Watch,
};
use crate::session::transport::{SessionError, Wire};

/// Timeout of the first message.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

type HostWire<S> = Wire<S, FromHost, FromServer>;

/// Runs a host's connection until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    host: Host,
    mut wire: HostWire<S>,
) {
    let opened = tokio::time::timeout(OPEN_LIMIT, wire.receive()).await;
    let open = match opened {
        Ok(Ok(FromHost::Open(open))) => open,
        Ok(Ok(other)) => {
            let message = format!("received {other:?} before `open`");
            return refuse(wire, Fault::new(Code::InvalidRequest, message, "send `open` first"))
                .await;
        }
        Ok(Err(SessionError::Malformed(why))) => {
            let message = format!("cannot read the first message: {why}");
            let hint = "update the older of daemon and server";
            return refuse(wire, Fault::new(Code::InvalidRequest, message, hint)).await;
        }
        Ok(Err(_)) | Err(_) => return,
    };
    let protocol = match negotiate_protocol(&host, &open) {
        Ok(protocol) => protocol,
        Err(fault) => return refuse(wire, fault).await,
    };
    let id = host.id.clone();
    if shared.registry.is_replaced(&id, &open.instance) {
        let reason = "replaced".to_owned();
        drop(wire.send(&FromServer::Close(Close { reason })).await);
        return wire.close().await;
    }
    let mut host_session = match HostSession::register(shared, id, &open) {
        Ok(host_session) => host_session,
        Err(fault) => return refuse(wire, fault).await,
    };
    let ended = host_session.run(&mut wire, *open, protocol).await;
    tracing::info!(host = %host_session.host, reason = %ended, "session ended");
    host_session.shared.registry.unregister(&host_session.host, &host_session.session);
    host_session.shared.registry.notify(json!({ "type": "host.away", "host": host_session.host }));
    wire.close().await;
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut wire: HostWire<S>, fault: Fault) {
    tracing::warn!(%fault, "refused a session");
    drop(wire.send(&FromServer::Refused(Refused { problem: Problem::of(&fault) })).await);
    wire.close().await;
}

fn negotiate_protocol(host: &Host, open: &Open) -> Result<u32, Fault> {
    if open.host.as_ref().is_some_and(|named| *named != host.id) {
        let message = "the key belongs to another host";
        return Err(Fault::new(Code::Unauthorized, message, "use this host's own key"));
    }
    let (ours, theirs) = (Protocols::OURS, open.protocol);
    ours.common(theirs).ok_or_else(|| {
        let message = format!(
            "the daemon speaks protocols {} to {}, this server {} to {}",
            theirs.min, theirs.max, ours.min, ours.max
        );
        Fault::new(Code::ProtocolMismatch, message, "update the older of daemon and server")
    })
}

struct HostSession {
    shared: Arc<Shared>,
    host: String,
    session: String,
    outgoing: mpsc::Receiver<FromServer>,
    wake: Arc<Notify>,
    confirmed: Arc<AtomicU64>,
    cursor: SyncCursor,
    watched: bool,
    last_received: Instant,
    began: Instant,
}

impl HostSession {
    /// Registers the session; a session that it replaces is asked to close.
    fn register(shared: Arc<Shared>, host: String, open: &Open) -> Result<Self, Fault> {
        let (sender, outgoing) = mpsc::channel(QUEUE_MAX);
        let (wake, confirmed) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let session = random_name();
        let live = LiveSession {
            session: session.clone(),
            instance: open.instance.clone(),
            log: open.log.clone(),
            boot: open.boot,
            version: open.version.clone(),
            outgoing: sender,
            wake: Arc::clone(&wake),
            confirmed: Arc::clone(&confirmed),
            reconciled: None,
            settled_us: None,
            replaced: Vec::new(),
        };
        if let Some(before) = shared.registry.register(&host, live)? {
            let same = before.instance == open.instance;
            let reason = if same { "reconnected" } else { "replaced" }.to_owned();
            // A full queue drops this: the old session then ends at its next message, and a
            // replaced daemon is refused when it reconnects.
            drop(before.outgoing.try_send(FromServer::Close(Close { reason })));
        }
        Ok(Self {
            shared,
            host,
            session,
            outgoing,
            wake,
            confirmed,
            cursor: SyncCursor::new(open.head),
            watched: false,
            last_received: Instant::now(),
            began: Instant::now(),
        })
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
        open: Open,
        protocol: u32,
    ) -> String {
        let ended = async {
            self.open(wire, open, protocol).await?;
            self.run_loop(wire).await
        };
        match ended.await {
            Ok(never) => match never {},
            Err(ended) => ended.to_string(),
        }
    }

    async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
        open: Open,
        protocol: u32,
    ) -> Result<(), SessionError> {
        let id = self.host.clone();
        let taken = self.shared.catalog.with(move |tx| sync::open_session(tx, &id, &open)).await;
        let (live, acked) = match taken {
            Ok(taken) => taken,
            Err(fault) => {
                drop(
                    wire.send(&FromServer::Refused(Refused { problem: Problem::of(&fault) })).await,
                );
                return Err(SessionError::Closed);
            }
        };
        self.cursor.opened(&live);
        self.watched = self.shared.registry.has_subscribers();
        let opened = Opened {
            session: self.session.clone(),
            server: self.shared.catalog.server.to_string(),
            host: self.host.clone(),
            protocol,
            heartbeat_ms: self.shared.timing.heartbeat.as_millis() as u64,
            lease_ms: self.shared.timing.lease.as_millis() as u64,
            live: Some(live),
            acked,
            watch: Watch { all: self.watched, environments: Vec::new() },
        };
        wire.send(&FromServer::Opened(opened)).await?;
        wire.set_session(&self.session);
        self.shared.registry.notify(json!({ "type": "host.there", "host": self.host }));
        self.send_pending(wire).await
    }

    async fn run_loop<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut heartbeat = interval(self.shared.timing.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = interval(self.shared.timing.repeat);
        again.reset();
        let mut stop = self.shared.stop.clone();
        let wake = Arc::clone(&self.wake);
        self.last_received = Instant::now();
        loop {
            tokio::select! {
                message = wire.receive() => {
                    self.last_received = Instant::now();
                    self.on_message(wire, message?).await?;
                }
                Some(message) = self.outgoing.recv() => {
                    let is_end = matches!(message, FromServer::Close(_));
                    wire.send(&message).await?;
                    if is_end {
                        return Err(SessionError::Closed);
                    }
                }
                () = wake.notified() => self.send_pending(wire).await?,
                _ = again.tick() => {
                    // The host may have refused a command because it was overloaded, or kept an
                    // environment because it was in use; both may have changed.
                    self.cursor.resend_all();
                    self.send_pending(wire).await?;
                }
                _ = heartbeat.tick() => {
                    if self.last_received.elapsed() > self.shared.timing.lease {
                        return Err(SessionError::TimedOut);
                    }
                    wire.send(&FromServer::Ping).await?;
                }
                () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                    let reason = "shutdown".to_owned();
                    drop(wire.send(&FromServer::Close(Close { reason })).await);
                    return Err(SessionError::Closed);
                }
            }
        }
    }

    /// Sends what the catalogue holds and the session has not sent: operations, then the live set.
    async fn send_pending<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
    ) -> Result<(), SessionError> {
        let id = self.host.clone();
        let found = self.shared.catalog.with(move |tx| sync::read_pending(tx, &id)).await;
        // The session ends here, too, if its host was removed.
        let seen = found.map_err(|fault| {
            tracing::warn!(%fault, host = %self.host, "ending the session");
            SessionError::Closed
        })?;
        let confirmed = self.confirmed.swap(0, Ordering::AcqRel);
        for message in self.cursor.unsent(seen, confirmed) {
            wire.send(&message).await?;
        }
        let watched = self.shared.registry.has_subscribers();
        if std::mem::replace(&mut self.watched, watched) != watched {
            let watch = Watch { all: watched, environments: Vec::new() };
            wire.send(&FromServer::Watch(watch)).await?;
        }
        Ok(())
    }

    async fn on_message<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
        message: FromHost,
    ) -> Result<(), SessionError> {
        if !self.shared.registry.is_current(&self.host, &self.session) {
            // A message of a replaced session may be older than those of the current one.
            return Err(SessionError::ForeignSession);
        }
        match message {
            FromHost::Answer(answer) => self.answered(answer).await,
            FromHost::Events(events) => return self.events(wire, events).await,
            FromHost::Reconciled(report) => {
                let (id, missing) = (self.host.clone(), report.missing.clone());
                self.shared.registry.reconciled(&self.host, report, self.began.elapsed());
                let noted = self.shared.catalog.with(move |tx| {
                    missing.iter().try_for_each(|env| facts::missing(tx, &id, env).map(drop))
                });
                if let Err(fault) = noted.await {
                    tracing::warn!(%fault, "cannot record missing environments");
                }
                self.shared.registry.wake(&self.host);
            }
            FromHost::Changed(changed) => self.shared.registry.notify(json!({
                "type": "environment.changed",
                "host": self.host,
                "environment": changed.environment,
                "kinds": changed.kinds,
            })),
            FromHost::Ping => wire.send(&FromServer::Pong).await?,
            FromHost::Pong | FromHost::Open(_) | FromHost::Unknown => {}
        }
        Ok(())
    }

    async fn answered(&mut self, answer: Answer) {
        if self.shared.registry.answer(&self.host, &answer) {
            return;
        }
        // Not recorded: the host is overloaded or shutting down, and the command is sent again.
        if matches!(answer.status, 429 | 503) {
            return;
        }
        let id = self.host.clone();
        let noted = self
            .shared
            .catalog
            .with(move |tx| crate::server::answers::answered(tx, &id, &answer))
            .await;
        match noted {
            Ok(Some(operation)) => {
                self.shared.registry.notify(json!({
                    "type": "operation.ended",
                    "host": self.host,
                    "operation": operation.id,
                    "environment": operation.environment,
                    "command": operation.command,
                }));
                // The answer may be stale by now, so the host applies the live set again.
                self.cursor.resend_live_set();
                self.shared.registry.wake(&self.host);
            }
            Ok(None) => {}
            Err(fault) => {
                tracing::warn!(%fault, "cannot record an answer; the command is sent again");
            }
        }
    }

    async fn events<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut HostWire<S>,
        events: Events,
    ) -> Result<(), SessionError> {
        let (id, first, last) = (self.host.clone(), events.first, events.last);
        let records = events.records.clone();
        let taken = self.shared.catalog.with(move |tx| sync::apply_events(tx, &id, &events)).await;
        match taken {
            Ok(()) => {
                self.cursor.received(last);
                wire.send(&FromServer::Ack(Ack { seq: last })).await?;
                for record in records {
                    self.shared.registry.notify(json!({
                        "type": "event", "host": self.host, "seq": record.seq,
                        "kind": record.kind, "environment": record.environment,
                    }));
                }
                self.send_pending(wire).await
            }
            // Rejected only if it can never be valid: the host then skips the record at fault.
            // After any other failure the host sends the batch again in its next session.
            Err(fault) if fault.code == Code::InvalidRequest => {
                let why = fault.message;
                let (id, reason) = (self.host.clone(), why.clone());
                let noted = self.shared.catalog.with(move |tx| sync::rejected(tx, &id, &reason));
                // Before it is rejected: the host goes on after what it passes over.
                if let Err(fault) = noted.await {
                    tracing::warn!(%fault, "cannot record a rejection");
                    return Err(SessionError::Closed);
                }
                self.cursor.resend_live_set();
                wire.send(&FromServer::Nack(Nack { first, last, why })).await
            }
            Err(fault) => {
                tracing::warn!(%fault, "cannot record events");
                Err(SessionError::Closed)
            }
        }
    }
}
