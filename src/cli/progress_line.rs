//! The progress of a migration as JSON, one object a line: a contract with programs in other
//! languages, which `groundskeeper_migrate::contract` describes.

use serde::Serialize;

use crate::migrate::Progress;
use crate::migrate::standalone::Update;
#[cfg(feature = "daemon")]
use crate::service::types::migration::{MigrationView, ProgressView};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum ProgressLine {
    /// The phase, the attempts or the fault changed.
    Phase {
        /// Name of the migration.
        migration: String,
        /// Its phase.
        phase: String,
        /// Failed attempts of the present step; `None` where a daemon does the work.
        attempts: Option<u32>,
        /// Why the last attempt failed.
        error: Option<LineError>,
    },
    /// A step made progress.
    Progress {
        /// Name of the activity or of the table.
        what: String,
        /// Amount done.
        done: u64,
        /// Total amount; 0 when it is not known.
        of: u64,
        /// Unit of both amounts.
        unit: String,
    },
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LineError {
    code: String,
    message: String,
    hint: String,
}

impl ProgressLine {
    /// Returns the line of an update in this process.
    pub(super) fn of(update: Update<'_>) -> Self {
        match update {
            Update::Phase(m) => Self::Phase {
                migration: m.id.to_string(),
                phase: m.phase.as_str().to_owned(),
                attempts: Some(m.owed.as_ref().map_or(0, |owed| owed.attempts)),
                error: m.fault.as_ref().map(|fault| LineError {
                    code: fault.code.as_str().to_owned(),
                    message: fault.message.clone(),
                    hint: fault.hint.clone(),
                }),
            },
            Update::Progress(Progress { what, done, of, unit }) => Self::Progress {
                what: what.clone(),
                done: *done,
                of: *of,
                unit: (*unit).to_owned(),
            },
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Through a value, whose keys are in alphabetical order.
        serde_json::to_value(self).unwrap_or_default().to_string()
    }
}

/// The lines of a migration that a daemon performs; each change is told once.
#[cfg(feature = "daemon")]
#[derive(Debug, Default)]
pub(super) struct ProgressLines {
    phase: Option<ProgressLine>,
    progress: Option<ProgressLine>,
}

#[cfg(feature = "daemon")]
impl ProgressLines {
    /// Returns what has changed since the last call.
    pub(super) fn of_view(&mut self, view: &MigrationView) -> Vec<ProgressLine> {
        let phase = ProgressLine::Phase {
            migration: view.id.clone(),
            phase: view.phase.clone(),
            attempts: None,
            error: view.error.as_ref().map(|problem| LineError {
                code: problem.code.clone(),
                message: problem.message.clone(),
                hint: problem.hint.clone(),
            }),
        };
        let progress = view.progress.clone().map(|progress| {
            let ProgressView { what, done, of, unit } = progress;
            ProgressLine::Progress { what, done, of, unit }
        });
        let mut lines = Vec::new();
        for (last, now) in [(&mut self.phase, Some(phase)), (&mut self.progress, progress)] {
            if now.is_some() && *last != now {
                lines.extend(now.clone());
                *last = now;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the keys of the nth table in the section about progress.
    fn documented(table: usize) -> Vec<&'static str> {
        let page = include_str!("../migrate/contract.md");
        let section = page.split_once("# Progress\n").expect("the section").1;
        let tables = section.split("| key | value |").nth(table + 1).expect("the table");
        let lines = tables.trim_start().lines().skip(1).take_while(|line| line.starts_with("| `"));
        let mut keys: Vec<&str> =
            lines.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        keys.sort_unstable();
        keys
    }

    fn keys(line: &ProgressLine) -> Vec<String> {
        let value: serde_json::Value = serde_json::from_str(&line.to_json()).expect("JSON");
        value.as_object().expect("an object").keys().cloned().collect()
    }

    #[test]
    fn lines_have_the_documented_keys() {
        let text = |text: &str| text.to_owned();
        let error = Some(LineError { code: text("c"), message: text("m"), hint: text("h") });
        let (migration, phase) = (text("m"), text("p"));
        let line = ProgressLine::Phase { migration, phase, attempts: None, error };
        assert_eq!(keys(&line), documented(0));
        let error = r#""error":{"code":"c","hint":"h","message":"m"}"#;
        assert!(line.to_json().contains(error), "{}", line.to_json());
        let (what, unit) = (text("w"), text("rows"));
        assert_eq!(keys(&ProgressLine::Progress { what, done: 1, of: 2, unit }), documented(1));
    }
}
