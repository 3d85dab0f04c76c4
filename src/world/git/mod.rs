//! git: commands, refs, locks, indexes, registrations. It knows no effects and no status queries.

pub(crate) mod attributes;
pub(crate) mod blobs;
pub(crate) mod bundle;
pub(crate) mod checkout;
pub(crate) mod checkout_error;
pub mod command;
pub mod discover;
pub mod doubt;
pub mod error;
pub(crate) mod fetch;
pub(crate) mod fold;
#[cfg(test)]
mod fold_cost;
pub(crate) mod fold_damage;
pub(crate) mod gc;
pub(crate) mod heads;
pub(crate) mod index;
pub(crate) mod link;
pub(crate) mod listing;
pub mod locks;
pub mod marker;
pub(crate) mod nested;
pub(crate) mod own_packs;
pub(crate) mod ownership;
pub(crate) mod reachability;
pub(crate) mod ref_batch;
pub(crate) mod ref_changes;
pub(crate) mod ref_files;
pub(crate) mod refs;
pub(crate) mod registration;
pub(crate) mod scratch_dir;
pub(crate) mod submodules;
pub(crate) mod template;
pub(crate) mod tree_listing;

pub use error::Error;
