//! The index of a worktree: written, read, and judged for what its entries prove.

pub(crate) mod format;
pub(crate) mod racy;
pub(crate) mod read;
