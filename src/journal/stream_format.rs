//! The flat form of a log: the daemon streams it and `replay export` writes it.
//!
//! ```text
//! head   "GKF1", format u32 = 1 or 2, log id 16 bytes, the seq before the first record u64,
//!        that record's crc u32, crc32c of the 36 bytes before
//! base   in format 2: the state after the record before the first one, as `base` frames it, then
//!        lives that the state has forgotten: any number of "GKL1", length of what follows u32, a
//!        list of lives, crc32c of all bytes before
//! then   envelopes, one after another, as they stand in the log
//! end    "GKE1", seq of the last record u64, its crc u32, crc32c of the 16 bytes before
//! ```
//!
//! All numbers are little-endian. A flat log is read from front to back and needs no redb; a file
//! without its end is known to be cut short. This file opens no socket and writes no file.

use std::io::{self, Read};

use crate::base::{self, Base};
use crate::envelope::{HEADER_BYTES, MAGIC, PAYLOAD_BYTES_MAX};
use crate::error::{Damage, Error};
use crate::payload;
use crate::tables::Head;
use groundskeeper_core::event::FormerLife;

/// First bytes of a flat log.
pub const HEAD_MAGIC: [u8; 4] = *b"GKF1";
/// First bytes of a list of lives.
pub const LIVES_MAGIC: [u8; 4] = *b"GKL1";
/// Most bytes of a list of lives, and most lives in one.
const LIVES_BYTES_MAX: usize = 1 << 24;
/// Most lives in one list.
pub const LIVES_MAX: usize = 1_000;
/// First bytes of the end of a flat log.
pub const END_MAGIC: [u8; 4] = *b"GKE1";
/// Bytes of the head, with its checksum.
pub const HEAD_BYTES: usize = 40;
/// Bytes of the end, with its checksum.
pub const END_BYTES: usize = 20;
const FORMAT: u32 = 1;
/// Format of a flat log with a base.
const FORMAT_BASED: u32 = 2;

/// Content of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Identity of the log.
    pub log_id: [u8; 16],
    /// The record before the first one; seq 0 when the flat log begins with record 1.
    pub after: Head,
    /// Whether a base follows: the state after that record.
    pub has_base: bool,
}

/// Encodes a head.
#[must_use]
pub fn head(start: &Start) -> [u8; HEAD_BYTES] {
    let mut out = [0; HEAD_BYTES];
    out[..4].copy_from_slice(&HEAD_MAGIC);
    let format = if start.has_base { FORMAT_BASED } else { FORMAT };
    out[4..8].copy_from_slice(&format.to_le_bytes());
    out[8..24].copy_from_slice(&start.log_id);
    out[24..36].copy_from_slice(&start.after.to_bytes());
    let crc = crc32c::crc32c(&out[..36]);
    out[36..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes a head.
///
/// # Errors
/// The reason as a sentence: too short, no flat log, wrong checksum, or a newer format.
pub fn parse_head(bytes: &[u8]) -> Result<Start, &'static str> {
    let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or("it is shorter than its head")?;
    if bytes[..4] != HEAD_MAGIC {
        return Err("it does not begin like a flat log");
    }
    if crc32c::crc32c(&bytes[..36]).to_le_bytes() != bytes[36..] {
        return Err("its head has a wrong checksum");
    }
    let has_base = bytes[4..8] == FORMAT_BASED.to_le_bytes();
    if !has_base && bytes[4..8] != FORMAT.to_le_bytes() {
        return Err("its format is newer than this program");
    }
    let mut log_id = [0; 16];
    log_id.copy_from_slice(&bytes[8..24]);
    let after = Head::from_bytes(&bytes[24..36]).unwrap_or_default();
    Ok(Start { log_id, after, has_base })
}

/// Reads the base that follows a head with one. `None`: it is cut short or damaged.
///
/// # Errors
/// Errors of the system.
pub fn base(input: &mut impl Read) -> io::Result<Option<Base>> {
    let mut frame = vec![0; base::HEADER_BYTES];
    let have = fill(input, &mut frame)?;
    let Some(length) = Base::length(&frame[..have]) else { return Ok(None) };
    // Grows with what is there: the length is not checked by a checksum yet.
    let rest = (length - have) as u64;
    input.by_ref().take(rest).read_to_end(&mut frame)?;
    Ok(Base::parse(&frame))
}

/// Encodes a list of at most [`LIVES_MAX`] lives.
///
/// # Errors
/// [`Error::Encode`] when it is too long.
pub fn lives(lives: &[FormerLife]) -> Result<Vec<u8>, Error> {
    let refused = |why: String| Error::Encode { seq: 0, kind: "lives", why };
    let body = payload::encoded(&lives).map_err(|e| refused(e.to_string()))?;
    let length = u32::try_from(body.len()).map_err(|e| refused(e.to_string()))?;
    let mut out = LIVES_MAGIC.to_vec();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    Ok(out)
}

/// Reads the rest of a list of lives, of which `begun` is there. `None`: it is damaged.
fn rest_of_lives(input: &mut impl Read, begun: &[u8]) -> io::Result<Option<Vec<FormerLife>>> {
    let mut bytes = begun.to_vec();
    if bytes.len() < 8 {
        input.by_ref().take(8 - bytes.len() as u64).read_to_end(&mut bytes)?;
    }
    let Some(length) = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
    else {
        return Ok(None);
    };
    let whole = 8 + length as usize + 4;
    if length as usize > LIVES_BYTES_MAX || bytes.len() > whole {
        return Ok(None);
    }
    input.by_ref().take((whole - bytes.len()) as u64).read_to_end(&mut bytes)?;
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    let is_whole = bytes.len() == whole && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    Ok(is_whole.then(|| payload::decoded(&body[8..]).ok()).flatten())
}

/// Encodes an end.
#[must_use]
pub fn end(last: Head) -> [u8; END_BYTES] {
    let mut out = [0; END_BYTES];
    out[..4].copy_from_slice(&END_MAGIC);
    out[4..16].copy_from_slice(&last.to_bytes());
    let crc = crc32c::crc32c(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes an end; none when the bytes are not one or its checksum is wrong.
#[must_use]
pub fn parse_end(bytes: &[u8]) -> Option<Head> {
    let bytes: &[u8; END_BYTES] = bytes.try_into().ok()?;
    let whole =
        bytes[..4] == END_MAGIC && crc32c::crc32c(&bytes[..16]).to_le_bytes() == bytes[16..];
    whole.then(|| Head::from_bytes(&bytes[4..16])).flatten()
}

/// The next item of a flat log.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A record; the buffer holds its bytes.
    Record,
    /// Lives that the state has forgotten; before the first record only.
    Lives(Vec<FormerLife>),
    /// The end; holds the last record that it names.
    End(Head),
    /// The input stops at an item boundary, without an end.
    Cut,
}

/// Reads the next record into `buffer`, which then holds exactly its bytes, unchecked. `seq` is the
/// expected seq, for errors.
///
/// # Errors
/// Errors of the system, or the [`Damage`] of bytes that are no record and no end.
pub fn next(
    input: &mut impl Read,
    seq: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Result<Next, Damage>> {
    buffer.resize(HEADER_BYTES, 0);
    // An end is shorter than the header of a record, so no more than an end is read at first.
    let have = fill(input, &mut buffer[..END_BYTES])?;
    if have == 0 {
        return Ok(Ok(Next::Cut));
    }
    if have == END_BYTES && buffer[..4] == END_MAGIC {
        let end = parse_end(&buffer[..END_BYTES]);
        return Ok(end.map(Next::End).ok_or(Damage::Checksum(seq)));
    }
    if have == END_BYTES && buffer[..4] == LIVES_MAGIC {
        let found = rest_of_lives(input, &buffer[..END_BYTES])?;
        return Ok(found.map(Next::Lives).ok_or(Damage::Checksum(seq)));
    }
    let have = have + fill(input, &mut buffer[have..])?;
    if have < HEADER_BYTES {
        return Ok(Err(Damage::Truncated { seq, have, want: HEADER_BYTES }));
    }
    if buffer[..4] != MAGIC {
        return Ok(Err(Damage::Magic(seq)));
    }
    let length = u32::from_le_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
    let want = HEADER_BYTES + length;
    // The length is not checked by a checksum yet: it is bounded before the buffer grows.
    if length > PAYLOAD_BYTES_MAX {
        return Ok(Err(Damage::Truncated { seq, have, want }));
    }
    buffer.resize(want, 0);
    let have = have + fill(input, &mut buffer[HEADER_BYTES..])?;
    if have < want {
        return Ok(Err(Damage::Truncated { seq, have, want }));
    }
    Ok(Ok(Next::Record))
}

/// Reads until `out` is full or the input ends; returns the number of bytes.
fn fill(input: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < out.len() {
        match input.read(&mut out[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head and end also round-trip.
    #[test]
    fn head_and_end_reject_flipped_bits() {
        let after = Head { seq: 7, crc: 9 };
        let start = Start { log_id: *b"0123456789abcdef", after, has_base: true };
        let bytes = head(&start);
        assert_eq!(parse_head(&bytes), Ok(start));
        let without = Start { has_base: false, ..start };
        assert_eq!(parse_head(&head(&without)), Ok(without));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_head(&broken).is_err(), "bit {bit}");
        }
        let bytes = end(start.after);
        assert_eq!(parse_end(&bytes), Some(start.after));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_end(&broken).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn truncated_end_is_detected() {
        let mut buffer = Vec::new();
        let mut nothing: &[u8] = &[];
        assert_eq!(next(&mut nothing, 1, &mut buffer).expect("read"), Ok(Next::Cut));
        let bytes = end(Head { seq: 1, crc: 2 });
        for length in 1..bytes.len() {
            let mut part = &bytes[..length];
            assert!(next(&mut part, 1, &mut buffer).expect("read").is_err(), "{length}");
        }
    }
}
