//! Points at which tests kill the daemon, make a call fail, or disable a guard. A release has none
//! of them. No point decides anything by itself.

#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(feature = "daemon")]
pub mod guard;
#[cfg(feature = "daemon")]
pub mod kill;
