//! Messages between a daemon and a control server.
//!
//! A message is one JSON object. Readers ignore unknown fields and unknown message types, so that
//! either side may be newer. Every message carries its number within the connection: a repeated
//! number is ignored, a missing number ends the connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::service::types::live_set::ReconciledView;
use crate::service::types::problem::Problem;

/// Oldest protocol version that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Newest protocol version that this build speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// Bound on one message in bytes, for both directions.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// URL path of the session endpoint at a server.
pub const PATH: &str = crate::http::auth::SESSION_PATH;

/// Range of protocol versions that one side speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// Oldest version.
    pub min: u32,
    /// Newest version.
    pub max: u32,
}

impl Protocols {
    /// The range of this build.
    pub const OURS: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

    /// Returns the newest version that both sides speak, or `None` if there is none.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// A message with its number and its session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// Counts from 1 in each direction of a connection.
    pub n: u64,
    /// The session of the message; empty until one is open. Serialized as `in`: the message's own
    /// fields stand beside it, and `opened` has a field `session`.
    #[serde(default, rename = "in", skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The message; its fields are flattened into the envelope.
    #[serde(flatten)]
    pub message: M,
}

/// A message from a host to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromHost {
    /// The first message of a connection.
    Open(Box<Open>),
    /// The result of a command.
    Answer(Answer),
    /// A batch of log records, in order.
    Events(Events),
    /// The result of a live set.
    Reconciled(ReconciledView),
    /// A worktree that the server watches has changed.
    Changed(Changed),
    /// Heartbeat; the peer replies with `pong`.
    Ping,
    /// The reply to `ping`.
    Pong,
    /// A message type of a newer protocol; it is ignored.
    #[serde(other)]
    Unknown,
}

/// A message from the server to a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromServer {
    /// The answer to `open`.
    Opened(Opened),
    /// The server refuses the session.
    Refused(Refused),
    /// A command for this host.
    Command(HostCommand),
    /// The live set has changed, or is sent again.
    Live(LiveSet),
    /// Acknowledges the events up to a record.
    Ack(Ack),
    /// Rejects a batch of events.
    Nack(Nack),
    /// Replaces the set of watched environments.
    Watch(Watch),
    /// The server ends the session.
    Close(Close),
    /// Heartbeat; the peer replies with `pong`.
    Ping,
    /// The reply to `ping`.
    Pong,
    /// A message type of a newer protocol; it is ignored.
    #[serde(other)]
    Unknown,
}

/// Opens a session: identity of the daemon, and the environments on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The host's name, if the daemon knows it. The key decides; a name that differs is refused.
    #[serde(default)]
    pub host: Option<String>,
    /// Random name of the daemon process: every start has another one.
    pub instance: String,
    /// Number of daemons that have started on this log, this one included.
    #[serde(default)]
    pub boot: u32,
    /// Version of the daemon.
    #[serde(default)]
    pub version: String,
    /// Protocol versions that the daemon speaks.
    pub protocol: Protocols,
    /// Identity of the host's log.
    pub log: String,
    /// Number of the last record of that log.
    pub head: u64,
    /// All environments that are not tombstoned.
    pub loaded: Vec<Fact>,
    /// Leases of the host: name of the lease and of its environment.
    #[serde(default)]
    pub leases: Vec<(String, String)>,
}

/// State of one environment at its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Name of the environment.
    pub id: String,
    /// Number of the current incarnation.
    pub incarnation: u32,
    /// Phase of the host's state machine, as `Phase::as_str` names it.
    pub phase: String,
    /// Number of the last record about it in the host's log.
    pub seq: u64,
    /// Directory of the worktree on the host.
    #[serde(default)]
    pub path: String,
    /// Branch of the worktree.
    #[serde(default)]
    pub branch: String,
    /// Why it failed, or why the last teardown of it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Reason for a refused session. The problem is nested, because it has a `type` of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The reason, with a hint for the user.
    pub problem: Problem,
}

/// Parameters of a session that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Name of the session; every later message carries it.
    pub session: String,
    /// Name of the server; live sets are recorded under it.
    pub server: String,
    /// The server's name for this host.
    #[serde(default)]
    pub host: String,
    /// Protocol version of this session.
    pub protocol: u32,
    /// Interval of each side's `ping`, in milliseconds.
    pub heartbeat_ms: u64,
    /// Peer timeout in milliseconds: after this silence the session ends.
    pub lease_ms: u64,
    /// The first live set. A missing set is not an empty one: no environment is judged by it.
    #[serde(default)]
    pub live: Option<LiveSet>,
    /// Last record that the server has taken in; events start after it.
    #[serde(default)]
    pub acked: u64,
    /// The environments to watch at first.
    #[serde(default)]
    pub watch: Watch,
}

/// The live set: the environments of a host that the server does not count as destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSet {
    /// The server's counter of changes to the set; it never decreases.
    pub epoch: u64,
    /// Last record of the host that the server had received when it made the set.
    pub known: u64,
    /// Names of the environments.
    pub live: Vec<String>,
    /// The user has confirmed the removals that the set implies.
    #[serde(default)]
    pub confirmed: bool,
}

/// A command from the server to a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostCommand {
    /// Idempotency key: a command may arrive more than once and is carried out once.
    pub request: String,
    /// Kind of the command: `environment.provision`, `workspace.status`, ...
    #[serde(rename = "command")]
    pub name: String,
    /// The environment that the command is for; empty if it names none.
    #[serde(default)]
    pub environment: String,
    /// Parameters; their form depends on the kind.
    #[serde(default)]
    pub body: Value,
}

/// Result of a command, in the form of an answer of the daemon's API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Idempotency key of the command.
    pub request: String,
    /// HTTP status code.
    pub status: u16,
    /// Body of the answer; a problem if the command failed.
    pub body: Value,
}

/// A batch of log records without their contents, and the present state of what they touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// First record of the batch.
    pub first: u64,
    /// Last record of the batch.
    pub last: u64,
    /// The records of the range that are about environments.
    pub records: Vec<RecordLine>,
    /// Those environments in their present state, which may be newer than the batch.
    pub facts: Vec<Fact>,
}

/// Summary of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine {
    /// Position in the host's log.
    pub seq: u64,
    /// Time of the record in nanoseconds since 1970.
    pub at: u64,
    /// Kind of the event.
    pub kind: String,
    /// The environment that the event is about.
    pub environment: String,
}

/// Reports that a watched worktree has changed. It is a hint: it carries no state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The environment whose worktree changed.
    pub environment: String,
    /// Kinds of the changes.
    pub kinds: Vec<String>,
}

/// Acknowledges events: they are in the server's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last acknowledged record.
    pub seq: u64,
}

/// Rejects one batch of events permanently: the same batch would be rejected again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// First record of the rejected batch.
    pub first: u64,
    /// Last record of the rejected batch.
    pub last: u64,
    /// The reason, for the host's log.
    #[serde(default)]
    pub why: String,
}

/// Environments whose changes the server wants to receive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Watches every environment; `environments` is ignored then.
    #[serde(default)]
    pub all: bool,
    /// Watches these environments.
    #[serde(default)]
    pub environments: Vec<String>,
}

/// Ends a session, with a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// `replaced`, `reconnected`, `expired`, `shutdown` or `protocol`.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_common_protocol_is_chosen() {
        let range = |min, max| Protocols { min, max };
        assert_eq!(range(1, 3).common(range(2, 9)), Some(3));
        assert_eq!(range(1, 3).common(range(3, 3)), Some(3));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
        assert_eq!(range(5, 2).common(range(1, 9)), None, "an empty range");
    }

    #[test]
    fn message_fields_do_not_shadow_envelope() {
        let opened = Opened {
            session: "theirs".into(),
            server: "srv".into(),
            host: "box".into(),
            protocol: 1,
            heartbeat_ms: 5,
            lease_ms: 30,
            live: Some(LiveSet { epoch: 3, known: 4, live: vec!["a".into()], confirmed: false }),
            acked: 9,
            watch: Watch::default(),
        };
        let message = FromServer::Opened(opened.clone());
        let sent = Envelope { n: 1, session: "ours".into(), message };
        let text = serde_json::to_string(&sent).expect("written");
        let read: Envelope<FromServer> = serde_json::from_str(&text).expect("read");
        let FromServer::Opened(same) = read.message else { panic!("another message") };
        assert_eq!((read.session.as_str(), same), ("ours", opened));
    }

    /// A missing live set is not an empty live set.
    #[test]
    fn newer_messages_and_fields_are_accepted() {
        let text = r#"{"n":1,"type":"something_new","x":1}"#;
        let read: Envelope<FromServer> = serde_json::from_str(text).expect("read");
        assert!(matches!(read.message, FromServer::Unknown));
        let text = r#"{"n":2,"type":"opened","session":"s","server":"x","protocol":1,
            "heartbeat_ms":1,"lease_ms":2,"more":{"a":[]}}"#;
        let read: Envelope<FromServer> = serde_json::from_str(text).expect("read");
        let FromServer::Opened(opened) = read.message else { panic!("another message") };
        assert_eq!((opened.live, opened.acked), (None, 0), "a missing set is not an empty set");
    }
}
