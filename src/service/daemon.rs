//! Use cases of the daemon itself: its description, its reload and its shutdown.

use crate::core::{Code, Fault, Seq, Time};
use crate::format::rfc3339;
use crate::service::app::App;
use crate::service::status;
use crate::service::types::daemon::{DaemonView, LastSweepView};

/// Returns the description of the daemon and its counters.
pub(crate) fn describe(app: &App) -> DaemonView {
    let watching = status::watching(app);
    let session = app.session.get().map(|standing| standing.borrow().clone());
    app.handle.view(|state| {
        let mut environments = std::collections::BTreeMap::new();
        for e in state.environments() {
            *environments.entry(e.phase.as_str().to_owned()).or_default() += 1;
        }
        let Seq(seq) = state.seq();
        DaemonView {
            log_had: state.found_older().map(|seq| seq.0),
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            boot: state.boot(),
            data_dir: app.layout.root().display().to_string(),
            log_id: app.about.log_id.clone(),
            seq,
            git: app.about.git.clone(),
            started_at: rfc3339(app.about.started),
            environments,
            owed: state.owed(Time(u64::MAX)).count(),
            priority: app.about.priority.clone(),
            processes_started: crate::world::process::subprocess::started(),
            watching: watching.clone(),
            session: session.clone(),
            sweep: state.last_sweep().map(|(at, s)| LastSweepView {
                at: rfc3339(*at),
                found: s.found,
                settled: s.settled,
                unsettled: s.findings.iter().filter(|f| f.ours && !f.settled).count() as u64,
                held: s.held.clone().unwrap_or_default(),
            }),
        }
    })
}

/// Requests an orderly shutdown. Returns before it is complete.
pub(crate) fn shut_down(app: &App) {
    app.stopper.send_replace(true);
}

/// Requests that the daemon starts again with the settings as they are now. Returns before it has.
///
/// # Errors
/// `Code::InvalidConfig` for settings that cannot be used, and `Code::UnsupportedCommand` if this
/// daemon cannot start again.
pub(crate) fn reload(app: &App) -> Result<(), Fault> {
    let Some(reload) = &app.reload else {
        let message = "a daemon that runs with a control server cannot reload its settings";
        let hint = "run `groundskeeper stop`, then start it again";
        return Err(Fault::new(Code::UnsupportedCommand, message, hint));
    };
    reload()
}
