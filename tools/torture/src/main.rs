//! `torture`: kills and faults without end against the real program, real git and real files. It
//! looks at what is left only from the outside, and repairs nothing.
//!
//! A *history* is one place with a repository and a data directory; it has a seed and a kind of
//! fault. In it the daemon lives several times: clients and agents do as chance has it (`client`,
//! `agent`), trouble comes (`fault`), the daemon dies (`life`), the next one has to come to rest,
//! and everything that must never happen is looked for (`check`). `model` holds what the outside
//! was promised. `world` has histories of another kind: git worlds, in which the world does the
//! unexpected and no daemon is killed. `years` is one history that lasts. `selftest` shows that
//! each check can fail.

mod agent;
mod args;
mod check;
mod child;
mod client;
mod daemon;
mod databases;
mod fault;
mod ground;
mod guards;
mod job;
mod life;
mod model;
mod mounts;
mod points;
mod processes;
mod programs;
mod random;
mod report;
mod rows;
mod run;
mod selftest;
mod time;
mod tour;
mod trouble;
mod world;
mod years;

use std::process::ExitCode;

use clap::Parser as _;

/// The torture itself cannot go on.
const CANNOT: u8 = 3;

fn main() -> ExitCode {
    if programs::is_asked_for() {
        return groundskeeper::cli::main();
    }
    if world::shim::is_asked_for() {
        return world::shim::main();
    }
    let arguments = args::Arguments::parse();
    let done = if arguments.list {
        run::list();
        Ok(true)
    } else if arguments.simulate {
        job::simulate()
    } else if let Some(years) = arguments.years {
        years::run(&arguments, years)
    } else if arguments.guards {
        guards::run(&arguments)
    } else if arguments.self_test {
        selftest::run(&arguments)
    } else {
        run::run(&arguments)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("error: {e}");
            eprintln!(
                "hint: `torture --help` says what is needed; --place DIR chooses another disk"
            );
            ExitCode::from(CANNOT)
        }
    }
}
