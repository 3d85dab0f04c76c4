//! What every layer above the core needs of the operating system: paths as the log stores them, the
//! errors of files as faults with a hint, the wall clock, and locks that survive a panic.
//!
//! It knows neither git nor databases.

pub mod clock;
pub mod paths;
pub mod portable;
pub mod real_dir;
pub mod sync;
