//! Checks that records follow each other: each envelope, their order, and the checksum chain.

use crate::envelope::{self, Envelope};
use crate::error::Damage;
use crate::tables::Head;

/// Checks that records follow each other: envelope, order and chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    last: Head,
    /// Whether the checksum of the record before is unknown; then the chain is not checked.
    open: bool,
}

impl Chain {
    /// Returns a check for a walk that begins with the first record of a log, after the record
    /// `last`, whose crc is 0 when it is not known.
    pub(super) fn begin(last: Head) -> Self {
        Self { last, open: last.seq > 0 && last.crc == 0 }
    }

    /// Returns a check for a walk that begins after the record `last`.
    #[must_use]
    pub fn after(last: Head) -> Self {
        Self { last, open: false }
    }

    /// Returns the record that was checked last; its crc is 0 if its envelope was damaged.
    #[must_use]
    pub fn last(&self) -> Head {
        self.last
    }

    /// Checks the next record. After an error the check continues from what was found.
    ///
    /// # Errors
    /// The first [`Damage`] of this record.
    pub fn next<'a>(&mut self, key: u64, bytes: &'a [u8]) -> Result<Envelope<'a>, Damage> {
        let sealed = match envelope::open(key, bytes) {
            Ok(sealed) => sealed,
            Err(damage) => {
                self.last = Head { seq: key, crc: 0 };
                self.open = true;
                return Err(damage);
            }
        };
        let (before, open) = (self.last, std::mem::take(&mut self.open));
        self.last = Head { seq: sealed.seq.max(key), crc: sealed.crc };
        let expected = before.seq + 1;
        if sealed.seq != expected || key != expected {
            let found = if key == sealed.seq { key } else { sealed.seq };
            return Err(Damage::OutOfOrder { expected, found });
        }
        if !open && sealed.previous != before.crc {
            return Err(Damage::Chain(key));
        }
        Ok(sealed)
    }
}
