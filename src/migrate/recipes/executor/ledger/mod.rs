//! The ledger: the small steps that a database of the new generation gets at every start, each
//! once.

mod configs;
mod envelope;
mod ownership;
mod placements;
mod run;
mod specs;

pub(super) use run::{MIGRATED, is_stamped, later_step, run, stamp};
