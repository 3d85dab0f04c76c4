//! Whole-daemon tests against real git, real files and real processes.

mod support;

mod api;
mod checkout;
mod control;
mod differential;
mod expected;
mod faults;
mod full_disk;
mod glance;
mod hard;
mod hooks;
mod interleave;
mod keep;
mod kill;
mod lifecycle;
mod live;
mod logs;
mod migrate;
mod migrate_kill;
mod parallel;
mod poison;
mod processes;
mod proxy;
mod repos;
mod rescue;
mod restore;
mod rows;
mod runs;
mod schema;
mod session;
mod strangers;
mod sweep;
mod teardown;
mod tidy;
mod watching;
