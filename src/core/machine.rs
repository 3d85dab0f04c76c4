//! The four functions of the core: what a command leads to, what a record means, what is owed, and
//! when time alone changes that.
//!
//! They dispatch to `transition` and do nothing else. Each is a match without a catch-all, so that
//! the compiler finds a new command, a new topic of events, or a new subject.

use crate::command::Command;
use crate::decision::Decision;
use crate::effect::OwedEffect;
use crate::event::{DaemonStarted, DaemonStopped, DestroyRequested, Record, RunRequested, Topic};
use crate::former::{Former, Moment};
use crate::id::{SubjectKind, Time};
use crate::model::step::At;
use crate::state::State;

impl State {
    /// Decides a command: returns the events that it leads to, which are committed together or not
    /// at all. It may refuse; it never acts. `moment` is the time, and what the command must know
    /// of lives that the state has forgotten ([`Command::lives_named`]).
    ///
    /// # Errors
    /// A [`Fault`](crate::Fault) when a rule forbids the command; nothing has changed then.
    pub fn decide(&self, moment: impl Into<Moment>, command: Command) -> Decision {
        let moment = moment.into();
        self.decide_at(&moment, &moment.former, command)
    }

    fn decide_at(&self, moment: &Moment, former: &Former, command: Command) -> Decision {
        match command {
            Command::Start { pid, version, retention, ground } => {
                Ok(self.decide_start(moment.now, DaemonStarted { pid, version }, retention, ground))
            }
            Command::Stop { reason } => Ok(vec![DaemonStopped { reason }.into()]),
            Command::Provision(wanted) => self.decide_provision(former, wanted),
            Command::Cancel { environment: id, actor } => self.decide_cancel(former, id, actor),
            Command::Destroy { environment, incarnation, force, options, actor, request } => {
                let wanted = DestroyRequested { environment, force, actor, request, options };
                self.decide_destroy(moment, incarnation, wanted)
            }
            Command::Restore(wanted) => self.decide_restore(former, wanted),
            Command::Adopt(wanted) => self.decide_adopt(former, wanted),
            Command::Launch(started) => self.decide_launch(former, started),
            Command::Exited { environment, pid } => Ok(self.decide_exited(environment, pid)),
            Command::WatchGaveUp(gave_up) => Ok(self.decide_watch_gave_up(gave_up)),
            Command::WatchAgain { environment } => Ok(self.decide_watch_again(environment)),
            Command::Clean { environment: id, now, actor } => {
                self.decide_clean(former, id, now, actor)
            }
            Command::UndoClean { environment: id, actor } => {
                self.decide_undo_clean(former, id, actor)
            }
            Command::EmptyTrash { environment, lose, actor } => {
                self.decide_empty_trash(environment.as_ref(), lose, &actor)
            }
            Command::DiskLow => Ok(self.decide_disk_low()),
            Command::TrimLog(trimmed) => self.decide_trim(trimmed),
            Command::DropRescue { environment, incarnation, actor } => {
                self.decide_drop_rescue(&environment, incarnation, actor)
            }
            Command::Sweep(wanted) => Ok(self.decide_sweep(wanted)),
            Command::Lease(grant) => self.decide_lease(moment, grant),
            Command::Reconcile { set, options, actor } => {
                Ok(self.decide_reconcile(moment.now, &set, &options, &actor))
            }
            Command::ConfirmLiveSet { epoch, options, actor } => {
                self.decide_confirm(moment.now, epoch, &options, &actor)
            }
            Command::BeginRun { environment, request, lease, name, actor } => {
                let run = RunRequested { environment, request, name, actor };
                self.decide_begin_run(moment, run, lease.as_ref())
            }
            Command::EndRun { request, code, why } => Ok(self.decide_end_run(request, code, why)),
            Command::Migrate { migration: id, plan, actor } => self.decide_migrate(id, plan, actor),
            Command::CancelMigration { migration } => self.decide_cancel_migration(&migration),
            Command::UndoMigration { migration, actor, keep_new } => {
                self.decide_undo_migration(&migration, actor, keep_new)
            }
            Command::Label(wanted) => self.decide_label(former, wanted),
            Command::Release { lease } => Ok(self.decide_release(lease)),
            Command::MoveRepository { from, to } => Ok(self.decide_move_repository(from, to)),
            Command::Trust(trusted) => self.decide_trust(trusted),
            Command::Distrust(distrusted) => Ok(self.decide_distrust(distrusted)),
            Command::Note { effect, note } => Ok(Vec::from_iter(self.decide_note(&effect, note))),
            Command::Settle(settlement) => Ok(self.decide_settle(moment, settlement)),
            Command::Tick => Ok(self.decide_tick(moment.now)),
        }
    }

    /// Folds one record into the state. It is total: a recorded fact is never refused. A fact about
    /// something that does not exist, as in a salvaged log, changes nothing but the position.
    pub fn apply(&mut self, record: &Record) {
        self.seq = record.seq;
        self.at = record.at;
        self.boot = record.boot;
        let at = At { seq: record.seq, time: record.at };
        match record.event.topic() {
            Topic::Host(event) => self.apply_host(at, event),
            Topic::Provision(event) => self.apply_provision(at, event),
            Topic::Destroy(event) => self.apply_destroy(at, event),
            Topic::Lease(event) => self.apply_lease(at, event),
            Topic::Repository(event) => self.apply_repository(event),
            Topic::Teardown(event) => self.apply_teardown(at, event),
            Topic::Archive(event) => self.apply_archive(at, event),
            Topic::Process(event) => self.apply_process(at, event),
            Topic::Output(event) => self.apply_output(at, event),
            Topic::Clean(event) => self.apply_clean(at, event),
            Topic::Sweep(event) => self.apply_sweep(at, event),
            Topic::Label(event) => self.apply_label(at, event),
            Topic::Watch(event) => self.apply_watch(at, event),
            Topic::LiveSet(event) => self.apply_live_set(at, event),
            Topic::Run(event) => self.apply_run(at, event),
            Topic::Migration(event) => self.apply_migration(at, event),
            Topic::Opaque => {}
        }
        if let Some(id) = record.event.environment() {
            self.follow_cleans(at, id);
        }
    }

    /// Returns the effects that may be started at `now`: one per subject at most.
    pub fn owed(&self, now: Time) -> impl Iterator<Item = OwedEffect> {
        SubjectKind::ALL.into_iter().flat_map(move |kind| match kind {
            SubjectKind::Environment => self.owed_to_environments(now),
            SubjectKind::Archive => self.owed_to_archives(now),
            SubjectKind::Output => self.owed_to_outputs(now),
            SubjectKind::Migration => self.owed_to_migrations(now),
            SubjectKind::Host => self.owed_to_host(now),
        })
    }

    /// Returns the next time at which something changes by itself: a retry, a refresh, the end of a
    /// lease, the end of a retention.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let of = |kind| match kind {
            SubjectKind::Environment => self.deadline_of_environments(now),
            SubjectKind::Archive => self.deadline_of_archives(now),
            SubjectKind::Output => self.deadline_of_outputs(now),
            SubjectKind::Migration => self.deadline_of_migrations(now),
            SubjectKind::Host => self.deadline_of_host(now),
        };
        SubjectKind::ALL.into_iter().filter_map(of).min()
    }
}
