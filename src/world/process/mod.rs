//! The processes that live in an environment: finding them, and ending them.
//!
//! * [`table`] reads what the kernel says of every process;
//! * [`cgroup`] gives each environment a group of its own where the system lets us;
//! * [`orphans`] collects what hooks leave behind, and remembers whose it was;
//! * [`scope`] says which processes belong to an environment, and why;
//! * [`terminate`] ends them, and proves that they are gone.
//!
//! A process is known by pid and start time, never by pid alone and never by port. What merely has
//! the folder open (an editor, a shell) is a bystander: named, and left alone.

pub mod cancel;
pub mod cgroup;
pub mod git_env;
pub mod orphans;
pub(crate) mod redact;
pub mod scope;
pub mod subprocess;
pub mod table;
pub mod terminate;
