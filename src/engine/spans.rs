//! The spans of the text log: one for each command that the engine decides, and one for each step
//! that a thread performs. What is logged inside carries them, so that a line leads to a record.
//!
//! A span holds names, ids and numbers only. Paths, URLs and messages stay out, because they may
//! hold secrets. Nothing is computed for a span that no subscriber wants.

use tracing::Span;

use crate::core::effect::Effect;
use crate::core::event::Record;
use crate::core::model::step::Owed;
use crate::core::{
    Command, EnvironmentId, Provision, RequestId, Restore, Settlement, State, Subject, Target,
};

/// Returns the span of a command that the engine is about to decide. `origin` is the span in which
/// the command was sent, such as that of the step that settles.
pub(super) fn command(origin: &Span, command: &Command, state: &State) -> Span {
    tracing::info_span!(
        parent: origin,
        "command",
        command = name(command),
        environment = environment(command).map(EnvironmentId::as_str),
        incarnation = incarnation(command, state),
        request = request(command).map(RequestId::as_str),
    )
}

/// Returns the span of a step. `seq` is the record that made it owed.
pub(super) fn step(effect: &Effect) -> Span {
    let subject = &effect.id.subject;
    tracing::info_span!(
        parent: None,
        "step",
        step = effect.step().as_str(),
        environment = environment_of(subject).map(EnvironmentId::as_str),
        incarnation = incarnation_of(&effect.target),
        migration = match subject {
            Subject::Migration(id) => Some(id.as_str()),
            _ => None,
        },
        seq = effect.id.entered.0,
        attempt = attempts(&effect.target) + 1,
    )
}

/// The log line of a record: decided in a span, and written once the record is durable.
#[derive(Debug)]
pub(super) struct RecordLine {
    span: Span,
    incarnation: Option<u32>,
}

impl RecordLine {
    /// Notes what the line needs of the state, which `record` has just changed.
    pub(super) fn new(span: &Span, record: &Record, state: &State) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self { span: Span::none(), incarnation: None };
        }
        let archived = record.event.archive().map(|(_, incarnation)| incarnation);
        let current = || state.environment(record.event.environment()?).map(|e| e.incarnation);
        Self { span: span.clone(), incarnation: archived.or_else(current) }
    }

    /// Writes the line of a durable record.
    pub(super) fn write(&self, record: &Record) {
        // Entered, since an explicit parent would leave out the spans around it in JSON.
        let _inside = self.span.enter();
        tracing::debug!(
            seq = record.seq.0,
            kind = record.event.kind(),
            environment = record.event.environment().map(EnvironmentId::as_str),
            incarnation = self.incarnation,
            "record appended"
        );
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Start { .. } => "start",
        Command::Stop { .. } => "stop",
        Command::Provision(_) => "provision",
        Command::Cancel { .. } => "cancel",
        Command::Destroy { .. } => "destroy",
        Command::Restore(_) => "restore",
        Command::Adopt(_) => "adopt",
        Command::Launch(_) => "launch",
        Command::Exited { .. } => "exited",
        Command::WatchGaveUp(_) => "watch_gave_up",
        Command::WatchAgain { .. } => "watch_again",
        Command::Clean { .. } => "clean",
        Command::UndoClean { .. } => "undo_clean",
        Command::EmptyTrash { .. } => "empty_trash",
        Command::DiskLow => "disk_low",
        Command::TrimLog(_) => "trim_log",
        Command::DropRescue { .. } => "drop_rescue",
        Command::Sweep(_) => "sweep",
        Command::Label(_) => "label",
        Command::Lease(_) => "lease",
        Command::Reconcile { .. } => "reconcile",
        Command::ConfirmLiveSet { .. } => "confirm_live_set",
        Command::BeginRun { .. } => "begin_run",
        Command::EndRun { .. } => "end_run",
        Command::Migrate { .. } => "migrate",
        Command::CancelMigration { .. } => "cancel_migration",
        Command::UndoMigration { .. } => "undo_migration",
        Command::Release { .. } => "release",
        Command::MoveRepository { .. } => "move_repository",
        Command::Trust(_) => "trust",
        Command::Distrust(_) => "distrust",
        Command::Note { .. } => "note",
        Command::Settle(_) => "settle",
        Command::Tick => "tick",
    }
}

fn environment(command: &Command) -> Option<&EnvironmentId> {
    match command {
        Command::Provision(Provision { environment, .. })
        | Command::Restore(Restore { environment, .. })
        | Command::Cancel { environment, .. }
        | Command::Destroy { environment, .. }
        | Command::Exited { environment, .. }
        | Command::WatchAgain { environment }
        | Command::Clean { environment, .. }
        | Command::UndoClean { environment, .. }
        | Command::DropRescue { environment, .. }
        | Command::BeginRun { environment, .. } => Some(environment),
        Command::EmptyTrash { environment, .. } => environment.as_ref(),
        Command::Adopt(adopt) => Some(&adopt.environment),
        Command::Launch(started) => Some(&started.environment),
        Command::WatchGaveUp(gave_up) => Some(&gave_up.environment),
        Command::Label(wanted) => Some(&wanted.environment),
        Command::Lease(lease) => Some(&lease.environment),
        Command::Note { effect, .. } => environment_of(&effect.subject),
        Command::Settle(
            Settlement::Environment(id, _)
            | Settlement::Archive(id, ..)
            | Settlement::Output(id, ..),
        ) => Some(id),
        _ => None,
    }
}

fn environment_of(subject: &Subject) -> Option<&EnvironmentId> {
    match subject {
        Subject::Environment(id) | Subject::Archive(id, _) | Subject::Output(id, _) => Some(id),
        Subject::Migration(_) | Subject::Host => None,
    }
}

/// Returns the incarnation that a command is about; none for one that begins an incarnation, whose
/// number is in the record.
fn incarnation(command: &Command, state: &State) -> Option<u32> {
    match command {
        Command::Provision(_) | Command::Restore(_) | Command::Adopt(_) => None,
        Command::Destroy { incarnation: Some(incarnation), .. }
        | Command::DropRescue { incarnation, .. }
        | Command::Settle(Settlement::Archive(_, incarnation, _)) => Some(*incarnation),
        other => state.environment(environment(other)?).map(|env| env.incarnation),
    }
}

fn incarnation_of(target: &Target) -> Option<u32> {
    match target {
        Target::Environment(_, env, _) => Some(env.incarnation),
        Target::Archive(_, archive, _) => Some(archive.incarnation),
        Target::Output(_, output) => Some(output.incarnation),
        Target::Migration(..) | Target::Host(..) => None,
    }
}

fn request(command: &Command) -> Option<&RequestId> {
    match command {
        Command::Provision(Provision { request, .. })
        | Command::Restore(Restore { request, .. })
        | Command::Destroy { request, .. } => request.as_ref(),
        Command::Lease(lease) => lease.request.as_ref(),
        Command::BeginRun { request, .. } | Command::EndRun { request, .. } => Some(request),
        _ => None,
    }
}

/// Returns the number of attempts at the step that have failed.
fn attempts(target: &Target) -> u32 {
    fn of<S>(owed: Option<&Owed<S>>) -> u32 {
        owed.map_or(0, |owed| owed.attempts)
    }
    match target {
        Target::Environment(_, env, _) => of(env.owed.as_ref()),
        Target::Archive(_, archive, _) => of(archive.owed.as_ref()),
        Target::Output(_, output) => of(output.owed.as_ref()),
        Target::Migration(_, migration) => of(migration.owed.as_ref()),
        Target::Host(_, state) => of(state.sweep().map(|sweep| &sweep.owed)),
    }
}
