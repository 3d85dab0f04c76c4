//! Text for people: tables, progress steps, and errors with their causes and the next step. It
//! never asks the daemon; it is given what it shows.

#[cfg(feature = "daemon")]
mod archives;
#[cfg(feature = "daemon")]
pub(super) mod color;
#[cfg(feature = "daemon")]
mod environments;
#[cfg(feature = "daemon")]
mod fit;
mod migrations;
mod progress;
mod prune;
#[cfg(feature = "daemon")]
mod records;
mod table;
#[cfg(feature = "daemon")]
mod tables;
mod terminal;

#[cfg(feature = "daemon")]
pub use archives::{rescue, rescues, stays, trash};
#[cfg(feature = "daemon")]
pub use environments::{environment, environments, left_in_place, removed};
pub(super) use migrations::{migration, migrations, step_of};
pub use progress::Steps;
#[cfg(feature = "daemon")]
pub use progress::step_in_words;
pub(super) use prune::{prune_summary, pruned};
#[cfg(feature = "daemon")]
pub use records::record;
#[cfg(feature = "daemon")]
pub(super) use table::{facts, table};
#[cfg(feature = "daemon")]
pub use tables::{evidence, hosts, processes, sweep, sweep_summary, usage};
#[cfg(feature = "daemon")]
pub(super) use terminal::{lines, printable_lines, terminal_height, terminal_width};
pub use terminal::{note, out, printable, problem};
