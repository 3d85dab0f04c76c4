//! Turns a request or a configuration into a plan: real paths, a known recipe, and the defaults
//! that the application itself would use. It never opens a database.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::now_ms;
use crate::recipes::Recipes;
use crate::recipes::folder::Folder;
use crate::recovery;
use groundskeeper_core::event::{ConflictPolicy, MigrationPlan};
use groundskeeper_core::{Code, Fault, HostPath};
use groundskeeper_system::paths;

/// Longest tenant, in bytes.
const TENANT_BYTES_MAX: usize = 512;

/// A request to carry a database to its next generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// Path of the database file.
    pub database: PathBuf,
    /// Name of a built-in recipe, or path of a directory of SQL files.
    pub recipe: String,
    /// File with the secrets; defaults to where the application keeps it.
    #[serde(default)]
    pub auth: Option<PathBuf>,
    /// Owner of rows that have none in the old database; defaults to the tenant that the
    /// application derives.
    #[serde(default)]
    pub tenant: Option<String>,
    /// `refuse` (the default), `keep-first` or `rename`.
    #[serde(default)]
    pub on_conflict: Option<String>,
    /// Whether the migration only builds and verifies, and then drops the result.
    #[serde(default)]
    pub dry_run: bool,
}

impl MigrationRequest {
    /// Fills in the application's defaults, which depend on the environment variables and the
    /// working directory of the caller.
    #[must_use]
    pub fn with_defaults(mut self, cwd: &Path, recipes: &Recipes) -> Self {
        if let Ok(recipe) = recipes.named(&self.recipe) {
            self.auth = self.auth.or_else(|| recipe.default_secrets());
            self.tenant = self.tenant.or_else(|| recipe.default_tenant(cwd));
        }
        self
    }

    /// Returns the path of the database as plans have it. The database itself may be missing.
    ///
    /// # Errors
    /// `invalid_request` or `path_not_found`.
    pub fn database(&self) -> Result<HostPath, Fault> {
        real(&self.database)
    }

    /// Returns the plan of the request.
    ///
    /// # Errors
    /// `invalid_request`, `path_not_found` when the directory is missing, or the fault of a recipe
    /// that cannot be read.
    pub fn plan(&self, recipes: &Recipes) -> Result<MigrationPlan, Fault> {
        let mut plan = MigrationPlan {
            database: real(&self.database)?,
            tenant: self.tenant.clone().unwrap_or_default(),
            on_conflict: self.policy()?,
            dry_run: self.dry_run,
            at_ms: now_ms(),
            ..MigrationPlan::default()
        };
        if let Some(auth) = &self.auth {
            plan.secrets = Some(absolute(auth)?);
        }
        if plan.tenant.len() > TENANT_BYTES_MAX {
            return Err(bad(format!("the tenant has more than {TENANT_BYTES_MAX} bytes")));
        }
        let folder = Path::new(&self.recipe);
        if folder.components().count() > 1
            || folder.is_dir() && recipes.named(&self.recipe).is_err()
        {
            let folder = paths::real(folder).map_err(paths::failed("find the recipe", folder))?;
            plan.folder_hash = Some(Folder::open(&folder)?.hash().to_owned());
            plan.folder = Some(stored(&folder)?);
        } else {
            recipes.named(&self.recipe)?;
            plan.recipe = Some(self.recipe.clone());
        }
        Ok(plan)
    }

    fn policy(&self) -> Result<ConflictPolicy, Fault> {
        match self.on_conflict.as_deref().map_or(ConflictPolicy::Refuse, ConflictPolicy::from) {
            ConflictPolicy::Unknown(text) => {
                Err(bad(format!("{text:?} is not one of refuse, keep-first, rename")))
            }
            known => Ok(known),
        }
    }
}

fn bad(message: String) -> Fault {
    Fault::new(
        Code::InvalidRequest,
        message,
        "run `groundskeeper migrate --help` to list the arguments",
    )
}

/// Returns a path with the real path of its directory. The file itself may be missing or a link:
/// the inspection judges that.
fn real(path: &Path) -> Result<HostPath, Fault> {
    let Some(name) = path.file_name() else {
        return Err(bad(format!("the database path {} does not name a file", path.display())));
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = paths::real(dir).map_err(paths::failed("find", dir))?;
    stored(&dir.join(name))
}

/// Returns an absolute path, which does not depend on the working directory. Links are resolved
/// where the file exists.
fn absolute(path: &Path) -> Result<HostPath, Fault> {
    let path = std::path::absolute(path).map_err(paths::failed("find", path))?;
    let found = paths::real(&path).unwrap_or(path);
    if found.is_dir() {
        return Err(bad(format!("the secrets file {} is a directory", found.display())));
    }
    stored(&found)
}

/// Returns a path in the form in which the log stores it.
fn stored(path: &Path) -> Result<HostPath, Fault> {
    if paths::is_representable(path) {
        return Ok(paths::to_host(path));
    }
    Err(bad(format!("the name {} is no valid UTF-16", path.display())))
}

/// Returns whether an interrupted migration has to be settled before the database is inspected.
#[must_use]
pub fn is_interrupted(plan: &MigrationPlan, recipes: &Recipes) -> bool {
    let Ok(recipe) = recipes.find(plan) else { return false };
    let database = paths::from_host(&plan.database);
    crate::file_names::manifest_for(&database, &*recipe).exists()
        || !database.exists() && !recovery::beside(&database, recipe.label()).1.is_empty()
}

/// Refuses a request with other options than those of the migration that it would finish.
pub(super) fn check_same(plan: &MigrationPlan, unfinished: &MigrationPlan) -> Result<(), Fault> {
    // The time is set per request; two identical requests differ in it alone.
    let same = MigrationPlan { at_ms: unfinished.at_ms, ..plan.clone() };
    if same == *unfinished {
        return Ok(());
    }
    let database = &plan.database;
    let message = format!("a migration of {database} with other options was interrupted");
    let hint = format!(
        "migrate with the options of that one to finish it, or run `groundskeeper migrate cancel \
         {}`",
        paths::as_argument(paths::borrowed(database))
    );
    Err(Fault::new(Code::DatabaseInUse, message, hint))
}
