//! Encodes and decodes payloads and snapshots. Only this file and `payload.rs` name bincode.
//!
//! bincode is not self-describing, so every (kind, version) has one frozen struct and decodes to
//! nothing else. The newest version of a kind is the struct in `core::event`, and the catalogue
//! there holds its number; the golden files in `schema/events/` pin its bytes. When a payload must
//! change, its old struct moves to `upcast.rs` with a pure upcaster, and the number goes up.
//!
//! Each envelope carries the codec id, so another codec can follow without a change to old records.
//! The authors of bincode call 1.3.3 complete; `wincode` reads the same bytes.

use bincode::Options as _;

use super::envelope::{self, Envelope, FLAG_MUST_UNDERSTAND};
use super::error::{Damage, Error};
use crate::payload::{options, payload_options, read};
use crate::upcast;
use groundskeeper_core::event::{self, Event, Opaque, Record};
use groundskeeper_core::for_each_event;
use groundskeeper_core::snapshot::{self, Frozen as _};
use groundskeeper_core::{Seq, State, Time};

/// Codec id of bincode 1.3 with fixed-width little-endian integers.
pub const CODEC_BINCODE1: u8 = 1;
/// Version of the snapshot format that is written. [`snapshot`] has the frozen structs of this
/// version and of those that are still read; a snapshot of any other version is ignored.
pub const SNAPSHOT_VERSION: u32 = snapshot::current::VERSION;

const SNAPSHOT_MAGIC: [u8; 4] = *b"GKS1";
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// Result of decoding one intact record.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, a million times a second"
)]
pub enum Decoded {
    /// A record. Its event is opaque if its kind or version is unknown and need not be understood.
    Record(Record),
    /// A record that must be understood and is not; the text names its seq, kind and version.
    Newer(String),
}

/// Encodes one record that follows a record with the checksum `previous`. Returns bytes and crc.
///
/// # Errors
/// [`Error::Encode`] when the payload is larger than the limit of 1 MiB.
pub fn encode(record: &Record, previous: u32) -> Result<(Vec<u8>, u32), Error> {
    let payload = payload(&record.event).map_err(|why| Error::Encode {
        seq: record.seq.0,
        kind: record.event.kind(),
        why: why.to_string(),
    })?;
    let flags = match &record.event {
        // An event is opaque only if its record had no flag; a rewrite must not add one.
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

/// Returns the checksum in the header of a record's bytes. The rest of the record is not checked.
///
/// # Errors
/// [`Error::Damaged`] when the bytes do not begin like a record or have another length.
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
        /// Encodes the payload of an event in the newest version of its kind.
        ///
        /// # Errors
        /// When the payload is larger than the limit of 1 MiB.
        pub fn payload(event: &Event) -> Result<Vec<u8>, bincode::Error> {
            match event {
                $(Event::$kind(payload) => payload_options().serialize(payload),)*
                Event::Opaque(o) => Ok(o.payload.clone()),
            }
        }

        /// Returns whether the payload of an event is within the limit of 1 MiB.
        #[must_use]
        pub fn fits(event: &Event) -> bool {
            match event {
                $(Event::$kind(payload) => payload_options().serialized_size(payload).is_ok(),)*
                Event::Opaque(o) => o.payload.len() <= envelope::PAYLOAD_BYTES_MAX,
            }
        }

        /// Decodes the event of an envelope. Returns none when kind or version is unknown.
        fn event(e: &Envelope<'_>) -> Result<Option<Event>, Damage> {
            Ok(match (e.kind, e.kind_version) {
                $(($number, $version) => Some(Event::$kind(read::<event::$kind>(e)?)),)*
                _ => upcast::event(e)?,
            })
        }
    };
}
for_each_event!(by_kind);

/// Encodes a framed snapshot of the state after the record whose checksum is `crc`.
///
/// # Errors
/// [`Error::Encode`] when the encoded state is larger than 1 GiB.
pub fn encode_snapshot(state: &State, crc: u32) -> Result<Vec<u8>, Error> {
    let frozen = snapshot::current::State::freeze(state);
    let body = frozen_body(&frozen).map_err(|why| Error::Encode {
        seq: state.seq().0,
        kind: "snapshot",
        why: why.to_string(),
    })?;
    Ok(frame_snapshot(SNAPSHOT_VERSION, crc, &body))
}

/// Encodes the frozen state of any version.
pub(crate) fn frozen_body(frozen: &impl serde::Serialize) -> Result<Vec<u8>, bincode::Error> {
    options(SNAPSHOT_BYTES_MAX).serialize(frozen)
}

/// Returns the snapshot of a version with its frame.
pub(crate) fn frame_snapshot(version: u32, crc: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend_from_slice(&SNAPSHOT_MAGIC);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Returns the SHA-256 of the encoded state and of the snapshot version. Two folds of one log have
/// the same digest on every machine.
///
/// # Errors
/// [`Error::Encode`] when the encoded state is larger than 1 GiB.
pub fn state_digest(state: &State) -> Result<[u8; 32], Error> {
    use sha2::Digest as _;
    // With a crc of 0: the digest must depend on the state, not on the record before it.
    let framed = encode_snapshot(state, 0)?;
    Ok(sha2::Sha256::digest(framed).into())
}

/// Decodes a snapshot: the state and the checksum of the record that it follows. Returns none when
/// its version is unknown or it does not decode: the caller folds the log instead.
#[must_use]
pub fn decode_snapshot(bytes: &[u8]) -> Option<(State, u32)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let body = bytes.get(16..)?;
    let whole = bytes.get(..4)? == SNAPSHOT_MAGIC && word(12)? == crc32c::crc32c(body);
    // Checked before the decoder runs: bincode can decode damaged bytes to a wrong state.
    if !whole {
        return None;
    }
    Some((decode_state(word(4)?, body)?, word(8)?))
}

/// Decodes the state in a version of the snapshot format. Each older version becomes the next one,
/// until it is the current one.
fn decode_state(version: u32, body: &[u8]) -> Option<State> {
    use snapshot::{v8, v9, v10, v11};
    let frozen = match version {
        v8::VERSION => {
            let of_nine = v9::State::from(read_frozen::<v8::State<'_>>(body)?);
            v10::State::from(of_nine).into()
        }
        v9::VERSION => v10::State::from(read_frozen::<v9::State<'_>>(body)?).into(),
        v10::VERSION => v11::State::from(read_frozen::<v10::State<'_>>(body)?),
        v11::VERSION => read_frozen(body)?,
        _ => return None,
    };
    Some(frozen.thaw())
}

/// Decodes the frozen state of one version.
pub(crate) fn read_frozen<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    options(SNAPSHOT_BYTES_MAX).deserialize(body).ok()
}
