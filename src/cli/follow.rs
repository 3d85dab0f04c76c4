//! Follows a migration in the daemon: its progress on stderr, and Ctrl-C, which cancels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Method;

use crate::api::migrations::MigrationView;
use crate::cli::args::{Global, ProgressFormat};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::local::{END_LIMIT, EXIT_INTERRUPTED};
use crate::cli::output::{NOTHING, encode};
use crate::cli::progress_line::ProgressLines;
use crate::cli::render;

/// What Ctrl-C does while the daemon works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum OnInterrupt {
    /// It cancels the migration.
    Cancel,
    /// It ends this process, and the daemon goes on.
    Leave,
}

/// Waits for the end of a migration and shows its progress.
pub(in crate::cli) async fn follow(
    global: &Global,
    format: ProgressFormat,
    client: &mut Client,
    mut view: MigrationView,
    on_interrupt: OnInterrupt,
) -> Result<MigrationView, CliError> {
    let mut shown = Shown::new(global, format);
    let mut interrupt = (on_interrupt == OnInterrupt::Cancel).then(Interrupt::listen);
    loop {
        shown.show(&view);
        if view.over {
            break;
        }
        if interrupt.as_ref().is_some_and(Interrupt::came) {
            interrupt = None;
            cancel(client, &view.id).await;
        }
        let path = format!("/v1/migrations/{}?wait=1", encode(&view.id));
        view = client.call(Method::GET, &path, NOTHING).await?;
    }
    shown.bar.finish();
    Ok(view)
}

/// Cancels a migration. Once the new database is installed it is refused, and the end is near.
async fn cancel(client: &mut Client, id: &str) {
    let path = format!("/v1/migrations/{}/cancel", encode(id));
    let asked: Result<MigrationView, CliError> = client.call(Method::POST, &path, NOTHING).await;
    if let Err(CliError(refused)) = asked {
        render::note(&format!("{}; {}", refused.message, refused.hint));
    }
}

/// What is on the terminal of a migration.
struct Shown {
    format: ProgressFormat,
    bar: render::Steps,
    step: String,
    lines: ProgressLines,
}

impl Shown {
    fn new(global: &Global, format: ProgressFormat) -> Self {
        let quiet = global.quiet || global.json || format != ProgressFormat::Auto;
        let bar = render::Steps::new(quiet);
        Self { format, bar, step: String::new(), lines: ProgressLines::default() }
    }

    fn show(&mut self, view: &MigrationView) {
        if self.format == ProgressFormat::Json {
            self.lines.of_view(view).iter().for_each(|line| render::note(&line.to_json()));
        }
        let now = render::step_of(view);
        if !view.over && now != self.step {
            self.bar.step(&now);
            self.step = now;
        }
    }
}

/// Ctrl-C: the first asks the daemon to cancel; the second, or the end of [`END_LIMIT`], leaves the
/// rest to the daemon.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn listen() -> Self {
        let came = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&came);
        tokio::spawn(async move {
            // Without a handler a signal ends this process, and the daemon goes on.
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            flag.store(true, Ordering::SeqCst);
            render::note("cancelling; press Ctrl-C again to leave the migration to the daemon");
            drop(tokio::time::timeout(END_LIMIT, tokio::signal::ctrl_c()).await);
            render::note("the daemon goes on; `groundskeeper migrate status` shows how it ends");
            std::process::exit(EXIT_INTERRUPTED);
        });
        Self(came)
    }

    fn came(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
