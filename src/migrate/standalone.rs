//! Runs a migration from start to end in one call, without a daemon: for programs that migrate
//! their own database before they do anything else.
//!
//! The same core decides as in the daemon. Its events are applied in memory and never stored. After
//! a kill only the manifest beside the database is left, and the next call settles it first.

use crate::context::MigrationRunner;
use crate::files;
use groundskeeper_core::event::{Actor, MigrationPlan};
use groundskeeper_core::{
    Code, Command, Decision, Ended, Fault, Migration, MigrationId, Record, Settlement, State, Time,
};

/// Returns a new random name for a migration.
///
/// # Errors
/// `io` when the system provides no random numbers.
pub fn new_id() -> Result<MigrationId, Fault> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|e| {
        let hint = "check that /dev/urandom can be read";
        Fault::new(Code::Io, "cannot read random bytes from the system", hint).because(e)
    })?;
    let parsed = MigrationId::parse(&groundskeeper_core::hex(&bytes));
    parsed.map_err(|e| {
        Fault::new(Code::Defect, "the new migration id is invalid", "please report this").because(e)
    })
}

/// Returns the wall-clock time in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(groundskeeper_system::clock::since_epoch().as_millis()).unwrap_or(u64::MAX)
}

/// State of one migration in memory, in place of a log.
#[derive(Debug, Default)]
pub struct Standalone {
    state: State,
}

impl Standalone {
    /// Returns the state with all events so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Decides a command and applies the resulting events.
    ///
    /// # Errors
    /// The fault with which the core refuses the command.
    pub fn submit(&mut self, command: Command) -> Result<(), Fault> {
        let decision: Decision = self.state.decide(now(), command);
        for event in decision? {
            let seq = self.state.seq().next();
            self.state.apply(&Record { seq, at: now(), boot: 1, event });
        }
        Ok(())
    }

    /// Performs the owed steps until none is owed.
    ///
    /// # Errors
    /// Only a refusal of the core or a defect. A migration that fails is a result, not an error.
    pub fn run(&mut self, runner: &MigrationRunner, id: &MigrationId) -> Result<(), Fault> {
        while let Some(migration) = self.state.migration(id).cloned() {
            let Some(owed) = &migration.owed else { break };
            // Bounded: the core limits the attempts and the delay between two of them.
            files::pause(owed.not_before.since(now()));
            let result = runner.perform(&migration, owed.step, &|| false);
            let ended = Ended { entered: owed.entered, result };
            self.submit(Command::Settle(Settlement::Migration(id.clone(), ended)))?;
        }
        Ok(())
    }
}

/// Carries a database to its next generation.
///
/// # Errors
/// The fault of a migration that failed; the database is then unchanged.
pub fn migrate(runner: &MigrationRunner, plan: MigrationPlan) -> Result<Migration, Fault> {
    let (mut standalone, id) = (Standalone::default(), new_id()?);
    let actor = Actor {
        origin: groundskeeper_core::event::Origin::Daemon,
        uid: 0,
        pid: std::process::id(),
    };
    standalone.submit(Command::Migrate { migration: id.clone(), plan, actor })?;
    standalone.run(runner, &id)?;
    let migration = standalone.state.migration(&id).cloned().ok_or_else(|| {
        Fault::new(Code::Defect, "the migration is not in the state", "please report this")
    })?;
    match (&migration.phase, &migration.fault) {
        (groundskeeper_core::MigrationPhase::Failed, Some(fault)) => Err(fault.clone()),
        _ => Ok(migration),
    }
}

fn now() -> Time {
    Time(now_ms().saturating_mul(1_000_000))
}
