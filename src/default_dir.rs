//! The directories and the configuration file that are used when none is named.

use std::path::PathBuf;

use etcetera::BaseStrategy as _;

use crate::core::{Code, Fault};

/// Returns the data directory to use when none is given: by XDG on every system but Windows, where
/// it is in the user's application data.
///
/// # Errors
/// [`Code::InvalidConfig`] when there is no home directory.
pub(crate) fn default_data_dir() -> Result<PathBuf, Fault> {
    #[cfg(windows)]
    let dirs = etcetera::base_strategy::Windows::new();
    #[cfg(not(windows))]
    let dirs = etcetera::base_strategy::Xdg::new();
    let dirs = dirs.map_err(|e| {
        let message = "cannot find a home directory for the data directory";
        Fault::new(Code::InvalidConfig, message, "set --data-dir").because(e)
    })?;
    Ok(dirs.data_dir().join("groundskeeper"))
}

/// Returns the configuration file to read when none is given; `None` without a home directory.
#[cfg(feature = "daemon")]
pub(crate) fn default_config_file() -> Option<PathBuf> {
    let dirs = etcetera::base_strategy::Xdg::new().ok()?;
    Some(dirs.config_dir().join("groundskeeper/config.toml"))
}

/// Returns the directory for what may be lost at any time; `None` without a home directory.
#[cfg(feature = "daemon")]
pub(crate) fn default_cache_dir() -> Option<PathBuf> {
    let dirs = etcetera::base_strategy::Xdg::new().ok()?;
    Some(dirs.cache_dir().join("groundskeeper"))
}
