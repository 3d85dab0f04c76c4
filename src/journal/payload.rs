//! Payload bytes: bincode with fixed options and a limit. Only this file and `codec.rs` name it.

use bincode::Options as _;
use serde::de::DeserializeOwned;

use crate::envelope::{Envelope, PAYLOAD_BYTES_MAX};
use crate::error::Damage;

pub(super) fn options(limit: u64) -> impl bincode::Options {
    // Fixed-width integers are part of the format: `peek` and every frozen struct depend on them.
    // The limit bounds the allocation that a damaged length can cause.
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(limit)
}

pub(super) fn payload_options() -> impl bincode::Options {
    options(PAYLOAD_BYTES_MAX as u64)
}

/// Encodes a part of a payload.
pub(super) fn encoded(part: &impl serde::Serialize) -> Result<Vec<u8>, bincode::Error> {
    payload_options().serialize(part)
}

/// Decodes a part of a payload.
pub(super) fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, bincode::Error> {
    payload_options().deserialize(bytes)
}

/// Returns the bytes of a payload of an earlier version, for its golden file.
#[cfg(test)]
pub(super) fn bytes(payload: &impl serde::Serialize) -> Vec<u8> {
    payload_options().serialize(payload).expect("encoded")
}

pub(super) fn read<T: DeserializeOwned>(e: &Envelope<'_>) -> Result<T, Damage> {
    payload_options().deserialize(e.payload).map_err(|why| Damage::Payload {
        seq: e.seq,
        kind: e.kind,
        version: e.kind_version,
        why: why.to_string(),
    })
}
