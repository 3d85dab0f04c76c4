//! What every layer above the core needs of the operating system: paths as the log stores them, the
//! errors of files as faults with a hint, what `/proc` shows, calls that only Linux has, the wall
//! clock, the heap, and locks that survive a panic.
//!
//! It knows neither git nor databases.

pub mod clock;
pub mod heap;
#[cfg(unix)]
pub mod linux_calls;
pub mod misplaced;
pub mod own_file;
pub mod paths;
pub mod portable;
pub mod proc;
pub mod real_dir;
pub mod sync;
#[cfg(windows)]
pub mod windows_access;
