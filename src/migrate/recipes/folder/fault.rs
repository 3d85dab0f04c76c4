//! The faults of scripts: which file, which line, what led to it, and what to do.

use std::path::Path;

use super::script::{Cause, Failure};
use crate::sqlite;
use groundskeeper_core::{Code, Fault};

/// A script as a fault names it.
pub(super) struct Named<'a> {
    pub(super) recipe: &'a str,
    /// Name of the file without `.sql`.
    pub(super) file: &'a str,
    /// Folder of the recipe; `None` for one that is compiled in.
    pub(super) folder: Option<&'a Path>,
}

impl Named<'_> {
    /// Returns the script with its line, for a message.
    fn at(&self, line: Option<usize>) -> String {
        let line = line.map(|line| format!(", line {line},")).unwrap_or_default();
        format!("{}.sql{line} of recipe {}", self.file, self.recipe)
    }

    /// Returns a hint that says where the script is corrected.
    fn hint(&self, what: &str) -> String {
        match self.folder {
            Some(folder) => {
                let path = folder.join(format!("{}.sql", self.file));
                format!("{what}, in {}; nothing was changed", path.display())
            }
            // Its user cannot correct it.
            None => "report this to the authors of the recipe; nothing was changed".to_owned(),
        }
    }

    /// Returns the fault for a script that did not succeed.
    pub(super) fn fault(&self, failure: &Failure) -> Fault {
        let at = self.at(failure.line);
        let failed = |message: String, what: &str| {
            Fault::new(Code::MigrationFailed, message, self.hint(what))
        };
        match &failure.cause {
            Cause::Flaw(what) => {
                Fault::new(Code::InvalidRequest, format!("{at}: {what}"), self.hint("correct it"))
            }
            Cause::Denied(denial) => {
                failed(format!("{at}: {} is not allowed there", denial.what), denial.hint)
            }
            Cause::Parameter => {
                let what = "write the value in place of the parameter";
                failed(format!("{at} has a parameter, which has no value"), what)
            }
            Cause::SecondStatement => {
                failed(format!("{at} has more than one statement"), "leave one query in it")
            }
            Cause::NoTransaction => {
                let what = "remove the statement that ends the transaction";
                failed(format!("{at} ended the transaction that it ran in"), what)
            }
            Cause::Cancelled => sqlite::stopped(),
            Cause::Time(limit) => {
                let seconds = limit.as_secs_f64();
                let what = "look for a query without an end, or with a join that needs an index";
                failed(format!("{at} did not end within {seconds} s and was stopped"), what)
            }
            Cause::Pages(bytes) => {
                // SQLite does not tell the end of a disk for temporary files from the limit.
                let message = format!(
                    "{at} wrote more than its limit of {} MiB, or filled the disk of temporary files",
                    bytes >> 20
                );
                failed(
                    message,
                    "look for a query without an end, or free space in /var/tmp or TMPDIR",
                )
            }
            Cause::Sqlite(error) => self.sqlite(&at, error),
            Cause::Fault(fault) => fault.clone(),
        }
    }

    fn sqlite(&self, at: &str, error: &rusqlite::Error) -> Fault {
        let message = format!("cannot run {at}");
        let fault = if let Some((code, hint)) = sqlite::reason(error) {
            Fault::new(code, message, hint)
        } else if let Some(missing) = sqlite::missing(error) {
            // Either side may be wrong: the script, or a database that is not complete.
            let what = format!(
                "if the database should have {missing}, restore it from a backup; \
                 else correct the script"
            );
            Fault::new(Code::MigrationFailed, message, self.hint(&what))
        } else {
            Fault::new(Code::MigrationFailed, message, self.hint("correct it"))
        };
        fault.caused_by(error)
    }
}
