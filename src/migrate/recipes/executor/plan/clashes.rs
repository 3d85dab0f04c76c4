//! Clashes: rows of the old database that get the same unique key in the new one, mostly because
//! several scopes become one tenant. They are named, and settled by the policy of the request.

use std::collections::BTreeMap;

use crate::losses::{Cause, Losses};
use groundskeeper_migrate::recipe::OnConflict;
use groundskeeper_migrate::{Code, Fault};

/// Limit of lines of evidence in a refusal.
const SHOWN_MAX: usize = 60;
const HINT: &str = "migrate with `--on-conflict keep-first` (the other rows stay in the backup \
                    only) or `--on-conflict rename` (the other rows get new names); nothing was \
                    changed";

/// Result for a source that clashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClashOutcome {
    /// The source is left out, with everything that belongs to it.
    Left,
    /// The source has this slug instead.
    Renamed(String),
}

/// Results for the sources that clashed, by scope and id.
#[derive(Debug, Default)]
pub(crate) struct ClashOutcomes(pub(crate) BTreeMap<(String, String), ClashOutcome>);

impl ClashOutcomes {
    /// Returns the result for a source; none when it did not clash.
    pub(crate) fn of(&self, scope: &str, source: &str) -> Option<&ClashOutcome> {
        // The usual case; saves two allocations per row of a big table.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(scope.to_owned(), source.to_owned()))
    }

    /// Returns the slug that a source has in the new database.
    pub(crate) fn slug<'a>(&'a self, scope: &str, source: &'a str) -> &'a str {
        match self.of(scope, source) {
            Some(ClashOutcome::Renamed(slug)) => slug,
            _ => source,
        }
    }

    /// Returns whether a source was left out.
    pub(crate) fn left(&self, scope: &str, source: &str) -> bool {
        self.of(scope, source) == Some(&ClashOutcome::Left)
    }
}

/// The clashes of one migration, and the policy that settles them.
#[derive(Debug)]
pub(crate) struct Clashes<'a> {
    policy: OnConflict,
    losses: &'a Losses,
    /// Clashing rows by table and duplicate value; only for [`OnConflict::Refuse`].
    refused: BTreeMap<(&'static str, String), Vec<String>>,
}

/// Decision about a row that clashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The row is not written.
    Leave,
    /// The row gets another name.
    Rename,
}

impl<'a> Clashes<'a> {
    /// Returns an empty set of clashes.
    pub(crate) fn new(policy: OnConflict, losses: &'a Losses) -> Self {
        Self { policy, losses, refused: BTreeMap::new() }
    }

    /// Records that a row clashes with earlier rows over a value, and decides about it. `earlier`
    /// describes those rows.
    pub(crate) fn record_clash(
        &mut self,
        table: &'static str,
        value: &str,
        earlier: impl FnOnce() -> Vec<String>,
        row: &str,
    ) -> Verdict {
        match self.policy {
            // The planning goes on, so that the refusal names all clashes at once.
            OnConflict::Refuse => {
                let key = (table, value.to_owned());
                let rows = self.refused.entry(key).or_insert_with(earlier);
                if !rows.iter().any(|known| known == row) {
                    rows.push(row.to_owned());
                }
                Verdict::Leave
            }
            OnConflict::KeepFirst => {
                self.losses
                    .note_always(Cause::ConflictLeft, || format!("{table} {value:?}: {row}"));
                Verdict::Leave
            }
            OnConflict::Rename => Verdict::Rename,
        }
    }

    /// Records a clash that the writer has settled: the row was renamed to `to`, or left out.
    pub(crate) fn record_settled(
        &mut self,
        table: &'static str,
        value: &str,
        earlier: impl FnOnce() -> Vec<String>,
        row: &str,
        to: Option<&str>,
    ) {
        match to {
            Some(to) => self.renamed(table, value, to, row),
            None => drop(self.record_clash(table, value, earlier, row)),
        }
    }

    /// Returns whether clashing rows are renamed.
    pub(crate) fn renames(&self) -> bool {
        self.policy == OnConflict::Rename
    }

    /// Records that a row was renamed.
    pub(crate) fn renamed(&self, table: &str, value: &str, to: &str, row: &str) {
        let name = || format!("{table} {value:?} is now {to:?}: {row}");
        self.losses.note_always(Cause::ConflictRenamed, name);
    }

    /// Refuses the migration if there are clashes and the policy is to refuse.
    ///
    /// # Errors
    /// `migration_conflict`, with the clashing rows as evidence.
    pub(crate) fn settle(&self) -> Result<(), Fault> {
        let Some(((table, value), rows)) = self.refused.first_key_value() else { return Ok(()) };
        let shown = rows.join(" and ");
        let more = match self.refused.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more value(s) conflict"),
        };
        let message = format!(
            "table `{table}` cannot hold {value:?} twice, but these rows would all have it: \
             {shown}{more}"
        );
        let lines = self.refused.iter().flat_map(|((table, value), rows)| {
            rows.iter().map(move |row| format!("{table} {value:?}: {row}"))
        });
        let lines: Vec<String> = lines.collect();
        let hidden = lines.len().saturating_sub(SHOWN_MAX);
        let mut evidence: Vec<String> = lines.into_iter().take(SHOWN_MAX).collect();
        if hidden > 0 {
            evidence.push(format!("... and {hidden} more"));
        }
        Err(Fault::new(Code::MigrationConflict, message, HINT).with_evidence(evidence))
    }
}
