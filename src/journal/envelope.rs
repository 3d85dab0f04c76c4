//! The frame around each record: fixed, little-endian, outside any payload codec.
//!
//! ```text
//! offset size
//!      0    4  magic "GKR1"
//!      4    4  payload length
//!      8    4  crc32c of everything after this field
//!     12    1  envelope version (1)
//!     13    1  payload codec (1 = bincode 1.3, fixed-width integers)
//!     14    2  flags: bit 0 = must be understood
//!     16    8  seq
//!     24    8  wall time, ns since 1970
//!     32    4  boot
//!     36    4  kind number
//!     40    2  kind version
//!     42    2  zero
//!     44    4  crc of the record before (chain)
//!     48       payload
//! ```
//!
//! redb does not check what it reads, so this is what makes damage visible; the chain names lost,
//! reordered and doubled records; the magic lets a byte scan find records without redb.

use super::error::Damage;

/// First bytes of every record.
pub const MAGIC: [u8; 4] = *b"GKR1";
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 48;
/// Largest payload; longer ones are refused before they are written and before they are read.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Envelope version that this program writes, and the newest it reads.
pub const VERSION: u8 = 1;
/// A record whose kind must be known, or the log must not be used.
pub const FLAG_MUST_UNDERSTAND: u16 = 1;

const CRC_FROM: usize = 12;

/// The fields of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Checksum of this record.
    pub crc: u32,
    /// Envelope version.
    pub version: u8,
    /// How the payload is encoded.
    pub codec: u8,
    /// Flag bits.
    pub flags: u16,
    /// Position in the log.
    pub seq: u64,
    /// Wall time in ns.
    pub at: u64,
    /// Which daemon start wrote it.
    pub boot: u32,
    /// Kind number.
    pub kind: u32,
    /// Kind version.
    pub kind_version: u16,
    /// Checksum of the record before.
    pub previous: u32,
    /// The encoded event.
    pub payload: &'a [u8],
}

/// Writes a frame; `crc` of the argument is ignored and computed. Returns the bytes and the crc.
#[must_use]
pub fn seal(e: &Envelope<'_>) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(HEADER_BYTES + e.payload.len());
    out.extend_from_slice(&MAGIC);
    // Longer payloads are refused by the codec; a length that does not fit cannot be reached.
    out.extend_from_slice(&u32::try_from(e.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(e.version);
    out.push(e.codec);
    out.extend_from_slice(&e.flags.to_le_bytes());
    out.extend_from_slice(&e.seq.to_le_bytes());
    out.extend_from_slice(&e.at.to_le_bytes());
    out.extend_from_slice(&e.boot.to_le_bytes());
    out.extend_from_slice(&e.kind.to_le_bytes());
    out.extend_from_slice(&e.kind_version.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&e.previous.to_le_bytes());
    out.extend_from_slice(e.payload);
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// Reads a frame that must fill `bytes` exactly. `key` is where it was found, for the message.
///
/// # Errors
/// [`Damage`] when the bytes are not one whole, unchanged record.
pub fn open(key: u64, bytes: &[u8]) -> Result<Envelope<'_>, Damage> {
    let sealed = open_unchecked(key, bytes)?;
    if sealed.crc != crc32c::crc32c(&bytes[CRC_FROM..]) {
        return Err(Damage::Checksum(key));
    }
    Ok(sealed)
}

/// Reads a frame without comparing its checksum, for counts that say that they did not.
///
/// # Errors
/// [`Damage`] when the bytes are not as long as a record or do not begin like one.
pub fn open_unchecked(key: u64, bytes: &[u8]) -> Result<Envelope<'_>, Damage> {
    let want = HEADER_BYTES;
    let (Some(header), Some(payload)) =
        (bytes.first_chunk::<HEADER_BYTES>(), bytes.get(HEADER_BYTES..))
    else {
        return Err(Damage::Truncated { seq: key, have: bytes.len(), want });
    };
    if header[..4] != MAGIC {
        return Err(Damage::Magic(key));
    }
    let length = u32_at(header, 4) as usize;
    if length != payload.len() || length > PAYLOAD_BYTES_MAX {
        let want = HEADER_BYTES + length;
        return Err(Damage::Truncated { seq: key, have: bytes.len(), want });
    }
    Ok(Envelope {
        crc: u32_at(header, 8),
        version: header[12],
        codec: header[13],
        flags: u16::from_le_bytes([header[14], header[15]]),
        seq: u64_at(header, 16),
        at: u64_at(header, 24),
        boot: u32_at(header, 32),
        kind: u32_at(header, 36),
        kind_version: u16::from_le_bytes([header[40], header[41]]),
        previous: u32_at(header, 44),
        payload,
    })
}

fn u32_at(h: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

fn u64_at(h: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(h, at)) | u64::from(u32_at(h, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(payload: &[u8]) -> Envelope<'_> {
        Envelope {
            crc: 0,
            version: VERSION,
            codec: 1,
            flags: 1,
            seq: 0x1122_3344_5566_7788,
            at: 42,
            boot: 3,
            kind: 10,
            kind_version: 1,
            previous: 0xdead_beef,
            payload,
        }
    }

    #[test]
    fn a_sealed_record_opens_again() {
        let (bytes, crc) = seal(&sample(b"payload"));
        let opened = open(1, &bytes).expect("whole");
        assert_eq!(opened, Envelope { crc, ..sample(b"payload") });
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (bytes, _) = seal(&sample(b"payload"));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(open(1, &broken).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(open(1, &bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
