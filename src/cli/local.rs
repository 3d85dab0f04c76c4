//! `migrate` in this process: when no daemon has the data directory, or when it is asked for.
//!
//! The facts go to the log of the data directory. While another process has that, `--no-daemon`
//! keeps a log beside the database. It decides nothing; the core of the library does, as in the
//! daemon.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::args::{Global, Migrate, Migrations, ProgressFormat};
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, print_json, show_one};
use crate::cli::progress_line::ProgressLine;
use crate::cli::render;
use crate::core::{Code, Command, Fault};
use crate::default_dir::default_data_dir;
use crate::migrate::prune;
use crate::migrate::request::MigrationRequest;
use crate::migrate::standalone::{self, Control, Place, Standalone, Update};
use crate::recipes;
use crate::service::types::migration::{MigrationView, ProgressView};
use crate::service::types::prune::{NewPrune, PruneView};
use groundskeeper_system::paths;

/// Longest time from a signal to the end of this process. What is not rolled back by then is rolled
/// back by the next run.
pub(in crate::cli) const END_LIMIT: Duration = Duration::from_secs(5);
/// Exit code of a process that a signal ended, as shells have it for SIGINT.
pub(in crate::cli) const EXIT_INTERRUPTED: i32 = 130;

/// Runs the command in this process.
pub(in crate::cli) fn run(global: &Global, what: &Migrate) -> CommandResult {
    match &what.what {
        Some(Migrations::Status { database }) => status(global, database.as_deref()),
        Some(Migrations::Cancel { database }) => cancel(global, what, database),
        Some(Migrations::Prune { database, older_than, apply, .. }) => {
            prune(global, what, database.as_deref(), (*older_than, *apply))
        }
        Some(Migrations::Undo { database, keep_new }) => undo(global, what, database, *keep_new),
        None => migrate(global, what),
    }
}

fn migrate(global: &Global, what: &Migrate) -> CommandResult {
    let wanted = wanted(what)?;
    let place = place(global, what, &wanted.database)?;
    let runner = recipes::runner(&place.home);
    let display = Display::new(global, what.progress);
    let report = display.with_control(|c| standalone::run(&place, &runner, &wanted, c))?;
    let view = match &report.migration {
        Some(migration) => MigrationView::of(migration, None),
        None => MigrationView::current(&report.plan),
    };
    show_migration(global, &view)
}

fn undo(global: &Global, what: &Migrate, database: &Path, keep_new: bool) -> CommandResult {
    let place = place(global, what, database)?;
    let runner = recipes::runner(&place.home);
    let display = Display::new(global, what.progress);
    let undone = display.with_control(|c| standalone::undo(&place, &runner, database, keep_new, c));
    let undone = undone.map_err(|fault| if what.no_daemon { without_daemon(fault) } else { fault });
    show_migration(global, &MigrationView::of(&undone?, None))
}

/// Returns a fault whose hint names commands that pass the daemon by, as the one did that failed.
fn without_daemon(fault: Fault) -> Fault {
    let hint = fault.hint.replace("`groundskeeper migrate ", "`groundskeeper migrate --no-daemon ");
    Fault { hint, ..fault }
}

fn status(global: &Global, database: Option<&Path>) -> CommandResult {
    let mut found = Vec::new();
    for place in places(global, database)? {
        found.extend(standalone::list(&place, database)?);
    }
    let found: Vec<MigrationView> = found.iter().map(|m| MigrationView::of(m, None)).collect();
    show_one(global, &found, &render::migrations(&found, &|path| Path::new(path).exists()))
}

fn prune(
    global: &Global,
    what: &Migrate,
    database: Option<&Path>,
    (older_than_seconds, apply): (u64, bool),
) -> CommandResult {
    let own = within(&data_dir(global)?);
    if what.no_daemon && !standalone::is_free(&own)? {
        let message = "another process has the data directory, and knows what an undo needs";
        let hint = "run the command again without --no-daemon";
        return Err(Fault::new(Code::AlreadyRunning, message, hint).into());
    }
    let place = own;
    let database = database.map(Path::to_string_lossy).map(Into::into);
    let wanted = NewPrune { database, older_than_seconds, apply };
    let report = prune::alone(&place, &recipes::runner(&place.home), &wanted.request()?)?;
    show_pruned(global, &wanted, &PruneView::of(&wanted, &report), what.no_daemon)
}

/// Shows what can be removed, or was.
pub(in crate::cli) fn show_pruned(
    global: &Global,
    wanted: &NewPrune,
    view: &PruneView,
    no_daemon: bool,
) -> CommandResult {
    if !global.json && !global.quiet {
        render::prune_summary(wanted, view, no_daemon);
    }
    show_one(global, view, &render::pruned(view))
}

/// Ends a migration that a process left unfinished. One that runs holds the lock of its log and is
/// ended where it runs.
fn cancel(global: &Global, what: &Migrate, database: &Path) -> CommandResult {
    let place = place(global, what, database)?;
    let path = MigrationRequest { database: database.to_owned(), ..MigrationRequest::default() };
    let path = path.database()?;
    let not_found = || {
        let message = format!("no migration of {} is in progress", database.display());
        let hint = "run `groundskeeper migrate status` to list migrations";
        Fault::new(Code::MigrationNotFound, message, hint)
    };
    if !place.log.exists() {
        return Err(not_found().into());
    }
    let mut standalone = Standalone::open(&place)?;
    let unfinished = standalone.state().migrating(&path).map(|m| m.id.clone());
    let id = unfinished.ok_or_else(not_found)?;
    standalone.submit(Command::CancelMigration { migration: id.clone() })?;
    let runner = recipes::runner(&place.home);
    let display = Display::new(global, what.progress);
    let done = display.with_control(|c| standalone.finish(&runner, &id, c))?;
    show_cancelled(global, &MigrationView::of(&done, None))
}

/// Shows how a cancelled migration ended. Its fault is the cancellation itself.
pub(in crate::cli) fn show_cancelled(global: &Global, view: &MigrationView) -> CommandResult {
    if !["failed", "rehearsed"].contains(&view.phase.as_str()) {
        return show_migration(global, view);
    }
    for left in &view.leftovers {
        render::note(&format!("left behind: {}", render::printable(left)));
    }
    let database = render::printable(&view.database);
    show_one(global, view, &format!("cancelled; {database} is unchanged\n"))
}

/// Returns the request from the flags, with the application's defaults for what they leave out.
pub(in crate::cli) fn wanted(what: &Migrate) -> Result<MigrationRequest, Fault> {
    let (Some(database), Some(recipe)) = (what.database.clone(), what.recipe.clone()) else {
        let message = "a database and --recipe are required";
        let hint = "run `groundskeeper migrate --help` for the usage";
        return Err(Fault::new(Code::InvalidRequest, message, hint));
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

/// Shows how a migration ended; a failed one is an error.
pub(in crate::cli) fn show_migration(global: &Global, view: &MigrationView) -> CommandResult {
    if let ("failed", Some(problem)) = (view.phase.as_str(), &view.error) {
        return Err(CliError::from(problem.clone()));
    }
    if global.json {
        print_json(view);
        return Ok(ExitCode::SUCCESS);
    }
    // An undo leads back to what they were about.
    for warning in view.warnings.iter().filter(|_| view.phase != "undone") {
        render::note(&format!("warning: {}", render::printable(warning)));
    }
    for left in &view.leftovers {
        render::note(&format!("left behind: {}", render::printable(left)));
    }
    show_one(global, view, &render::migration(view))
}

fn data_dir(global: &Global) -> Result<PathBuf, Fault> {
    match &global.data_dir {
        Some(dir) => std::path::absolute(dir).map_err(paths::failed("find", dir)),
        None => default_data_dir(),
    }
}

/// Returns the files of a data directory that a migration uses, under the names that a daemon
/// gives them.
fn within(data_dir: &Path) -> Place {
    Place {
        log: data_dir.join("log.redb"),
        lock: data_dir.join("daemon.lock"),
        home: data_dir.join("migrations"),
    }
}

/// Returns the place for a database: where its last migration is recorded, else the data directory.
/// While another process has the data directory, `--no-daemon` keeps a log beside the database.
fn place(global: &Global, what: &Migrate, database: &Path) -> Result<Place, Fault> {
    let (own, beside) = (within(&data_dir(global)?), Place::beside(database));
    if !standalone::is_free(&own)? {
        return Ok(if what.no_daemon { beside } else { own });
    }
    if !beside.log.exists() {
        return Ok(own);
    }
    let last = |place: &Place| {
        let all = standalone::list(place, Some(database))?;
        Ok::<_, Fault>(all.first().map(|migration| migration.created_at))
    };
    Ok(if last(&beside)? > last(&own)? { beside } else { own })
}

fn places(global: &Global, database: Option<&Path>) -> Result<Vec<Place>, Fault> {
    let own = within(&data_dir(global)?);
    let beside = database.map(Place::beside).filter(|place| place.log.exists());
    // What a daemon has is its own to tell, and the log beside the database tells the rest.
    let own = (beside.is_none() || standalone::is_free(&own)?).then_some(own);
    Ok([own, beside].into_iter().flatten().filter(|place| place.log.exists()).collect())
}

/// Progress on stderr, and the signals that end the migration.
struct Display {
    format: ProgressFormat,
    bar: render::Steps,
    shown: RefCell<String>,
    interrupted: Arc<AtomicBool>,
}

impl Display {
    fn new(global: &Global, format: ProgressFormat) -> Self {
        let quiet = global.quiet || global.json || format != ProgressFormat::Auto;
        let (bar, shown) = (render::Steps::new(quiet), RefCell::default());
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        // Without a handler a signal ends the process at once, which is safe as well.
        if let Err(e) = ctrlc::set_handler(move || end(&flag)) {
            tracing::debug!(error = %e, "no signal handler");
        }
        Self { format, bar, shown, interrupted }
    }

    /// Calls a closure with the callbacks of a run, and removes what they left on a terminal.
    fn with_control<T>(&self, call: impl FnOnce(&Control<'_>) -> T) -> T {
        let update = |update: Update<'_>| self.update(update);
        let cancelled = || self.interrupted.load(Ordering::SeqCst);
        let done = call(&Control { update: &update, cancelled: &cancelled });
        self.bar.finish();
        done
    }

    fn update(&self, update: Update<'_>) {
        let view = match update {
            Update::Phase(migration) => MigrationView::of(migration, None),
            Update::Progress(progress) => {
                let progress = Some(ProgressView::of(progress.clone()));
                MigrationView { progress, ..MigrationView::default() }
            }
        };
        match self.format {
            ProgressFormat::None => {}
            ProgressFormat::Json => render::note(&ProgressLine::of(update).to_json()),
            ProgressFormat::Auto => {
                let now = render::step_of(&view);
                if *self.shown.borrow() != now {
                    self.bar.step(&now);
                    self.shown.replace(now);
                }
            }
        }
    }
}

/// Asks the migration to end, and ends the process if it does not in time.
fn end(interrupted: &AtomicBool) {
    if interrupted.swap(true, Ordering::SeqCst) {
        std::process::exit(EXIT_INTERRUPTED);
    }
    render::note("stopping; a database that is not installed yet is removed");
    // No other thread sends: the wait ends with the limit, or with the process.
    let (sender, never) = std::sync::mpsc::channel::<()>();
    let late = move || {
        let _timeout = never.recv_timeout(END_LIMIT);
        drop(sender);
        render::note("ended by force; run the same command again to finish");
        std::process::exit(EXIT_INTERRUPTED);
    };
    drop(std::thread::Builder::new().name("gk-end".to_owned()).spawn(late));
}
