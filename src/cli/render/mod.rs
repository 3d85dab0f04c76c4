//! Text for people: tables, progress steps, and errors with their causes and the next step. It
//! never asks the daemon; it is given what it shows.

mod archives;
mod environments;
mod progress;
mod records;
mod tables;
mod terminal;

pub use archives::{rescue, rescues, stays, trash};
pub use environments::{environment, environments, left_in_place, removed};
pub use progress::Steps;
pub use records::record;
pub(super) use tables::table;
pub use tables::{evidence, hosts, processes, sweep, sweep_summary, usage};
pub use terminal::{note, out, printable, problem};
