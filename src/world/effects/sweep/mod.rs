//! The sweep: finds what no record explains, and settles what is proven to be ours.

mod data_dir;
mod leftover;
mod perform;
mod processes;
mod repository;
mod rescues;
mod settle;
pub(crate) mod task;
