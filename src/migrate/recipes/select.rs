//! Finds the recipe for a name or a plan: one that the program knows, a folder of SQL files, or the
//! kept copy of such a folder. It never writes.

use std::path::Path;
use std::sync::Arc;

use groundskeeper_core::event::MigrationPlan;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::paths;

use super::folder::Folder;
use crate::recipe::Recipe;

/// The recipes that a program knows by name. A folder of SQL files needs no entry.
#[derive(Clone, Default)]
pub struct Recipes {
    known: Vec<Arc<dyn Recipe>>,
}

impl Recipes {
    /// Creates the table. Messages list the names in this order.
    #[must_use]
    pub fn new(known: Vec<Arc<dyn Recipe>>) -> Self {
        Self { known }
    }

    /// Returns the recipe of a plan: the plan's folder of SQL files, or the known recipe if the
    /// plan names no folder.
    ///
    /// # Errors
    /// `invalid_request` when no recipe has that name; `migration_failed` when the folder's content
    /// no longer has the hash that is in the plan.
    pub fn find(&self, plan: &MigrationPlan) -> Result<Arc<dyn Recipe>, Fault> {
        let Some(path) = &plan.folder else {
            return self.named(plan.recipe.as_deref().unwrap_or_default());
        };
        let folder = Folder::open(paths::borrowed(path))?;
        if Some(folder.hash()) == plan.folder_hash.as_deref() {
            return Ok(Arc::new(folder));
        }
        let message = format!("the recipe in {path} changed after the migration began");
        let hint = "migrate again, or restore the files of the recipe";
        Err(Fault::new(Code::MigrationFailed, message, hint))
    }

    /// Returns the known recipe of a name.
    ///
    /// # Errors
    /// `invalid_request` when no known recipe has that name.
    pub fn named(&self, name: &str) -> Result<Arc<dyn Recipe>, Fault> {
        let found = self.known.iter().find(|recipe| recipe.name() == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.known.iter().map(|recipe| recipe.name()).collect();
            let message = format!("there is no recipe {name:?}");
            let hint = format!("use one of {}, or a folder of SQL files", names.join(", "));
            Fault::new(Code::InvalidRequest, message, hint)
        })
    }
}

/// Returns a plan's recipe from the copy of its [`Recipe::files`] in `kept`; none when there is no
/// copy, or only part of one. A migration ends with the recipe that it began with, even when the
/// folder has changed since.
///
/// # Errors
/// When the copy cannot be read at the moment.
pub fn kept(plan: &MigrationPlan, kept: &Path) -> Result<Option<Arc<dyn Recipe>>, Fault> {
    if !paths::exists(kept).map_err(paths::failed("inspect", kept))? {
        return Ok(None);
    }
    match Folder::open_kept(kept) {
        Ok(folder) if Some(folder.hash()) == plan.folder_hash.as_deref() => {
            let path = plan.folder.as_ref().map_or(kept, paths::borrowed);
            Ok(Some(Arc::new(folder.as_from(path))))
        }
        // A daemon was killed while it wrote the copy: the files are complete, their content is
        // not.
        Ok(_) => Ok(None),
        // The same interruption, before all required files existed.
        Err(fault) if fault.code == Code::InvalidRequest => Ok(None),
        Err(fault) => Err(fault.transient()),
    }
}
