//! Points at which tests kill the daemon, make a call fail, or disable a guard. A release has none
//! of them. No point decides anything by itself.

pub mod fault;
pub mod guard;
pub mod kill;
