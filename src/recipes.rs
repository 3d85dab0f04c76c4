//! The recipes that this program knows by name. `groundskeeper-migrate` itself knows none.
//!
//! The recipe for the control server's catalogue leads from generation 1 to 2: deleting a host now
//! deletes its rows in the other tables (`ON DELETE CASCADE`). SQLite cannot add a foreign key to
//! an existing table, so the tables are rebuilt. It carries no row whose host does not exist.

use std::sync::Arc;

use groundskeeper_executor::Executor;

use crate::migrate::recipes::Recipes;
use crate::migrate::recipes::folder::Folder;

/// Returns the recipes, in the order in which messages list them.
#[must_use]
pub fn all() -> Recipes {
    Recipes::new(vec![Arc::new(Executor), Arc::new(catalog())])
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
