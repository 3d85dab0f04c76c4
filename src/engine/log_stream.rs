//! The log as a flat stream, and the state as one number: what others need to read along.
//!
//! Records go out as they stand in the log, checksums and all; nothing is decoded, and the writer
//! is never held up.

use crate::core::{Code, Fault, Seq};
use crate::engine::Handle;
use crate::journal::{Error, Head, codec, stream_format};

/// Some records of the log, as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The records, one after another.
    pub bytes: Vec<u8>,
    /// The last of them; the one that was given when there are none.
    pub last: Head,
    /// How many they are.
    pub records: usize,
}

impl Handle {
    /// What a flat log begins with whose records come after `after`.
    #[must_use]
    pub fn flat_head(&self, after: Head) -> Vec<u8> {
        stream_format::head(&stream_format::Start { log_id: self.reader().log_id(), after })
            .to_vec()
    }

    /// What a flat log ends with.
    #[must_use]
    pub fn flat_end(last: Head) -> Vec<u8> {
        stream_format::end(last).to_vec()
    }

    /// Up to `max` records after `after`, none later than `until`.
    ///
    /// # Errors
    /// What the journal says; also when a record does not begin like one.
    pub fn flat_part(&self, after: Head, until: Seq, max: usize) -> Result<Part, Error> {
        let mut part = Part { last: after, ..Part::default() };
        for (seq, bytes) in self.reader().raw(Seq(after.seq), max)? {
            if Seq(seq) > until {
                break;
            }
            part.last = Head { seq, crc: codec::checksum(seq, &bytes)? };
            part.bytes.extend_from_slice(&bytes);
            part.records += 1;
        }
        Ok(part)
    }

    /// The SHA-256 of the published state and the record that it is the state after.
    ///
    /// # Errors
    /// A [`Fault`] when the state is larger than any sensible one.
    pub fn digest(&self) -> Result<(Seq, [u8; 32]), Fault> {
        self.view(|state| {
            let digest = codec::state_digest(state).map_err(|e| {
                Fault::new(Code::Defect, "the state cannot be hashed", "please report this")
                    .caused_by(&e)
            })?;
            Ok((state.seq(), digest))
        })
    }
}
