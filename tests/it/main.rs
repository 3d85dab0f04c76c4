//! Whole-daemon tests against real git, real files and real processes.

mod support;

mod checkout;
mod hooks;
mod kill;
mod lifecycle;
mod parallel;
mod repos;
mod teardown;
mod tidy;
