//! The base of a trimmed log: the state after the last record that was trimmed, from which the
//! records that are left are folded. A log that was never trimmed has none.
//!
//! ```text
//! "GKB1", length of the snapshot u32, seq of the last trimmed record u64, its crc u32,
//! the snapshot with its own frame, crc32c of all bytes before
//! ```
//!
//! It says its own length, so that it can follow the head of a flat log and be found by a scan of a
//! damaged file. It is a contract like the snapshot in it. Nothing here decides what is trimmed.

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::codec;
use crate::error::{Damage, Error};
use crate::tables::{FORMAT_BASED, Head, META, META_FORMAT};
use groundskeeper_core::State;

/// Has one entry, the frame of the base.
const BASE: TableDefinition<'static, u8, &[u8]> = TableDefinition::new("base");
const BASE_KEY: u8 = 0;
/// Has the seq of the last trimmed record besides: it is known where the base is damaged.
const TRIMMED: TableDefinition<'static, u8, u64> = TableDefinition::new("trimmed");
/// First bytes of a base.
pub(super) const MAGIC: [u8; 4] = *b"GKB1";
/// Bytes before the snapshot.
pub(super) const HEADER_BYTES: usize = 20;
const CRC_BYTES: usize = 4;
/// Most bytes of a snapshot.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// The state that a trimmed log begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The last trimmed record.
    head: Head,
    /// The framed snapshot of the state after it.
    snapshot: Vec<u8>,
}

impl Base {
    /// Makes a base of the state after the record whose checksum is `crc`, and proves that what
    /// will be read of it is that state.
    ///
    /// # Errors
    /// [`Error::Encode`] when the state cannot be encoded, or is another one when it is decoded.
    pub fn of(state: &State, crc: u32) -> Result<Self, Error> {
        let refused =
            |why: &str| Error::Encode { seq: state.seq().0, kind: "base", why: why.to_owned() };
        let snapshot = codec::encode_snapshot(state, crc)?;
        if snapshot.len() > SNAPSHOT_BYTES_MAX {
            return Err(refused("the state is larger than 1 GiB"));
        }
        let base = Self { head: Head { seq: state.seq().0, crc }, snapshot };
        if base.state().as_ref() == Some(state) {
            Ok(base)
        } else {
            Err(refused("the state is not what is read of it"))
        }
    }

    /// Returns the last trimmed record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Returns the state after the last trimmed record; none when it does not decode.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        let (state, crc) = codec::decode_snapshot(&self.snapshot)?;
        (Head { seq: state.seq().0, crc } == self.head).then_some(state)
    }

    /// Returns the bytes as they are stored and sent.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.snapshot.len() + CRC_BYTES);
        out.extend_from_slice(&MAGIC);
        // Bounded in `of` and in `length`.
        let length = u32::try_from(self.snapshot.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.head.to_bytes());
        out.extend_from_slice(&self.snapshot);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Returns the length of the whole frame that begins with `header`; none when no frame does.
    #[must_use]
    pub fn length(header: &[u8]) -> Option<usize> {
        let length = header.get(..HEADER_BYTES)?.get(4..8)?.try_into().ok()?;
        let length = u32::from_le_bytes(length) as usize;
        (header.starts_with(&MAGIC) && length <= SNAPSHOT_BYTES_MAX)
            .then_some(HEADER_BYTES + length + CRC_BYTES)
    }

    /// Decodes a frame. Whether its state decodes is another question.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if Self::length(frame)? != frame.len() {
            return None;
        }
        let (body, crc) = frame.split_last_chunk::<CRC_BYTES>()?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let head = Head::from_bytes(body.get(8..HEADER_BYTES)?)?;
        Some(Self { head, snapshot: body.get(HEADER_BYTES..)?.to_vec() })
    }
}

fn failed(e: impl Into<redb::Error>) -> Error {
    Error::Storage { what: "use the base of the log", source: e.into() }
}

/// Stores the base of a log, in place of an earlier one.
pub(super) fn put(txn: &WriteTransaction, base: &Base) -> Result<(), Error> {
    let mut table = txn.open_table(BASE).map_err(failed)?;
    table.insert(BASE_KEY, base.frame().as_slice()).map_err(failed)?;
    let mut meta = txn.open_table(META).map_err(failed)?;
    meta.insert(META_FORMAT, FORMAT_BASED.to_le_bytes().as_slice()).map_err(failed)?;
    let mut trimmed = txn.open_table(TRIMMED).map_err(failed)?;
    trimmed.insert(BASE_KEY, base.head().seq).map_err(failed)?;
    Ok(())
}

/// Returns the base of a log; none when it was never trimmed.
pub(super) fn get(txn: &ReadTransaction) -> Result<Option<Base>, Error> {
    let table = match txn.open_table(BASE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let Some(frame) = table.get(BASE_KEY).map_err(failed)? else { return Ok(None) };
    let base = Base::parse(frame.value());
    let damaged = || Error::Damaged { path: "log".into(), damage: Damage::Base };
    base.map(Some).ok_or_else(damaged)
}

/// Returns the last trimmed record, also where the base is damaged; 0 in a log that was never
/// trimmed.
pub(super) fn trimmed(txn: &ReadTransaction) -> Result<u64, Error> {
    match txn.open_table(TRIMMED) {
        Ok(table) => Ok(table.get(BASE_KEY).map_err(failed)?.map_or(0, |seq| seq.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_state::sample_state;

    #[test]
    fn base_is_read_as_written_and_rejects_flipped_bytes() {
        let state = sample_state();
        let base = Base::of(&state, 7).expect("a base");
        assert_eq!(base.head(), Head { seq: state.seq().0, crc: 7 });
        assert_eq!(base.state(), Some(state));
        let frame = base.frame();
        assert_eq!(Base::parse(&frame), Some(base));
        for at in 0..frame.len() {
            let mut broken = frame.clone();
            broken[at] ^= 1;
            assert_eq!(Base::parse(&broken), None, "byte {at}");
        }
        for length in 0..frame.len() {
            assert_eq!(Base::parse(&frame[..length]), None, "{length} bytes");
        }
    }

    /// A snapshot of a version that this program does not read is kept, and gives no state.
    #[test]
    fn base_of_unknown_version_has_no_state() {
        let mut base = Base::of(&sample_state(), 7).expect("a base");
        base.snapshot[4] = 255;
        let read = Base::parse(&base.frame()).expect("whole");
        assert_eq!((read.state(), read.head()), (None, base.head()));
    }
}
