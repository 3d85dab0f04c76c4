//! Which programs are put to the proof. By default this very file: called by the name of the
//! program it *is* the program, the same library with the kill and fault points in it. So what is
//! tortured is never older than the torture.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Arguments;
use crate::child;
use crate::ground::Programs;
use crate::trouble::{Trouble, failed};

const NAME: &str = "groundskeeper";

/// Whether this process was started as the program.
pub(crate) fn is_asked_for() -> bool {
    let called = std::env::args_os().next().map(PathBuf::from);
    called.is_some_and(|path| path.file_name().is_some_and(|name| name == NAME))
}

/// Finds the programs, and makes a name for this one below `place`.
pub(crate) fn find(arguments: &Arguments, place: &Path) -> Result<Programs, Trouble> {
    let this = std::env::current_exe().map_err(failed("find", Path::new("this program")))?;
    let groundskeeper = if let Some(program) = &arguments.program {
        program.canonicalize().map_err(failed("find", program))?
    } else {
        // One with our number may have ended without a chance to clean up.
        forget(place);
        let name = place.join(format!("bin-{}", std::process::id())).join(NAME);
        crate::ground::make_dir(name.parent().unwrap_or(place))?;
        std::os::unix::fs::symlink(&this, &name).map_err(failed("make", &name))?;
        name
    };
    let replay = this.with_file_name("replay");
    // Under cargo it may be older than this program, or not be there yet.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "replay"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let limit = std::time::Duration::from_secs(1_800);
        let done = child::run_within(build.current_dir(env!("CARGO_MANIFEST_DIR")), limit)?;
        if !done.ok() {
            return Err(Trouble::new(format!("cannot build replay: {}", done.err.trim())));
        }
    }
    if !replay.is_file() {
        let what = format!("{} is not there; `cargo build -p replay` makes it", replay.display());
        return Err(Trouble::new(what));
    }
    Ok(Programs { groundskeeper, replay, without: None })
}

/// Takes away what `find` made.
pub(crate) fn forget(place: &Path) {
    drop(std::fs::remove_dir_all(place.join(format!("bin-{}", std::process::id()))));
}
