//! `migrate`: migrates a database to its next generation, shows the state of migrations, undoes
//! one.

use std::path::{Path, PathBuf};

use hyper::Method;

use crate::api::migrations::{MigrationView, NewMigration, NewPrune, PruneView};
use crate::cli::args::{Global, Migrate, Migrations, ProgressFormat, Start};
use crate::cli::client::{Client, layout};
use crate::cli::error::CliError;
use crate::cli::follow::{OnInterrupt, follow};
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::{local, render};
use crate::core::{Code, Fault};
use crate::migrate::request::MigrationRequest;
use crate::recipes;
use crate::world::fs::paths;

/// Asks the daemon that has the data directory; where none runs, works in this process.
pub(in crate::cli) async fn run(global: &Global, what: Migrate) -> CommandResult {
    if what.no_daemon {
        return local::run(global, &what);
    }
    let client = match Client::try_connect(&layout(global)?).await {
        Ok(client) => client,
        Err(_) => match local::run(global, &what) {
            // A daemon that starts or ends right now has the lock and no socket.
            Err(e) if e.0.code == Code::AlreadyRunning.as_str() => Client::connect(global).await?,
            done => return done,
        },
    };
    match &what.what {
        Some(Migrations::Status { database }) => status(global, client, database.as_deref()).await,
        Some(Migrations::Cancel { database }) => {
            cancel(global, what.progress, client, database).await
        }
        Some(Migrations::Prune { database, older_than, apply, .. }) => {
            prune(global, client, database.as_deref(), (*older_than, *apply)).await
        }
        Some(Migrations::Undo { database, keep_new }) => {
            undo(global, what.progress, client, (database, *keep_new)).await
        }
        None => migrate(global, client, what).await,
    }
}

/// Returns the databases that a starting daemon migrates before it is ready: at most one.
pub(in crate::cli) fn at_start(how: &Start) -> Result<Vec<MigrationRequest>, Fault> {
    let (Some(database), Some(recipe)) = (how.migrate.clone(), how.recipe.clone()) else {
        return Ok(Vec::new());
    };
    let wanted = MigrationRequest {
        database,
        recipe,
        auth: how.auth.clone(),
        tenant: how.tenant.clone(),
        on_conflict: how.on_conflict.clone(),
        dry_run: false,
    };
    let cwd = std::env::current_dir().map_err(paths::failed("find", Path::new(".")))?;
    Ok(vec![wanted.with_defaults(&cwd, &recipes::all())])
}

fn absolute(path: &Path) -> Result<String, Fault> {
    let path = std::path::absolute(path).map_err(paths::failed("find", path))?;
    match path.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(name) => {
            let message = format!("the path {} is not UTF-8", PathBuf::from(name).display());
            Err(Fault::new(Code::InvalidRequest, message, "rename it to a UTF-8 name"))
        }
    }
}

async fn migrate(global: &Global, mut client: Client, what: Migrate) -> CommandResult {
    let wanted = local::wanted(&what)?;
    let recipe = Path::new(&wanted.recipe);
    // The daemon has another working directory, so a folder is sent as an absolute path.
    let is_folder = recipe.components().count() > 1 || recipe.is_dir();
    let new = NewMigration {
        database: absolute(&wanted.database)?,
        recipe: if is_folder { absolute(recipe)? } else { wanted.recipe.clone() },
        auth: wanted.auth.as_deref().map(absolute).transpose()?,
        tenant: wanted.tenant,
        on_conflict: wanted.on_conflict,
        dry_run: wanted.dry_run,
    };
    let begun = client.call(Method::POST, "/v1/migrations", Some(&new)).await?;
    let done = follow(global, what.progress, &mut client, begun, OnInterrupt::Cancel).await?;
    local::show_migration(global, &done)
}

async fn all(client: &mut Client, database: Option<&Path>) -> Result<Vec<MigrationView>, CliError> {
    let path = match database {
        Some(path) => {
            // Only the directory is resolved: the database itself may not exist.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = dir.unwrap_or(Path::new("."));
            let real = dir.canonicalize().map_err(paths::failed("find", dir))?;
            let full = real.join(path.file_name().unwrap_or_default());
            format!("/v1/migrations?database={}", encode(&full.to_string_lossy()))
        }
        None => "/v1/migrations".to_owned(),
    };
    client.call(Method::GET, &path, NOTHING).await
}

async fn status(global: &Global, mut client: Client, database: Option<&Path>) -> CommandResult {
    let found = all(&mut client, database).await?;
    show_one(global, &found, &render::migrations(&found, &|path| Path::new(path).exists()))
}

async fn prune(
    global: &Global,
    mut client: Client,
    database: Option<&Path>,
    (older_than_seconds, apply): (u64, bool),
) -> CommandResult {
    let database = database.map(absolute).transpose()?;
    let wanted = NewPrune { database, older_than_seconds, apply };
    let found: PruneView = client.call(Method::POST, "/v1/migrations/prune", Some(&wanted)).await?;
    local::show_pruned(global, &wanted, &found, false)
}

/// Returns the latest migration of a database that `wanted` accepts.
async fn latest(
    client: &mut Client,
    database: &Path,
    what: &str,
    wanted: fn(&MigrationView) -> bool,
) -> Result<MigrationView, CliError> {
    let found = all(client, Some(database)).await?.into_iter().find(wanted);
    found.ok_or_else(|| {
        let message = format!("there is no migration of {} to {what}", database.display());
        let hint = "run `groundskeeper migrate status` to list migrations";
        Fault::new(Code::MigrationNotFound, message, hint).into()
    })
}

async fn cancel(
    global: &Global,
    format: ProgressFormat,
    mut client: Client,
    database: &Path,
) -> CommandResult {
    let last = latest(&mut client, database, "cancel", |m| !m.over).await?;
    let path = format!("/v1/migrations/{}/cancel", encode(&last.id));
    let begun: MigrationView = client.call(Method::POST, &path, NOTHING).await?;
    local::show_cancelled(
        global,
        &follow(global, format, &mut client, begun, OnInterrupt::Leave).await?,
    )
}

async fn undo(
    global: &Global,
    format: ProgressFormat,
    mut client: Client,
    (database, keep_new): (&Path, bool),
) -> CommandResult {
    let can_end = |m: &MigrationView| m.migrated || m.phase == "undoing";
    let last = latest(&mut client, database, "undo", can_end).await?;
    let query = if keep_new { "?keep_new=true" } else { "" };
    let path = format!("/v1/migrations/{}/undo{query}", encode(&last.id));
    let begun: MigrationView = client.call(Method::POST, &path, NOTHING).await?;
    let done = follow(global, format, &mut client, begun, OnInterrupt::Leave).await?;
    if let (true, Some(problem)) = (done.phase != "undone", &done.error) {
        return Err(CliError::from(problem.clone()));
    }
    local::show_migration(global, &done)
}
