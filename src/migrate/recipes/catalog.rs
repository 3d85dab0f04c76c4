//! The control server's own catalogue, from generation 1 to 2: what belongs to a host goes with it.
//! SQLite cannot add a reference to a table that is there, so the tables are built anew.

use super::folder::Folder;

/// The recipe.
#[must_use]
pub fn catalog() -> Folder {
    let build = concat!(
        include_str!("../../../schema/catalog/002.sql"),
        include_str!("../../../schema/catalog/002/rows.sql")
    );
    Folder::built_in(
        "catalog",
        [
            Some(include_str!("../../../schema/catalog/002/recognise.sql")),
            None,
            Some(build),
            Some(include_str!("../../../schema/catalog/002/stamp.sql")),
            None,
            Some(include_str!("../../../schema/catalog/002/warnings.sql")),
            None,
        ],
    )
}
