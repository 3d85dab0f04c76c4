//! The stored form of the state: frozen structs, one tree per version of the snapshot format.
//!
//! The live state may change its shape from one release to the next. A snapshot in a log may not:
//! a frozen struct is never edited once a release has written it. A live type that changes is
//! absorbed by the conversion of its frozen struct, with the same bytes, or the change adds a
//! version: a new tree, and a conversion from the version before it. The conversion of a field is
//! in `frozen`; the golden files in `schema/snapshots/` pin the bytes.
//!
//! A conversion between versions must give the state that a fold of the records gives. Where that
//! is impossible the older version is dropped, and its snapshots are ignored.
//!
//! Nothing here reads or writes bytes. The journal's codec does, and frames them.

mod frozen;
pub mod v10;
pub mod v11;
pub mod v8;
pub mod v9;

pub use frozen::Frozen;
pub use v11 as current;
