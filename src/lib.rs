pub mod core;
pub mod journal;
