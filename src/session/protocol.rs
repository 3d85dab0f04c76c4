//! What a daemon and a control server say to each other.
//!
//! One JSON object a message. Readers take no notice of fields and kinds of messages that they do
//! not know, so that either side may be newer. Every message carries its number within the
//! connection: one that comes twice is passed over, one that is missing ends the connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::live::ReconciledView;
use crate::api::types::Problem;

/// The oldest protocol that is spoken here.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest.
pub const PROTOCOL_MAX: u32 = 1;
/// Largest message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Path of the session at a server.
pub const PATH: &str = crate::api::port::SESSION_PATH;

/// The protocols that a side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Protocols {
    /// Those that are spoken here.
    pub const OURS: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

    /// The newest that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// A message with its place in the connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// Counted from 1 in each direction.
    pub n: u64,
    /// The session that it belongs to; empty until there is one. (Not `session`: the message's own
    /// fields stand beside it.)
    #[serde(default, rename = "in", skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The message.
    #[serde(flatten)]
    pub message: M,
}

/// What a host says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromHost {
    /// The first message.
    Open(Box<Open>),
    /// What a command came to.
    Answer(Answer),
    /// What happened, in order.
    Events(Events),
    /// What a live set came to.
    Reconciled(ReconciledView),
    /// Worktrees that somebody follows have changed.
    Changed(Changed),
    /// Is anybody there?
    Ping,
    /// Yes.
    Pong,
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// What a server says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromServer {
    /// The answer to `open`.
    Opened(Opened),
    /// There will be no session.
    Refused(Refused),
    /// Something to do.
    Command(Order),
    /// The live set has changed.
    Live(LiveSet),
    /// Events up to here are taken in.
    Ack(Ack),
    /// Events that cannot be taken in.
    Nack(Nack),
    /// Environments that somebody looks at.
    Watch(Watch),
    /// The session ends.
    Close(Close),
    /// Is anybody there?
    Ping,
    /// Yes.
    Pong,
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// Who opens a session, and what lives there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The host, if it knows its name; the key decides.
    #[serde(default)]
    pub host: Option<String>,
    /// One process: another for each start of a daemon.
    pub instance: String,
    /// How many daemons have started on this log.
    #[serde(default)]
    pub boot: u32,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The protocols it speaks.
    pub protocol: Protocols,
    /// Identity of its log.
    pub log: String,
    /// The last record of it.
    pub head: u64,
    /// The environments that are not over.
    pub loaded: Vec<Fact>,
    /// Leases in force: name and environment.
    #[serde(default)]
    pub leases: Vec<(String, String)>,
}

/// What is known of one environment at its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its name.
    pub id: String,
    /// Which life of it.
    pub incarnation: u32,
    /// Where it stands.
    pub phase: String,
    /// The last record about it.
    pub seq: u64,
    /// Its directory.
    #[serde(default)]
    pub path: String,
    /// Its branch.
    #[serde(default)]
    pub branch: String,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Why there is no session. (A problem has a `type` of its own, so it stands by itself.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The reason, and what to do.
    pub problem: Problem,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its name; every later message carries it.
    pub session: String,
    /// The server.
    pub server: String,
    /// The name of the host there.
    #[serde(default)]
    pub host: String,
    /// The protocol that is spoken from here on.
    pub protocol: u32,
    /// How often each side asks whether the other is there.
    pub heartbeat_ms: u64,
    /// Silence after which the other side is taken for gone.
    pub lease_ms: u64,
    /// What the server takes to live here. A set that is missing says nothing at all.
    #[serde(default)]
    pub live: Option<LiveSet>,
    /// The record up to which events are taken in already.
    #[serde(default)]
    pub acked: u64,
    /// Environments that somebody looks at.
    #[serde(default)]
    pub watch: Watch,
}

/// The environments of a host that are not destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveSet {
    /// The server's count of changes of it.
    pub epoch: u64,
    /// The last record of the host that the server had heard of by then.
    pub known: u64,
    /// The environments.
    pub live: Vec<String>,
    /// Somebody has looked at how much it takes away.
    #[serde(default)]
    pub confirmed: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its name: the same order may come more than once and is done once.
    pub request: String,
    /// What to do: `environment.provision`, `workspace.status`, ...
    pub command: String,
    /// In or with which environment.
    #[serde(default)]
    pub environment: String,
    /// The rest.
    #[serde(default)]
    pub body: Value,
}

/// What an order came to: as the daemon's API would have answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The order.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// The answer, or a problem.
    pub body: Value,
}

/// Records of the host's log, without their contents, and what has come of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The first record.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Those about environments.
    pub records: Vec<RecordLine>,
    /// Those environments as they are now.
    pub facts: Vec<Fact>,
}

/// One record in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine {
    /// Its position.
    pub seq: u64,
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// What kind of event.
    pub kind: String,
    /// About which environment.
    pub environment: String,
}

/// A worktree has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Which.
    pub environment: String,
    /// In what way.
    pub kinds: Vec<String>,
}

/// How far events are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last record.
    pub seq: u64,
}

/// Events that are refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// The first record.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// What somebody looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// All environments.
    #[serde(default)]
    pub all: bool,
    /// Or these.
    #[serde(default)]
    pub environments: Vec<String>,
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// `replaced`, `expired`, `shutdown`, `protocol`.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_protocol_is_spoken() {
        let range = |min, max| Protocols { min, max };
        assert_eq!(range(1, 3).common(range(2, 9)), Some(3));
        assert_eq!(range(1, 3).common(range(3, 3)), Some(3));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
        assert_eq!(range(5, 2).common(range(1, 9)), None, "a range that is none");
    }

    #[test]
    fn a_message_and_its_envelope_do_not_get_in_each_others_way() {
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

    #[test]
    fn newer_messages_and_fields_are_no_error() {
        let text = r#"{"n":1,"type":"something_new","x":1}"#;
        let read: Envelope<FromServer> = serde_json::from_str(text).expect("read");
        assert!(matches!(read.message, FromServer::Unknown));
        let text = r#"{"n":2,"type":"opened","session":"s","server":"x","protocol":1,
            "heartbeat_ms":1,"lease_ms":2,"more":{"a":[]}}"#;
        let read: Envelope<FromServer> = serde_json::from_str(text).expect("read");
        let FromServer::Opened(opened) = read.message else { panic!("another message") };
        assert_eq!((opened.live, opened.acked), (None, 0), "no set is not an empty set");
    }
}
