//! The name and the time that a new migration gets.

use groundskeeper_core::{Code, Fault, MigrationId};
use groundskeeper_system::clock;

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
    u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX)
}
