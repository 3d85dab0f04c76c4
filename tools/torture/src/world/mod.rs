//! Git worlds: repositories of every kind, with users and agents who use git between and *during*
//! the verbs of the program. It looks at what is left only from the outside, and repairs nothing
//! but what its own users broke.
//!
//! A seed draws a world and a script, both plain data (`draw`, `script`, `phrases`, `step`).
//! `build` makes the world with real git in a place of its own (`place`), `run` plays the script:
//! verbs of up to three data directories, acts of users and agents (`acts`), or both at once, held
//! at an exact git call of the daemon by a program that stands before git (`shim`). `tokens` knows
//! every piece of work and where it may be, `search` looks for it, `invariants` says what must
//! never happen.

mod acts;
mod build;
mod controls;
mod data_dirs;
mod draw;
mod ending;
mod inner_work;
mod invariants;
mod obstacles;
mod phrases;
mod place;
mod run;
mod scene;
mod script;
mod search;
pub(crate) mod shim;
mod step;
mod tokens;
mod verbs;
mod work;

pub(crate) use controls::controls;
pub(crate) use run::run;
