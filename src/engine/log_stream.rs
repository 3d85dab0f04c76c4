//! The log as a flat stream, and the state as a digest, for readers that follow the log elsewhere.
//!
//! Records are sent as they are in the log, with their checksums; nothing is decoded, and the
//! writer is never blocked.

use crate::core::{Code, Fault, Seq};
use crate::engine::Handle;
use crate::journal::{Base, Error, Head, codec, stream_format};

/// Consecutive records of the log, as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The records in flat form, one after another.
    pub bytes: Vec<u8>,
    /// The last of the records; the given `after` when there are none.
    pub last: Head,
    /// Number of records.
    pub records: usize,
}

impl Handle {
    /// Returns the beginning of a flat log whose records come after `since`, the record before the
    /// first one, and whether it begins with the base of the log, as where those after `since` were
    /// trimmed: then the lives follow.
    ///
    /// # Errors
    /// Errors of the journal.
    pub fn flat_start(&self, since: Seq) -> Result<(Vec<u8>, Head, bool), Error> {
        let log_id = self.reader().log_id();
        let trimmed = |base: &Base| base.head().seq > since.0;
        let base = self.reader().base()?.filter(trimmed);
        let after = base.as_ref().map_or(Head { seq: since.0, crc: 0 }, Base::head);
        let start = stream_format::Start { log_id, after, has_base: base.is_some() };
        let mut bytes = stream_format::head(&start).to_vec();
        bytes.extend(base.map(|base| base.frame()).unwrap_or_default());
        Ok((bytes, after, start.has_base))
    }

    /// Returns some of the lives that the state has forgotten, in flat form, and the id of the last
    /// of them; none after the last one. A flat log with a base takes them along.
    ///
    /// # Errors
    /// Errors of the journal.
    pub fn flat_lives(&self, after: &str) -> Result<Option<(Vec<u8>, String)>, Error> {
        let lives = self.reader().lives(after, stream_format::LIVES_MAX)?;
        let Some(last) = lives.last().map(|life| life.environment.to_string()) else {
            return Ok(None);
        };
        Ok(Some((stream_format::lives(&lives)?, last)))
    }

    /// Returns the end of a flat log whose last record is `last`.
    #[must_use]
    pub fn flat_end(last: Head) -> Vec<u8> {
        stream_format::end(last).to_vec()
    }

    /// Returns up to `max` records after `after`, none later than `until`.
    ///
    /// # Errors
    /// Errors of the journal; also when a record does not begin like one, and [`Error::Trimmed`].
    pub fn flat_part(&self, after: Head, until: Seq, max: usize) -> Result<Part, Error> {
        let mut part = Part { last: after, ..Part::default() };
        for (seq, bytes) in self.reader().raw(Seq(after.seq), max)? {
            if seq != part.last.seq + 1 {
                return Err(Error::Trimmed { last: seq - 1 });
            }
            if Seq(seq) > until {
                break;
            }
            part.last = Head { seq, crc: codec::checksum(seq, &bytes)? };
            part.bytes.extend_from_slice(&bytes);
            part.records += 1;
        }
        Ok(part)
    }

    /// Returns the SHA-256 of the published state and the seq of the last record in it.
    ///
    /// # Errors
    /// A [`Fault`] when the encoded state is larger than 1 GiB.
    pub fn digest(&self) -> Result<(Seq, [u8; 32]), Fault> {
        // Under one read lock: seq and digest must belong to the same state.
        self.view(|state| {
            let digest = codec::state_digest(state).map_err(|e| {
                Fault::new(Code::Defect, "the state cannot be hashed", "please report this")
                    .caused_by(&e)
            })?;
            Ok((state.seq(), digest))
        })
    }
}
