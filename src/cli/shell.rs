//! The directory that the shell is to change to: a shell function of `groundskeeper init` reads it.
//!
//! A program cannot change the directory of its shell. It writes where to go into the file that the
//! function has named, and the function goes there.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::args::Global;
use crate::cli::render;

/// Variable with the file that the function reads.
pub(super) const VARIABLE: &str = "GROUNDSKEEPER_CD_FILE";

/// Returns the file that the function reads; none if no function called this program.
fn file() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|file| !file.is_empty())
}

/// Has the shell change to a directory. Returns whether it will.
pub(super) fn go(path: &str) -> bool {
    let Some(file) = file() else { return false };
    // The function has made it. To make one here could follow a link of someone else's.
    let open = std::fs::File::options().write(true).truncate(true).open(file);
    open.and_then(|mut file| std::io::Write::write_all(&mut file, path.as_bytes())).is_ok()
}

/// Prints the path of an environment, or has the shell go there.
pub(super) fn print_or_go(global: &Global, path: &str) {
    if go(path) {
        return;
    }
    render::out(&format!("{}\n", render::printable(path)));
    note_once(global);
}

/// Says once, to a person, that there is a function which changes the directory.
fn note_once(global: &Global) {
    use std::io::IsTerminal as _;
    let is_seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if global.quiet || global.no_input || !is_seen {
        return;
    }
    let Some(said) = place() else { return };
    let folder = said.parent().map(std::fs::create_dir_all);
    let first = std::fs::File::options().write(true).create_new(true).open(&said);
    if folder.is_some_and(|made| made.is_ok()) && first.is_ok() {
        render::note(
            "to change to it at once, use the shell function `gk`: see `groundskeeper init --help`",
        );
    }
}

/// Returns the file that says that it was said.
fn place() -> Option<PathBuf> {
    Some(crate::default_dir::default_cache_dir()?.join("init-was-mentioned"))
}
