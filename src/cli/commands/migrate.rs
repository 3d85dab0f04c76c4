//! `migrate`: migrates a database to its next generation, shows the state of migrations, undoes
//! one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;

use crate::api::migrations::{MigrationView, NewMigration};
use crate::cli::args::{Global, Migrate, Migrations, Start};
use crate::cli::client::{CliError, Client};
use crate::cli::output::{CommandResult, NOTHING, encode, print_json, show_one};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::migrate::request::MigrationRequest;
use crate::recipes;
use crate::world::fs::paths;

pub(in crate::cli) async fn run(global: &Global, what: Migrate) -> CommandResult {
    match what.what {
        Some(Migrations::Status { database }) => status(global, database.as_deref()).await,
        Some(Migrations::Undo { database }) => undo(global, &database).await,
        None => migrate(global, what).await,
    }
}

/// Returns the request from the flags, with the application's defaults for what they leave out.
pub(in crate::cli) fn wanted(what: &Migrate) -> Result<MigrationRequest, Fault> {
    let (Some(database), Some(recipe)) = (what.database.clone(), what.recipe.clone()) else {
        let message = "a database and --recipe are required";
        return Err(Fault::new(
            Code::InvalidRequest,
            message,
            "run `groundskeeper migrate --help` for the usage",
        ));
    };
    let wanted = MigrationRequest {
        database,
        recipe,
        auth: what.auth.clone(),
        tenant: what.tenant.clone(),
        on_conflict: what.on_conflict.clone(),
        dry_run: what.dry_run,
    };
    let cwd = std::env::current_dir().map_err(paths::failed("find", Path::new(".")))?;
    Ok(wanted.with_defaults(&cwd, &recipes::all()))
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

async fn migrate(global: &Global, what: Migrate) -> CommandResult {
    let wanted = wanted(&what)?;
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
    let mut client = Client::connect(global).await?;
    let begun = client.call(Method::POST, "/v1/migrations", Some(&new)).await?;
    let done = follow(global, &mut client, begun).await?;
    show(global, &done)
}

/// Waits for the end of a migration and shows its progress.
async fn follow(
    global: &Global,
    client: &mut Client,
    mut view: MigrationView,
) -> Result<MigrationView, CliError> {
    let bar = render::Steps::new(global.quiet || global.json);
    let mut shown = String::new();
    while !view.over {
        let now = step(&view);
        if now != shown {
            bar.step(&now);
            shown = now;
        }
        let path = format!("/v1/migrations/{}?wait=1", encode(&view.id));
        view = client.call(Method::GET, &path, NOTHING).await?;
    }
    bar.finish();
    Ok(view)
}

fn step(view: &MigrationView) -> String {
    match &view.progress {
        Some(p) if p.of > 0 && p.unit == "bytes" => {
            format!("{}: {} MiB of {}", p.what, p.done >> 20, p.of.div_ceil(1 << 20))
        }
        Some(p) if p.of >= p.done && p.done > 0 => {
            format!("{}: {} rows of {}", p.what, p.done, p.of)
        }
        Some(p) if p.done > 0 => format!("{}: {} rows", p.what, p.done),
        Some(p) => p.what.clone(),
        None => view.phase.replace('_', " "),
    }
}

fn show(global: &Global, view: &MigrationView) -> CommandResult {
    if let ("failed", Some(problem)) = (view.phase.as_str(), &view.error) {
        return Err(CliError::from(problem.clone()));
    }
    if global.json {
        print_json(view);
        return Ok(ExitCode::SUCCESS);
    }
    for warning in &view.warnings {
        render::note(&format!("warning: {}", render::printable(warning)));
    }
    for left in &view.leftovers {
        render::note(&format!("left behind: {}", render::printable(left)));
    }
    show_one(global, view, &describe(view))
}

fn describe(view: &MigrationView) -> String {
    let database = render::printable(&view.database);
    let backup = view.backup.as_deref().map(render::printable);
    match (view.phase.as_str(), backup) {
        ("current", _) => format!("{database} needs no migration\n"),
        ("rehearsed", _) => {
            format!("{}the migration would succeed; nothing was changed\n", tables(view))
        }
        ("undone", _) => format!("the old database is back at {database}\n"),
        (_, Some(backup)) => {
            format!("migrated {database}\nthe old database is kept as {backup}\n")
        }
        (phase, None) => format!("{database}: {phase}\n"),
    }
}

fn tables(view: &MigrationView) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let rows = view.tables.iter();
    let rows = rows.map(|t| [render::printable(&t.table), number(t.before), number(t.after)]);
    render::table(["TABLE", "BEFORE", "AFTER"], rows)
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

async fn status(global: &Global, database: Option<&Path>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let found = all(&mut client, database).await?;
    let mut text = String::new();
    for view in &found {
        let _written = writeln!(
            text,
            "{} {} {}: {}",
            view.created_at,
            view.id,
            render::printable(&view.database),
            view.phase.replace('_', " ")
        );
        for line in view.backup.iter().map(|b| format!("old database: {b}")) {
            let _written = writeln!(text, "    {}", render::printable(&line));
        }
        for line in view.error.iter().map(|e| format!("{} ({})", e.message, e.hint)) {
            let _written = writeln!(text, "    {}", render::printable(&line));
        }
    }
    if found.is_empty() {
        text.push_str("no migrations are recorded\n");
    }
    show_one(global, &found, &text)
}

async fn undo(global: &Global, database: &Path) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let found = all(&mut client, Some(database)).await?;
    let Some(last) = found.into_iter().find(|m| m.migrated) else {
        let message = format!("there is no migration of {} to undo", database.display());
        let hint = "run `groundskeeper migrate status` to list migrations";
        return Err(Fault::new(Code::MigrationNotFound, message, hint).into());
    };
    let path = format!("/v1/migrations/{}/undo", encode(&last.id));
    let begun: MigrationView = client.call(Method::POST, &path, NOTHING).await?;
    let done = follow(global, &mut client, begun).await?;
    if let (true, Some(problem)) = (done.phase != "undone", &done.error) {
        return Err(CliError::from(problem.clone()));
    }
    show(global, &done)
}
