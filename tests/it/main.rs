//! Integration tests of the whole daemon with real git, files and processes.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

mod support;

mod adopt_clean_gc;
mod api;
mod caller;
mod checkout;
mod clean_check;
mod complete;
mod contracts;
mod control_server;
mod differential;
mod earlier;
mod fault_proxy;
mod faults;
mod full_disk;
mod history;
mod hooks;
mod identity;
mod included;
mod inner;
mod interleave;
mod kill;
mod lifecycle;
mod locks;
mod log_file;
mod migrate;
mod migrate_kill;
mod migrate_local;
mod migrate_undo;
mod parallel;
mod processes;
mod reconcile;
mod recorded_rows;
mod reference_model;
mod relocate;
mod removal_obstacles;
mod replay;
mod repos;
mod rescue;
mod restore;
mod rings;
mod runs;
mod schema;
mod server_contracts;
mod session;
mod session_rejection;
mod sweep;
mod teardown;
mod text_log;
mod tidy;
mod traps;
mod unprocessable_record;
mod watching;
mod words;
