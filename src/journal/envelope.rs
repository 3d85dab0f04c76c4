//! The frame around each record: fixed layout, little-endian, outside any payload codec.
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
//! redb does not verify checksums when it reads: the checksum here makes damage visible. The chain
//! names lost, reordered and doubled records. The magic lets a scan find records without redb.

use super::error::Damage;

/// First bytes of every record; `salvage` searches for them.
pub const MAGIC: [u8; 4] = *b"GKR1";
/// Bytes of the header, before the payload.
pub const HEADER_BYTES: usize = 48;
/// Largest payload in bytes; a longer one is refused before it is written and before it is decoded.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Envelope version that this program writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// Flag of a record whose kind and version must be known; a program that does not know them must
/// not use the log.
pub const FLAG_MUST_UNDERSTAND: u16 = 1;

// The checksum covers all bytes from here on. Magic and length stand before it: `open` compares
// both with the bytes that are there, so damage to them is detected without the checksum.
const CRC_FROM: usize = 12;

/// The fields of one record's frame, without magic and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// CRC-32C of the record, from the envelope version to the end of the payload.
    pub crc: u32,
    /// Envelope version; [`VERSION`] in records that this program writes.
    pub version: u8,
    /// Codec id of the payload; 1 is bincode 1.3 with fixed-width integers.
    pub codec: u8,
    /// Flag bits; see [`FLAG_MUST_UNDERSTAND`].
    pub flags: u16,
    /// Position in the log; the first record has 1.
    pub seq: u64,
    /// Wall time of the decision, in ns since 1970.
    pub at: u64,
    /// Number of the daemon start that wrote the record.
    pub boot: u32,
    /// Kind number of the event.
    pub kind: u32,
    /// Version of the kind, which names the struct of the payload.
    pub kind_version: u16,
    /// Checksum of the record before; 0 in the first record.
    pub previous: u32,
    /// The encoded event.
    pub payload: &'a [u8],
}

/// Encodes a frame. Computes the checksum and ignores `e.crc`. Returns the bytes and the checksum.
#[must_use]
pub fn seal(e: &Envelope<'_>) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(HEADER_BYTES + e.payload.len());
    out.extend_from_slice(&MAGIC);
    // The codec refuses longer payloads, so a length that does not fit in 32 bits is unreachable.
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

/// Decodes a frame that fills `bytes` exactly. `key` is the key of the record, for errors.
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

/// Decodes a frame without comparing its checksum, for statistics that state this.
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
    fn sealed_record_round_trips() {
        let (bytes, crc) = seal(&sample(b"payload"));
        let opened = open(1, &bytes).expect("whole");
        assert_eq!(opened, Envelope { crc, ..sample(b"payload") });
    }

    /// Flips every bit and cuts at every length.
    #[test]
    fn corrupt_envelope_is_rejected() {
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
