//! The program: arguments to exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    groundskeeper::cli::main()
}
