pub mod core;
pub mod engine;
pub mod journal;
pub mod killpoint;
pub mod world;
