//! `salvage`: what a byte scan still finds of a log, as a new one.

/// Kind of the placeholder that stands where a record was lost; no record of a daemon has it.
pub(crate) const LOST_KIND: u32 = 4_000_000_000;
