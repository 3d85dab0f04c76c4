//! Entry point of the `groundskeeper` program. It only returns the exit code of
//! [`groundskeeper::cli::main`]; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    groundskeeper::cli::main()
}
