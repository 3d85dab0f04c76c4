//! The command line: every verb and flag. `program` is its top, `verbs` lists the verbs, and the
//! other files have the arguments of verbs that take many. It parses and decides nothing.

mod archives;
mod daemon;
mod duration;
mod environments;
mod logging;
mod migrate;
mod program;
mod server;
mod verbs;

pub use archives::{Rescue, Trash};
pub use daemon::Start;
pub use environments::{Gc, New};
pub use logging::{LogFormat, Logging};
pub use migrate::{Migrate, Migrations};
pub use program::{Arguments, Global};
pub use server::{Hosts, Server};
pub use verbs::Verb;
