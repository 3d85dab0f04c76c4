//! The laws of migrations over random histories: whatever fails and whenever a daemon dies, each
//! migration ends, either with the old database and the old secrets or with the new database and
//! the new secrets, and with nothing else.

use std::time::Duration;

use proptest::prelude::*;

use crate::event::{Actor, MigrationPlan, Retention, SourceCopy, SourceState, Staging};
use crate::invariants::Audit;
use crate::{
    Code, Command, Ended, Event, Fault, HostPath, Migration, MigrationId,
    MigrationOutcome as Outcome, MigrationPhase, MigrationStep as Step, Record, Seq, Settlement,
    State, Time,
};

/// Content of the fake disk: generations of database and secrets, and private files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    database: u8,
    backup: bool,
    copy: bool,
    /// 1: half written, 2: whole.
    staging: u8,
    secrets: u8,
    kept_secrets: bool,
    undone: bool,
}

const OLD: Disk = Disk {
    database: 1,
    backup: false,
    copy: false,
    staging: 0,
    secrets: 1,
    kept_secrets: false,
    undone: false,
};

impl Disk {
    /// Performs one of the small steps of an effect; a crash can fall between any two.
    fn act(&mut self, step: Step, small: u8) {
        match (step, small) {
            (Step::CopySource, 0) => self.kept_secrets = true,
            (Step::CopySource, 1) | (Step::NormaliseSource, 0) => self.copy = true,
            (Step::BuildStaging, 0) => self.staging = 1,
            (Step::BuildStaging, 1) => self.staging = 2,
            (Step::WriteSecrets, 0) => self.secrets = 2,
            (Step::Flip, 0) if self.staging > 0 => self.backup = true,
            (Step::Flip, 1) if self.staging > 0 => {
                assert_eq!(self.staging, 2, "half a database was installed");
                (self.database, self.staging) = (2, 0);
            }
            (Step::CleanUp, 0) => self.copy = false,
            (Step::CleanUp, 1) => self.kept_secrets = false,
            (Step::DropStaging, 0) if self.kept_secrets => self.secrets = 1,
            (Step::DropStaging, 1) => (self.staging, self.copy) = (0, false),
            (Step::DropStaging, 2) => (self.kept_secrets, self.backup) = (false, false),
            (Step::ReturnBackup, 0) if self.backup => {
                (self.database, self.backup, self.undone) = (1, false, true);
            }
            (Step::ReturnBackup, 1) => self.secrets = 1,
            _ => {}
        }
    }

    fn outcome(self, step: Step) -> Outcome {
        let rows = vec![("t".to_owned(), 1)];
        match step {
            Step::InspectSource => {
                let old = self.database == 1;
                Outcome::SourceInspected(SourceState { old, ..SourceState::default() })
            }
            Step::CopySource => {
                Outcome::SourceCopied(SourceCopy { has_secrets: true, ..SourceCopy::default() })
            }
            Step::NormaliseSource => Outcome::SourceNormalised(vec!["replayed".into()]),
            Step::BuildStaging => Outcome::StagingBuilt(Staging { rows, ..Staging::default() }),
            Step::WriteSecrets => Outcome::SecretsWritten(1),
            Step::VerifyStaging => Outcome::StagingVerified(1, "f".into()),
            Step::Flip => Outcome::Flipped("/backup".into()),
            Step::ReturnBackup => Outcome::Returned("/undone".into()),
            Step::CleanUp => Outcome::CleanedUp(Vec::new()),
            Step::DropStaging if self.database == 2 => Outcome::TooLate("/backup".into()),
            Step::DropStaging => Outcome::StagingDropped(Vec::new()),
        }
    }
}

#[derive(Debug, Clone)]
enum StepEnd {
    Well,
    Transient(u8),
    Permanent(u8),
    Wrong,
    Crash(u8),
    Stale,
}

fn how() -> impl Strategy<Value = StepEnd> {
    prop_oneof![
        6 => Just(StepEnd::Well),
        1 => (0..3_u8).prop_map(StepEnd::Transient),
        1 => (0..3_u8).prop_map(StepEnd::Permanent),
        1 => Just(StepEnd::Wrong),
        2 => (0..4_u8).prop_map(StepEnd::Crash),
        1 => Just(StepEnd::Stale),
    ]
}

struct Harness {
    state: State,
    log: Vec<Record>,
    now: Time,
    disk: Disk,
    last: Option<Seq>,
    audit: Audit,
}

fn id() -> MigrationId {
    MigrationId::parse("0123abcd").expect("a name")
}

impl Harness {
    fn new() -> Self {
        let (state, log) = (State::default(), Vec::new());
        let audit = Audit::default();
        let mut bench = Self { state, log, now: Time(1), disk: OLD, last: None, audit };
        bench.boot();
        bench
    }

    fn boot(&mut self) {
        let retention = Retention::default();
        let ground = crate::Ground::default();
        self.command(Command::Start { pid: 1, version: "t".into(), retention, ground });
    }

    fn command(&mut self, command: Command) -> bool {
        let Ok(events) = self.state.decide(self.now, command) else { return false };
        let changed = !events.is_empty();
        for event in events {
            let start = matches!(event, Event::DaemonStarted(_));
            let boot = self.state.boot() + u32::from(start);
            let record = Record { seq: self.state.seq().next(), at: self.now, boot, event };
            let breaches = self.audit.fold(&mut self.state, &record);
            assert_eq!(breaches, [], "{record:?}");
            self.log.push(record);
        }
        assert_eq!(self.audit.finish(&self.state), None);
        self.state.check().expect("no contradiction");
        assert!([1, 2].contains(&self.disk.database), "there is always one database");
        changed
    }

    fn request(&mut self, dry_run: bool) {
        let plan = MigrationPlan {
            recipe: Some("t".into()),
            database: HostPath::from("/db"),
            dry_run,
            ..MigrationPlan::default()
        };
        let again = Command::Migrate { migration: id(), plan, actor: Actor::default() };
        assert!(self.command(again.clone()), "it begins");
        assert!(!self.command(again), "the same once more is joined");
    }

    fn migration(&self) -> Migration {
        self.state.migration(&id()).cloned().expect("known")
    }

    fn step(&mut self, how: &StepEnd) {
        let migration = self.migration();
        let Some(owed) = migration.owed.clone() else { return };
        self.now = self.now.max(owed.not_before);
        let fault = Fault::new(Code::Io, "made up", "none");
        let (done, result) = match how {
            StepEnd::Well => (4, Some(Ok(self.disk.outcome(owed.step)))),
            StepEnd::Transient(n) => (*n, Some(Err(fault.transient()))),
            StepEnd::Permanent(n) => (*n, Some(Err(fault))),
            StepEnd::Wrong if owed.step == Step::Flip => (0, Some(Ok(Outcome::SecretsWritten(1)))),
            StepEnd::Wrong => (0, Some(Ok(Outcome::Flipped("/backup".into())))),
            StepEnd::Crash(n) => (*n, None),
            StepEnd::Stale => (0, None),
        };
        // A rollback first checks whether the new database is installed, and then keeps it.
        let too_late = owed.step == Step::DropStaging && self.disk.database == 2;
        for small in 0..done {
            if !too_late {
                self.disk.act(owed.step, small);
            }
        }
        if matches!(how, StepEnd::Crash(_)) {
            self.now = self.now.after(Duration::from_secs(60));
            self.boot();
        }
        if let (StepEnd::Stale, Some(entered)) = (how, self.last) {
            let late = Err(Fault::new(Code::Io, "late", "none"));
            assert!(!self.settle(entered, late), "absorbed");
        }
        let Some(result) = result else { return };
        let accepted = self.settle(owed.entered, result);
        if accepted && matches!(how, StepEnd::Wrong) {
            // A removal that is given up names it among what is left.
            let last = format!("{:?}", self.log.last()).to_lowercase();
            assert!(last.contains("defect"), "the outcome of another step is a failure: {last}");
        }
        if accepted {
            self.last = Some(owed.entered);
        }
    }

    fn settle(&mut self, entered: Seq, result: Result<Outcome, Fault>) -> bool {
        self.command(Command::Settle(Settlement::Migration(id(), Ended { entered, result })))
    }

    fn check_end(&self) {
        let migration = self.migration();
        let disk = self.disk;
        let clean = migration.leftovers.is_empty();
        match migration.phase {
            MigrationPhase::Finished => {
                assert_eq!((disk.database, disk.secrets, disk.backup), (2, 2, true));
                assert!(migration.has_migrated());
            }
            MigrationPhase::Failed | MigrationPhase::Rehearsed => {
                // A rollback that was given up does not know, and says so.
                assert!(disk.database == 1 || !clean, "the old database");
                assert!(disk.secrets == 1 || !clean, "old secrets with the old database");
                assert!(disk.staging == 0 || !clean, "nothing is left, or it is named");
            }
            MigrationPhase::Undone => {
                assert_eq!((disk.database, disk.secrets, disk.undone), (1, 1, true));
            }
            other => panic!("{other:?} is no end"),
        }
        assert!(!disk.copy || !clean);
        let mut folded = State::default();
        self.log.iter().for_each(|record| folded.apply(record));
        assert!(folded == self.state, "the fold of the log is the state");
    }
}

/// Whether an undo keeps a new database that was written to, and whether it is asked to at once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Keep {
    Never,
    AtOnce,
    Later,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn migration_ends_old_or_new(
        hows in prop::collection::vec(how(), 0..60),
        dry_run in prop::bool::weighted(0.2),
        undo in any::<bool>(),
        cancel in prop::option::of(0..60_usize),
        keep_new in prop_oneof![Just(Keep::Never), Just(Keep::AtOnce), Just(Keep::Later)],
    ) {
        let mut bench = Harness::new();
        bench.request(dry_run);
        for (at, how) in hows.iter().enumerate() {
            if cancel == Some(at) {
                // What was cancelled never installs the new database.
                if bench.command(Command::CancelMigration { migration: id() }) {
                    prop_assert_eq!(bench.migration().phase, MigrationPhase::RollingBack);
                }
            }
            bench.step(how);
        }
        // Once nothing fails any more the migration ends in a bounded number of steps.
        for _ in 0..20 {
            bench.step(&StepEnd::Well);
        }
        bench.check_end();
        let undo = undo && bench.migration().has_migrated();
        let request = |keep_new| {
            let actor = Actor::default();
            Command::UndoMigration { migration: id(), actor, keep_new }
        };
        let asked = bench.command(request(keep_new == Keep::AtOnce));
        prop_assert_eq!(asked, bench.migration().is_undoing());
        prop_assert!(!bench.command(request(false)), "it is joined");
        if keep_new == Keep::Later {
            prop_assert_eq!(bench.command(request(true)), asked, "it goes on that way");
        }
        prop_assert!(keep_new == Keep::Never || !bench.command(request(true)), "it is joined");
        if undo {
            for how in hows.iter().filter(|how| matches!(how, StepEnd::Crash(_) | StepEnd::Well)) {
                bench.step(how);
            }
        }
        for _ in 0..20 {
            bench.step(&StepEnd::Well);
        }
        bench.check_end();
    }

    #[test]
    fn migration_with_permanent_failure_ends(step in 0..8_usize, installed in any::<bool>()) {
        let mut bench = Harness::new();
        bench.request(false);
        for _ in 0..step + usize::from(installed) {
            bench.step(&StepEnd::Well);
        }
        for _ in 0..40 {
            bench.step(&StepEnd::Transient(0));
        }
        prop_assert!(bench.migration().is_over());
    }
}
