//! Checks at the start that the files of the data directory are plain files, so that none of them
//! is opened, or replaced, that is not. It opens nothing itself.

use groundskeeper_system::own_file::{self, Links};

use crate::core::Fault;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Checks every file that a start uses, and every folder that it does not make.
///
/// # Errors
/// The first that is something else, with the command that moves it away.
pub(super) fn check(layout: &Layout) -> Result<(), Fault> {
    let files = [
        layout.daemon_info(),
        layout.log(),
        layout.identity(),
        layout.high_water(),
        layout.ballast(),
    ];
    for file in files {
        own_file::check(&file, Links::Refused).map_err(paths::failed("inspect", &file))?;
    }
    for folder in [layout.migrations(), layout.spare(), layout.log_archive()] {
        own_file::check_folder(&folder).map_err(paths::failed("inspect", &folder))?;
    }
    Ok(())
}
