//! Which records a walk over a log hands out, and to what.

use std::ops::ControlFlow;

/// Callback that takes the key and the bytes of each record of a walk. It can end the walk.
pub type Visitor<'a> = &'a mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>;

/// The records that a walk hands out, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First key, inclusive.
    pub from: u64,
    /// Last key, inclusive.
    pub to: u64,
    /// Whether the walk goes from the last record to the first.
    pub backwards: bool,
}

impl Range {
    /// All records, in ascending order.
    pub const ALL: Self = Self { from: 0, to: u64::MAX, backwards: false };

    /// Returns the range of all records up to `to`, inclusive.
    #[must_use]
    pub fn up_to(to: u64) -> Self {
        Self { to, ..Self::ALL }
    }
}
