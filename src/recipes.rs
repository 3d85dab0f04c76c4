//! The recipes that this program knows by name. `groundskeeper-migrate` itself knows none.
//!
//! The recipe for the control server's catalogue leads from generation 1 to 2: deleting a host now
//! deletes its rows in the other tables (`ON DELETE CASCADE`). SQLite cannot add a foreign key to
//! an existing table, so the tables are rebuilt. It carries no row whose host does not exist.

use std::path::Path;
use std::sync::Arc;

use groundskeeper_executor::Executor;

use crate::migrate::recipe::{Keychain, Network};
use crate::migrate::recipes::Recipes;
use crate::migrate::recipes::folder::Folder;
use crate::migrate::{MigrationRunner, http, keychain};

/// Returns the recipes, in the order in which messages list them.
#[must_use]
pub fn all() -> Recipes {
    Recipes::new(vec![Arc::new(Executor), Arc::new(catalog())])
}

/// Environment variable with a file that replaces the system's keychain.
const KEYCHAIN_FILE: &str = "GROUNDSKEEPER_KEYCHAIN_FILE";

/// Environment variable that, if not empty, keeps migrations off the network.
const OFFLINE: &str = "GROUNDSKEEPER_OFFLINE";

/// Creates the runner of migrations that knows these recipes and keeps what an undo needs in
/// `home`.
#[must_use]
pub fn runner(home: &Path) -> MigrationRunner {
    let keychain: Box<dyn Keychain + Send + Sync> = match std::env::var_os(KEYCHAIN_FILE) {
        Some(path) => Box::new(keychain::FileKeychain::new(path)),
        None => Box::new(keychain::SystemKeychain),
    };
    let offline = std::env::var_os(OFFLINE).is_some_and(|value| !value.is_empty());
    let network: Box<dyn Network + Send + Sync> =
        if offline { Box::new(http::NoNetwork) } else { Box::new(http::Http) };
    MigrationRunner::new(home, all(), network, keychain)
}

/// Returns the catalogue recipe: SQL scripts compiled into the program.
#[must_use]
pub fn catalog() -> Folder {
    let build = concat!(
        include_str!("../schema/catalog/002.sql"),
        include_str!("../schema/catalog/002/rows.sql")
    );
    Folder::built_in(
        "catalog",
        [
            Some(include_str!("../schema/catalog/002/recognise.sql")),
            None,
            Some(build),
            Some(include_str!("../schema/catalog/002/stamp.sql")),
            None,
            Some(include_str!("../schema/catalog/002/warnings.sql")),
            None,
        ],
    )
}
