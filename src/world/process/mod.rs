//! Processes of an environment: finds them and ends them.
//!
//! * [`table`] reads the kernel's data on every process;
//! * [`cgroup`] gives each environment a group of its own where the system permits it;
//! * [`orphans`] reaps what hooks leave behind, and records which hook left it;
//! * [`scope`] determines which processes belong to an environment, and why;
//! * [`terminate`] ends them, and proves that they have ended.
//!
//! A process is identified by pid and start time, never by pid alone and never by port. A process
//! that merely has the folder open (an editor, a shell) is a bystander: reported, and left alone.

pub mod cancel;
pub mod cgroup;
pub mod error;
pub mod git_env;
pub mod orphans;
pub(crate) mod redact;
pub mod scope;
pub mod subprocess;
pub mod table;
pub mod terminate;

pub use error::Error;
