//! Payloads to bytes and back: the only file that names bincode.
//!
//! bincode is not self-describing, so every (kind, version) has one frozen struct and decodes to
//! nothing else. The newest version of a kind is the struct in `core::event`, and the catalogue
//! there says its number; the golden files in `schema/events/` hold it still. When a payload must
//! change, its old struct moves to `upcast.rs` with a pure upcaster, and the number goes up.
//!
//! The codec id stands in each envelope, so that another codec can follow without touching old
//! records. bincode 1.3.3 is complete by its authors' word; `wincode` reads the same bytes.

use bincode::Options as _;

use super::envelope::{self, Envelope, FLAG_MUST_UNDERSTAND};
use super::error::{Damage, Error};
use crate::core::event::{self, Event, Opaque, Record};
use crate::core::{Seq, State, Time};
use crate::for_each_event;
use crate::journal::payload::{options, payload_options, read};
use crate::journal::upcast;

/// bincode 1.3 with fixed-width little-endian integers.
pub const CODEC_BINCODE1: u8 = 1;
/// Raised whenever the shape of [`State`] changes; older snapshots are then ignored.
pub const SNAPSHOT_VERSION: u32 = 9;

const SNAPSHOT_MAGIC: [u8; 4] = *b"GKS1";
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// What reading one record can lead to.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, a million times a second"
)]
pub enum Decoded {
    /// A record, perhaps with an opaque event.
    Record(Record),
    /// A record that this program must understand and does not.
    Newer(String),
}

/// Encodes one record that continues a record with checksum `previous`. Returns bytes and crc.
///
/// # Errors
/// [`Error::Encode`] when the payload is larger than the limit.
pub fn encode(record: &Record, previous: u32) -> Result<(Vec<u8>, u32), Error> {
    let payload = payload(&record.event).map_err(|why| Error::Encode {
        seq: record.seq.0,
        kind: record.event.kind(),
        why: why.to_string(),
    })?;
    let flags = match &record.event {
        Event::Opaque(_) => 0,
        _ => FLAG_MUST_UNDERSTAND,
    };
    Ok(envelope::seal(&Envelope {
        crc: 0,
        version: envelope::VERSION,
        codec: CODEC_BINCODE1,
        flags,
        seq: record.seq.0,
        at: record.at.0,
        boot: record.boot,
        kind: record.event.kind_number(),
        kind_version: record.event.kind_version(),
        previous,
        payload: &payload,
    }))
}

/// The checksum of a record's bytes, which the next one continues.
///
/// # Errors
/// [`Error::Damaged`] when they do not begin like a record.
pub fn checksum(seq: u64, bytes: &[u8]) -> Result<u32, Error> {
    let opened = envelope::open_unchecked(seq, bytes);
    opened.map(|e| e.crc).map_err(|damage| Error::Damaged { path: "log".into(), damage })
}

/// Decodes the record in an opened envelope.
///
/// # Errors
/// [`Damage::Payload`] when a known payload does not decode.
pub fn decode(e: &Envelope<'_>) -> Result<Decoded, Damage> {
    let known = e.version <= envelope::VERSION && e.codec == CODEC_BINCODE1;
    let event = if known { event(e)? } else { None };
    let event = match event {
        Some(event) => event,
        None if e.flags & FLAG_MUST_UNDERSTAND != 0 => {
            let (seq, kind, version) = (e.seq, e.kind, e.kind_version);
            let what = format!("record {seq} has kind {kind} version {version}");
            return Ok(Decoded::Newer(what));
        }
        None => {
            let payload = e.payload.to_vec();
            Event::Opaque(Opaque { kind: e.kind, version: e.kind_version, payload })
        }
    };
    Ok(Decoded::Record(Record { seq: Seq(e.seq), at: Time(e.at), boot: e.boot, event }))
}

macro_rules! by_kind {
    ($($kind:ident = $number:literal, $version:literal;)*) => {
        /// The bytes of an event's payload, in the newest version of its kind.
        ///
        /// # Errors
        /// When it is larger than the limit.
        pub fn payload(event: &Event) -> Result<Vec<u8>, bincode::Error> {
            match event {
                $(Event::$kind(payload) => payload_options().serialize(payload),)*
                Event::Opaque(o) => Ok(o.payload.clone()),
            }
        }

        /// The event of an envelope; none when this program does not know kind or version.
        fn event(e: &Envelope<'_>) -> Result<Option<Event>, Damage> {
            Ok(match (e.kind, e.kind_version) {
                $(($number, $version) => Some(Event::$kind(read::<event::$kind>(e)?)),)*
                _ => upcast::event(e)?,
            })
        }
    };
}
for_each_event!(by_kind);

/// A framed snapshot of the state after the record whose checksum is `crc`.
///
/// # Errors
/// [`Error::Encode`] when the state is larger than any sensible one.
pub fn encode_snapshot(state: &State, crc: u32) -> Result<Vec<u8>, Error> {
    let body = options(SNAPSHOT_BYTES_MAX).serialize(state).map_err(|why| Error::Encode {
        seq: state.seq().0,
        kind: "snapshot",
        why: why.to_string(),
    })?;
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend_from_slice(&SNAPSHOT_MAGIC);
    out.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

/// The SHA-256 of a state: of the shape's version and the state's bytes. Two folds of one log have
/// the same, on every machine.
///
/// # Errors
/// [`Error::Encode`] when the state is larger than any sensible one.
pub fn state_digest(state: &State) -> Result<[u8; 32], Error> {
    use sha2::Digest as _;
    let framed = encode_snapshot(state, 0)?;
    Ok(sha2::Sha256::digest(framed).into())
}

/// The state in a snapshot and the checksum of the record it follows; none when it does not
/// decode, for whatever reason: then the log is folded instead.
#[must_use]
pub fn decode_snapshot(bytes: &[u8]) -> Option<(State, u32)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let body = bytes.get(16..)?;
    let whole = bytes.get(..4)? == SNAPSHOT_MAGIC
        && word(4)? == SNAPSHOT_VERSION
        && word(12)? == crc32c::crc32c(body);
    if !whole {
        return None;
    }
    let state: State = options(SNAPSHOT_BYTES_MAX).deserialize(body).ok()?;
    Some((state, word(8)?))
}
