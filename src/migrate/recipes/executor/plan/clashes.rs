//! Rows that cannot both be kept as they are: named, and settled as was asked for.

use std::collections::BTreeMap;

use crate::core::{Code, Fault};
use crate::migrate::recipe::OnConflict;
use crate::migrate::recipes::executor::losses::{Cause, Losses};

/// Clashes that a refusal shows.
const SHOWN_MAX: usize = 60;
const HINT: &str = "nothing was changed; migrate with `--on-conflict keep-first` (the others stay \
                    in the backup) or `--on-conflict rename` (the others get a name of their own)";

/// What became of a source that clashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not carried, and neither is what belongs to it.
    Left,
    /// It has another slug now.
    Renamed(String),
}

/// The sources that clashed, by scope and id.
#[derive(Debug, Default)]
pub(crate) struct Fates(pub(crate) BTreeMap<(String, String), Fate>);

impl Fates {
    /// What became of a source; none when it is as it was.
    pub(crate) fn of(&self, scope: &str, source: &str) -> Option<&Fate> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(scope.to_owned(), source.to_owned()))
    }

    /// The slug that a source has now.
    pub(crate) fn slug<'a>(&'a self, scope: &str, source: &'a str) -> &'a str {
        match self.of(scope, source) {
            Some(Fate::Renamed(slug)) => slug,
            _ => source,
        }
    }

    /// Whether a source was left out.
    pub(crate) fn left(&self, scope: &str, source: &str) -> bool {
        self.of(scope, source) == Some(&Fate::Left)
    }
}

/// The clashes of one migration, and what to do about them.
#[derive(Debug)]
pub(crate) struct Clashes<'a> {
    policy: OnConflict,
    losses: &'a Losses,
    /// By table and value that cannot be there twice: the rows.
    refused: BTreeMap<(&'static str, String), Vec<String>>,
}

/// What to do with a row that clashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not written.
    Leave,
    /// It gets another name.
    Rename,
}

impl<'a> Clashes<'a> {
    /// None yet.
    pub(crate) fn new(policy: OnConflict, losses: &'a Losses) -> Self {
        Self { policy, losses, refused: BTreeMap::new() }
    }

    /// A row clashes with earlier ones over a value.
    pub(crate) fn meet(
        &mut self,
        table: &'static str,
        value: &str,
        earlier: impl FnOnce() -> Vec<String>,
        row: &str,
    ) -> Verdict {
        match self.policy {
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
                    .note_once_more(Cause::ConflictLeft, || format!("{table} {value:?}: {row}"));
                Verdict::Leave
            }
            OnConflict::Rename => Verdict::Rename,
        }
    }

    /// A row has clashed with earlier ones over a value, and has got another name or was left out.
    pub(crate) fn met(
        &mut self,
        table: &'static str,
        value: &str,
        earlier: impl FnOnce() -> Vec<String>,
        row: &str,
        to: Option<&str>,
    ) {
        match to {
            Some(to) => self.renamed(table, value, to, row),
            None => drop(self.meet(table, value, earlier, row)),
        }
    }

    /// Whether a row that clashes gets another name.
    pub(crate) fn renames(&self) -> bool {
        self.policy == OnConflict::Rename
    }

    /// A row got another name.
    pub(crate) fn renamed(&self, table: &str, value: &str, to: &str, row: &str) {
        let name = || format!("{table} {value:?} is now {to:?}: {row}");
        self.losses.note_once_more(Cause::ConflictRenamed, name);
    }

    /// The refusal, when there was something to refuse.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn settle(&self) -> Result<(), Fault> {
        let Some(((table, value), rows)) = self.refused.first_key_value() else { return Ok(()) };
        let shown = rows.join(" and ");
        let more = match self.refused.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more of the kind"),
        };
        let message = format!(
            "table `{table}` cannot hold {value:?} twice, and these rows would all be it: \
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
