//! The application's defaults for what a request leaves out: the file of secrets and the tenant.
//! They depend on the environment variables of the process. Nothing here reads a file.

use std::path::{Path, PathBuf};

use super::slug::sha256_hex;

/// Returns the file in which the Executor application keeps its secrets.
pub(crate) fn secrets() -> Option<PathBuf> {
    let named = |name: &str| {
        let text = std::env::var(name).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let home = || Some(etcetera::home_dir().ok()?.join(".local/share"));
    Some(named("XDG_DATA_HOME").or_else(home)?.join("executor/auth.json"))
}

/// Returns the tenant of a directory as the Executor application derives it: its name and the first
/// eight digits of the hash of its path.
pub(crate) fn tenant(cwd: &Path) -> String {
    let scope = std::env::var_os("EXECUTOR_SCOPE_DIR").filter(|dir| !dir.is_empty());
    let dir = scope.map_or_else(|| cwd.to_owned(), PathBuf::from);
    let text = dir.to_string_lossy();
    let name = dir.file_name().map_or(text.clone(), |name| name.to_string_lossy());
    format!("{name}-{}", &sha256_hex(&text)[..8])
}
