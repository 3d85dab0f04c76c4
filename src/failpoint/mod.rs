//! Points at which tests kill the daemon, make a call fail, or take a guard away. A release has
//! none.

#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(feature = "daemon")]
pub mod guard;
#[cfg(feature = "daemon")]
pub mod kill;
