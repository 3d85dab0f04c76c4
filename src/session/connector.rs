//! Keeps a session open: connects, runs the session, waits, and connects again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::core::suspend::SuspendDetector;
use crate::core::{Command, Seq};
use crate::service::App;
use crate::service::types::daemon::SessionView;
use crate::session::commands::CommandDispatcher;
use crate::session::context::{Address, Client, Link};
use crate::session::exchange::{Ended, SUSPEND_CHECK_EVERY, Session};
use crate::session::heartbeat::Clock;
use crate::session::protocol::PATH;
use crate::session::transport::{SessionError, Wire};

/// First wait before a new attempt.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Bound on the wait, which doubles after every failed attempt.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Timeout of a connection attempt.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Returns the first and the longest wait between attempts. If `GROUNDSKEEPER_SESSION_RETRY_MS` is
/// set (10 to 999), the first is that many milliseconds and the longest four times that.
fn waits() -> (Duration, Duration) {
    let named = std::env::var("GROUNDSKEEPER_SESSION_RETRY_MS").ok();
    let named =
        named.and_then(|text| text.parse::<u64>().ok()).filter(|ms| (10..1_000).contains(ms));
    named.map_or((WAIT_FIRST, WAIT_MAX), |ms| {
        (Duration::from_millis(ms), Duration::from_millis(ms * 4))
    })
}

/// Spawns the task that keeps a session open; returns a receiver of its status.
#[must_use]
pub fn start(app: Arc<App>, link: Link) -> watch::Receiver<SessionView> {
    let address = link.address.to_string();
    let first = SessionView { address, stage: "connecting".to_owned(), ..SessionView::default() };
    let (status, view) = watch::channel(first);
    let commands = CommandDispatcher::new();
    let instance = random_name();
    tokio::spawn(Client { app, link, status, commands, instance, last_rejected: 0 }.run());
    view
}

/// Returns a name that is unique across processes: 24 hexadecimal digits, from 12 random bytes. If
/// the system has no random bytes, the process id takes their place.
#[must_use]
pub fn random_name() -> String {
    let mut random = [0; 12];
    if getrandom::fill(&mut random).is_err() {
        random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    crate::format::hex(&random)
}

impl Client {
    async fn run(mut self) {
        let (first, most) = waits();
        let mut wait = first;
        let mut stop = self.app.stop.clone();
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.connect() => ended,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let was_suspended = matches!(ended, Ended::Suspended);
            let is_over = matches!(ended, Ended::Replaced);
            let error = match ended {
                Ended::SessionError(broken) => chain(&broken),
                Ended::Refused(problem) => format!("{} ({})", problem.message, problem.code),
                Ended::Replaced => "another daemon replaced this one as this host".to_owned(),
                Ended::Suspended => "the machine was suspended".to_owned(),
            };
            self.status.send_modify(|view| {
                if is_over { "ended" } else { "waiting" }.clone_into(&mut view.stage);
                view.error.clone_from(&error);
            });
            // Connecting again would replace the other daemon in turn.
            if is_over {
                return tracing::error!(error, "the session with the control server has ended");
            }
            // Only a session that lasted resets the back-off: a server that accepts and then closes
            // at once must not be retried at full speed.
            if began.elapsed() > most {
                wait = first;
            }
            tracing::info!(error, "no session with the control server");
            let was_suspended = was_suspended
                || tokio::select! {
                    was_suspended = pause(jittered(wait)) => was_suspended,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
            wait = if was_suspended { first } else { (wait * 2).min(most) };
            if was_suspended {
                self.renew_leases().await;
            }
            self.status.send_modify(|view| "connecting".clone_into(&mut view.stage));
        }
    }

    /// Renews leases after a suspend. The engine renews them before it decides any other command,
    /// so that a `Tick` is enough; a live set that is applied afterwards finds them in force.
    async fn renew_leases(&self) {
        if let Err(fault) = self.app.handle.submit(Command::Tick).await {
            tracing::warn!(%fault, "cannot renew leases after a suspend");
        }
    }

    /// Returns the kind of a record's event, for the log line; empty if it cannot be read.
    pub(super) async fn kind_of(&self, seq: u64) -> String {
        let reader = self.app.handle.reader().clone();
        let before = Seq(seq.saturating_sub(1));
        let read = tokio::task::spawn_blocking(move || reader.read(before, 1)).await;
        let record = read.ok().and_then(Result::ok).and_then(|mut found| found.pop());
        let record = record.filter(|record| record.seq == Seq(seq));
        record.map(|record| record.event.kind().to_owned()).unwrap_or_default()
    }

    async fn connect(&mut self) -> Ended {
        let limit = CONNECT_LIMIT;
        let late = || Ended::SessionError(SessionError::TimedOut);
        let lost = |e: std::io::Error| Ended::SessionError(SessionError::Unreachable(e));
        match self.link.address.clone() {
            Address::Unix(path) => {
                match tokio::time::timeout(limit, UnixStream::connect(path)).await {
                    Ok(Ok(stream)) => self.open(stream, "localhost").await,
                    Ok(Err(e)) => lost(e),
                    Err(_) => late(),
                }
            }
            Address::Tcp(place) => {
                match tokio::time::timeout(limit, TcpStream::connect(&place)).await {
                    Ok(Ok(stream)) => {
                        // Messages are small; Nagle's algorithm would delay them.
                        drop(stream.set_nodelay(true));
                        self.open(stream, &place).await
                    }
                    Ok(Err(e)) => lost(e),
                    Err(_) => late(),
                }
            }
        }
    }

    async fn open<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: S, host: &str) -> Ended {
        match Wire::connect(stream, host, PATH, &self.link.key).await {
            Ok(wire) => Session::new(self, wire).run().await,
            Err(broken) => Ended::SessionError(broken),
        }
    }
}

/// Waits before a new attempt. Returns true, and early, if the machine was suspended meanwhile: the
/// suspended time counts as the wait.
async fn pause(wait: Duration) -> bool {
    let (clock, until) = (Clock::new(), Instant::now() + wait);
    let mut suspend_detector = SuspendDetector::new(clock.read());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(left.min(SUSPEND_CHECK_EVERY)).await;
        if suspend_detector.poll(clock.read()).is_some() {
            return true;
        }
    }
}

/// Returns a random duration between half of `wait` and all of it, so that hosts do not reconnect
/// at the same moment.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 4];
    // Without random bytes the wait is the shortest one for every host, which is acceptable.
    let _filled = getrandom::fill(&mut random);
    let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    wait.mul_f64(0.5 + share / 2.0)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Code;

    #[test]
    fn server_addresses_must_be_plain() {
        let tcp = |place: &str| Address::Tcp(place.to_owned());
        assert_eq!(Address::parse("ws://127.0.0.1:1/").ok(), Some(tcp("127.0.0.1:1")));
        assert_eq!(Address::parse("http://h:80").ok(), Some(tcp("h:80")));
        assert_eq!(Address::parse("unix:/a b").ok(), Some(Address::Unix("/a b".into())));
        for bad in ["", "unix:a", "wss://h:1", "ws://h", "ws://h:1/path", "h:1"] {
            let fault = Address::parse(bad).expect_err(bad);
            assert_eq!(fault.code, Code::InvalidConfig);
        }
    }

    #[test]
    fn key_readable_by_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "secret\n").expect("written");
        let link = Link::new("ws://h:1", file.path()).expect("0600");
        assert!(!format!("{link:?}").contains("secret"));
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), open).expect("set");
        let fault = Link::new("ws://h:1", file.path()).expect_err("readable by others");
        assert_eq!(fault.code, Code::PermissionDenied);
    }

    #[test]
    fn reconnect_delay_is_jittered_and_bounded() {
        for _ in 0..100 {
            let wait = jittered(WAIT_MAX);
            assert!(wait >= WAIT_MAX / 2 && wait <= WAIT_MAX);
        }
    }
}
