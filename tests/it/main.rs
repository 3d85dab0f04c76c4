//! Whole-daemon tests against real git, real files and real processes.

mod support;

mod api;
mod checkout;
mod hooks;
mod kill;
mod lifecycle;
mod logs;
mod parallel;
mod repos;
mod schema;
mod teardown;
mod tidy;
