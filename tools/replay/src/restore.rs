//! `restore`: puts a backup back as the log of a data directory, with the identity that it had.
//!
//! Writes one new file; a log that is there is never replaced.

use groundskeeper_journal::inspect::Depth;
use groundskeeper_journal::{Error, inspect};

use crate::args::{ForkArgs, RestoreArgs};
use crate::fork;
use crate::live::is_locked;
use crate::out::{Out, note};
use crate::problem::Problem;
use crate::source::resolve;

/// Restores.
pub(crate) fn restore(args: &RestoreArgs, out: &mut Out) -> Result<u8, Problem> {
    let (new, dir) = resolve(&args.to);
    // A daemon that has lost its log still owns the directory, and would write to the old file.
    if dir.is_some_and(|dir| is_locked(&dir.join("daemon.lock"))) {
        return Err(Error::Busy { path: new }.into());
    }
    let all = ForkArgs {
        file: args.backup.clone(),
        new: new.clone(),
        at: "last".to_owned(),
        same_id: true,
    };
    let code = fork::fork(&all, out)?;
    inspect(&new, Depth::Everything, &mut |_, _| {})?;
    note(
        "note: what began after the backup is foreign to this log; `groundskeeper sweep` names it",
    );
    Ok(code)
}
