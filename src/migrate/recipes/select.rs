//! Finds the recipe for a name or a plan: a built-in one, a folder of SQL files, or the kept copy
//! of such a folder. It never writes.

use std::path::Path;

use super::super::recipe::Recipe;
use crate::core::event::MigrationPlan;
use crate::core::{Code, Fault};
use crate::migrate::recipes::{catalog, executor, folder};
use crate::world::fs::paths;

/// Names of the built-in recipes that a user may choose.
pub const NAMES: &[&str] = &["executor", "catalog"];

/// Returns the recipe of a plan: the plan's folder of SQL files, or the built-in recipe if the plan
/// names no folder.
///
/// # Errors
/// `invalid_request` when no recipe has that name; `migration_failed` when the folder's content no
/// longer has the hash that is in the plan.
pub fn find(plan: &MigrationPlan) -> Result<Box<dyn Recipe>, Fault> {
    if plan.folder.as_bytes().is_empty() {
        return named(&plan.recipe);
    }
    let folder = folder::Folder::open(paths::borrowed(&plan.folder))?;
    if folder.hash() == plan.folder_hash {
        return Ok(Box::new(folder));
    }
    let message = format!("the recipe in {} changed after the migration began", plan.folder);
    let hint = "migrate again, or restore the files of the recipe";
    Err(Fault::new(Code::MigrationFailed, message, hint))
}

/// Returns a plan's recipe from the copy of its [`Recipe::files`] in `kept`; none when there is no
/// copy, or only part of one. A migration ends with the recipe that it began with, even when the
/// folder has changed since.
///
/// # Errors
/// When the copy cannot be read at the moment.
pub fn kept(plan: &MigrationPlan, kept: &Path) -> Result<Option<Box<dyn Recipe>>, Fault> {
    if !paths::exists(kept).map_err(paths::failed("inspect", kept))? {
        return Ok(None);
    }
    match folder::Folder::open(kept) {
        Ok(folder) if folder.hash() == plan.folder_hash => {
            Ok(Some(Box::new(folder.as_from(paths::borrowed(&plan.folder)))))
        }
        // A daemon was killed while it wrote the copy: the files are complete, their content is
        // not.
        Ok(_) => Ok(None),
        // The same interruption, before all required files existed.
        Err(fault) if fault.code == Code::InvalidRequest => Ok(None),
        Err(fault) => Err(fault.transient()),
    }
}

/// Returns the built-in recipe of a name.
///
/// # Errors
/// `invalid_request` when no built-in recipe has that name.
pub fn named(name: &str) -> Result<Box<dyn Recipe>, Fault> {
    match name {
        "executor" => Ok(Box::new(executor::Executor)),
        "catalog" => Ok(Box::new(catalog::catalog())),
        #[cfg(any(test, feature = "faults"))]
        "sample" => Ok(Box::new(crate::migrate::sample::Sample::new())),
        _ => {
            let message = format!("there is no recipe {name:?}");
            let hint = format!("use one of {}, or a folder of SQL files", NAMES.join(", "));
            Err(Fault::new(Code::InvalidRequest, message, hint))
        }
    }
}
