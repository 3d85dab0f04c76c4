//! The ledger: small steps on a database of the new generation. Every start runs those that were
//! not done yet; each runs once. Their results equal those of the application's own steps.

mod configs;
mod envelope;
mod ownership;
mod placements;
mod run;
mod specs;

pub(super) use run::{MIGRATED, is_stamped, later_step, run, stamp, stamps};
