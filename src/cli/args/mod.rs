//! The command line: every verb and flag. `program` is its top, `verbs` lists the verbs, and the
//! other files have the arguments of verbs that take many. It parses and decides nothing.

#[cfg(feature = "daemon")]
mod archives;
#[cfg(feature = "daemon")]
mod daemon;
mod duration;
#[cfg(feature = "daemon")]
mod environments;
mod global;
#[cfg(feature = "daemon")]
mod logging;
mod migrate;
#[cfg(feature = "daemon")]
mod program;
#[cfg(feature = "daemon")]
mod server;
#[cfg(feature = "daemon")]
mod verbs;

#[cfg(feature = "daemon")]
pub use archives::{Rescue, Trash};
#[cfg(feature = "daemon")]
pub use daemon::{ConfigVerb, DaemonVerb, ServiceVerb, Start};
#[cfg(feature = "daemon")]
pub use duration::Since;
#[cfg(feature = "daemon")]
pub use environments::{Gc, New, Remove};
pub use global::{Color, Global};
#[cfg(feature = "daemon")]
pub use logging::{LogFormat, Logging};
pub use migrate::{Migrate, Migrations, ProgressFormat};
#[cfg(feature = "daemon")]
pub use program::Arguments;
#[cfg(feature = "daemon")]
pub use server::{Hosts, Server};
#[cfg(feature = "daemon")]
pub use verbs::{Shell, Verb};
