//! The count of survived faults: lines while it runs, a table at the end, the same as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::job::{Done, Job};
use crate::points::Coverage;

/// Most findings of one history that are printed; all are in the JSON.
const SHOWN_MAX: usize = 5;
/// Most points that the table names; more are counted.
const POINTS_NAMED_MAX: usize = 10;

#[derive(Debug, Default, Clone)]
struct Row {
    tried: u64,
    survived: u64,
    skipped: Option<&'static str>,
}

/// Everything so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: BTreeMap<Fault, Row>,
    pub(crate) histories: u64,
    kills: u64,
    operations: u64,
    records: u64,
    pieces: u64,
    answers: u64,
    /// How often each verb and each form of work was used, and how often granted.
    verbs: BTreeMap<String, (u64, u64)>,
    violations: Vec<Value>,
}

/// The words that run the same history again.
fn command(job: &Job, point: Option<&str>) -> String {
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    let (seed, kind) = (job.seed, job.fault.name());
    let point = point.map(|point| format!(" --point {point}")).unwrap_or_default();
    format!("cargo run {release}-p torture -- --seed {seed} --only {kind}{point} --histories 1")
}

impl Report {
    pub(crate) fn add(&mut self, job: &Job, done: &Done) {
        let row = self.rows.entry(job.fault).or_default();
        row.tried += done.tried;
        row.survived += done.survived;
        row.skipped = row.skipped.or(done.skipped);
        self.histories += 1;
        self.kills += done.kills;
        self.operations += done.operations;
        self.records += done.records;
        self.pieces += done.pieces;
        self.answers += done.answers;
        for (verb, (used, granted)) in &done.verbs {
            let all = self.verbs.entry(verb.clone()).or_default();
            all.0 += used;
            all.1 += granted;
        }
        if done.findings.is_empty() {
            return;
        }
        let command = command(job, done.point.as_deref());
        eprintln!("violation: {}, seed {}", job.fault.name(), job.seed);
        for finding in done.findings.iter().take(SHOWN_MAX) {
            eprintln!("  {}: {}", finding.check, finding.what);
        }
        if done.findings.len() > SHOWN_MAX {
            eprintln!("  and {} more", done.findings.len() - SHOWN_MAX);
        }
        eprintln!("  again: {command}");
        if let Some(place) = &done.place {
            eprintln!("  kept: {}", place.display());
        }
        let findings: Vec<Value> =
            done.findings.iter().map(|f| json!({ "check": f.check, "what": f.what })).collect();
        self.violations.push(json!({
            "fault": job.fault.name(), "seed": job.seed, "point": done.point, "command": command,
            "place": done.place, "findings": findings,
        }));
    }

    pub(crate) fn violations(&self) -> usize {
        self.violations.len()
    }

    pub(crate) fn line(&self, seed: u64, since: Duration) -> String {
        format!(
            "{:>4}s  seed {seed}  histories {}  kills {}  operations {}  violations {}",
            since.as_secs(),
            self.histories,
            self.kills,
            self.operations,
            self.violations.len()
        )
    }

    pub(crate) fn table(&self, coverage: &Coverage, seed: u64, since: Duration) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["fault", "what", "tried", "survived"]);
        for (fault, name, what) in Fault::ALL {
            let Some(row) = self.rows.get(&fault) else { continue };
            let survived = match row.skipped {
                Some(why) if row.tried == 0 => format!("skipped: {why}"),
                _ => row.survived.to_string(),
            };
            table.add_row([name.to_owned(), what.to_owned(), row.tried.to_string(), survived]);
        }
        for column in [2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let (unused, unreached) = coverage.holes();
        let all = Coverage::len();
        let mut text = format!("{table}\n\n");
        let named = |points: &[&str]| match points.len() {
            0 => String::new(),
            1..=POINTS_NAMED_MAX => format!(" (not {})", points.join(", ")),
            many => format!(" ({many} not; --json names them)"),
        };
        let (tried, survived) = self.sums();
        text += &format!(
            "{survived} of {tried} faults survived in {} histories, {}s, seed {seed}: {} kills, {} \
             operations, {} records, {} answers and {} pieces of work held\n",
            self.histories,
            since.as_secs(),
            self.kills,
            self.operations,
            self.records,
            self.answers,
            self.pieces
        );
        text += &format!(
            "points: killed at {} of {all}{}, reached {}{}\n",
            all - unused.len(),
            named(&unused),
            all - unreached.len(),
            named(&unreached)
        );
        text + &format!("violations: {}\n", self.violations.len())
    }

    fn sums(&self) -> (u64, u64) {
        self.rows.values().fold((0, 0), |(a, b), row| (a + row.tried, b + row.survived))
    }

    pub(crate) fn json(&self, coverage: &Coverage, seed: u64, since: Duration) -> Value {
        let rows: Vec<Value> = Fault::ALL
            .iter()
            .filter_map(|(fault, name, what)| {
                let row = self.rows.get(fault)?;
                Some(json!({
                    "fault": name, "what": what, "tried": row.tried, "survived": row.survived,
                    "skipped": row.skipped,
                }))
            })
            .collect();
        let (unused, unreached) = coverage.holes();
        let verbs = self.verbs.iter();
        let verbs: serde_json::Map<String, Value> = verbs
            .map(|(verb, (used, granted))| {
                (verb.clone(), json!({ "used": used, "granted": granted }))
            })
            .collect();
        json!({
            "seed": seed, "seconds": since.as_secs(), "histories": self.histories,
            "kills": self.kills, "operations": self.operations, "records": self.records,
            "answers": self.answers, "pieces": self.pieces, "verbs": verbs,
            "faults": rows,
            "points": { "all": Coverage::len(), "never_killed_at": unused, "never_reached": unreached },
            "violations": self.violations,
        })
    }
}
