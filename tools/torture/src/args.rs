//! What can be typed.

use std::path::PathBuf;

use clap::Parser;

const MORE: &str = "\
Exit codes: 0 everything was survived, 1 a promise was broken, 2 usage, 3 the torture itself cannot go on.

A violation prints the command that runs the same history again, and keeps its directory. The
choices follow from the seed; the instants of kills also from the machine, so a repetition may need
a few tries.";

/// Kills the daemon and breaks the world around it without end, and looks at what is left.
#[derive(Debug, Parser)]
#[command(name = "torture", version, after_help = MORE, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Seed of the first history; the next have the next [default: made up]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// End after so many seconds [default: 60]
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// End after so many minutes
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub(crate) minutes: Option<u64>,
    /// End after so many histories
    #[arg(long, value_name = "N")]
    pub(crate) histories: Option<u64>,
    /// Live so many years in one place, with 500 lives a day, and print what that costs; ends
    /// before only with --seconds or --minutes
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=20),
conflicts_with_all = ["histories", "only", "point", "self_test", "guards"]
    )]
    pub(crate) years: Option<u64>,
    /// Only this kind of fault; may be given more than once (`--list` names them)
    #[arg(long, value_name = "FAULT")]
    pub(crate) only: Vec<String>,
    /// Only this named point, with kill-point and migration-point
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Option<String>,
    /// Histories at a time [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// The program that is tortured [default: this build of it, which has all points]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Where histories take place
    #[arg(long, value_name = "DIR")]
    pub(crate) place: Option<PathBuf>,
    /// Keep the directory of every history
    #[arg(long)]
    pub(crate) keep: bool,
    /// The results as one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Break each promise on purpose, and show that each check goes red
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Take each guard of the program away, and show that git worlds find what it guards against
    #[arg(long)]
    pub(crate) guards: bool,
    /// Only this guard, with --guards; may be given more than once
    #[arg(long, value_name = "GUARD", requires = "guards")]
    pub(crate) guard: Vec<String>,
    /// Let the power go in simulated migrations, and print how often that was survived
    #[arg(long, hide = true)]
    pub(crate) simulate: bool,
    /// List the kinds of faults and the named points
    #[arg(long)]
    pub(crate) list: bool,
}
