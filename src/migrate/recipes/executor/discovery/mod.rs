//! Asks servers for their OAuth metadata: the resource that a token is for, and the address where
//! users authorize.
//!
//! Best effort: nothing here fails, and without an answer the stored values stay. The requests run
//! on threads of their own while the new database is built, several at a time. They share one time
//! budget, so servers that hang delay a migration by that budget at most, and a network that does
//! not exist delays it by hardly anything.
//!
//! `servers` knows what to ask, `questions` collects it from a database, `beside` runs it.

mod beside;
mod questions;
mod servers;

pub(crate) use beside::{Discovery, Limits};
pub(crate) use questions::Described;
