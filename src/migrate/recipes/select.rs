//! From the name of a recipe, or a plan, to the recipe.

use std::path::Path;

use super::super::recipe::Recipe;
use crate::core::event::MigrationPlan;
use crate::core::{Code, Fault};
use crate::migrate::recipes::{catalog, executor, folder};
use crate::world::fs::paths;

/// Names of the recipes that are built in.
pub const NAMES: &[&str] = &["executor", "catalog"];

/// The recipe of a plan.
///
/// # Errors
/// `invalid_request` when there is none of that name; `migration_failed` when a folder of SQL files
/// is not the one that the plan was made with.
pub fn find(plan: &MigrationPlan) -> Result<Box<dyn Recipe>, Fault> {
    if plan.folder.as_bytes().is_empty() {
        return named(&plan.recipe);
    }
    let folder = folder::Folder::open(paths::borrowed(&plan.folder))?;
    if folder.hash() == plan.folder_hash {
        return Ok(Box::new(folder));
    }
    let message = format!("the recipe in {} was changed meanwhile", plan.folder);
    let hint = "migrate again, or put the recipe back as it was";
    Err(Fault::new(Code::MigrationFailed, message, hint))
}

/// The recipe of a plan as its [`Recipe::files`] were kept; none when it was not, or not as a
/// whole.
///
/// # Errors
/// When what was kept cannot be read now.
pub fn kept(plan: &MigrationPlan, kept: &Path) -> Result<Option<Box<dyn Recipe>>, Fault> {
    if !paths::exists(kept).map_err(paths::failed("look at", kept))? {
        return Ok(None);
    }
    match folder::Folder::open(kept) {
        Ok(folder) if folder.hash() == plan.folder_hash => {
            Ok(Some(Box::new(folder.as_from(paths::borrowed(&plan.folder)))))
        }
        // Keeping it was cut short.
        Ok(_) => Ok(None),
        Err(fault) if fault.code == Code::InvalidRequest => Ok(None),
        Err(fault) => Err(fault.transient()),
    }
}

/// A recipe that is built in.
///
/// # Errors
/// `invalid_request` when there is none of that name.
pub fn named(name: &str) -> Result<Box<dyn Recipe>, Fault> {
    match name {
        "executor" => Ok(Box::new(executor::Executor)),
        "catalog" => Ok(Box::new(catalog::catalog())),
        #[cfg(any(test, feature = "faults"))]
        "sample" => Ok(Box::new(crate::migrate::sample::Sample::new())),
        _ => {
            let message = format!("there is no recipe {name:?}");
            let hint = format!("there are {}; or name a folder of SQL files", NAMES.join(", "));
            Err(Fault::new(Code::InvalidRequest, message, hint))
        }
    }
}
