//! Paths as the log stores them, and the errors of the file system as faults with a hint.
//!
//! Everything above that touches a file uses it. It knows neither git nor databases.

pub mod paths;
