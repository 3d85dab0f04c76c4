//! The log only grows: what was published, answered or read once is there for ever, unchanged, with
//! no gap; and what is over is begun again only because somebody asked.

use std::collections::BTreeMap;

use groundskeeper::format;
use groundskeeper::journal::inspect;
use groundskeeper::journal::inspect::Depth;
use serde_json::Value;

use super::Findings;
use crate::ground::Ground;
use crate::model::{Answer, Model};
use crate::trouble::Trouble;

/// Records as the API told them, one a line.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The record before the first one that is looked at.
    since: u64,
    lines: Vec<String>,
}

/// Facts that only a life can have.
const OF_THE_LIVING: [&str; 9] = [
    "BaseResolved",
    "WorktreeAdded",
    "FilesIncluded",
    "SetupStarted",
    "EnvironmentReady",
    "Restored",
    "LeaseGranted",
    "ProcessStarted",
    "DirectoryTrashed",
];
const BEGINNINGS: [&str; 3] = ["ProvisionRequested", "RestoreRequested", "EnvironmentAdopted"];

impl History {
    /// One that looks at what comes after a record.
    pub(crate) fn since(since: u64) -> Self {
        Self { since, lines: Vec::new() }
    }

    /// The last record that was seen.
    pub(crate) fn last(&self) -> u64 {
        self.since + self.lines.len() as u64
    }

    fn told(&self, seq: u64) -> Option<&String> {
        at(&self.lines, self.since, seq)
    }

    /// Reads the log through the API and holds it against all that was seen before.
    pub(crate) fn read(
        &mut self,
        ground: &Ground,
        published: &[String],
        findings: &mut Findings<'_>,
    ) -> Result<(), Trouble> {
        let told = ground.gk(&["events", "--since", &self.since.to_string()])?;
        if !told.ok() {
            return Err(Trouble::new(format!("events: {}", told.err.trim())));
        }
        let mut lines: Vec<String> = told.out.lines().map(str::to_owned).collect();
        if let Some(first) = lines.first().and_then(|line| value(line)["first"].as_u64()) {
            lines = whole(ground, lines.split_off(1), (self.since, first), findings)?;
        }
        for (n, line) in lines.iter().enumerate() {
            let seq = value(line)["seq"].as_u64();
            let expected = self.since + n as u64 + 1;
            findings.unless(seq == Some(expected), || format!("record {expected} is {seq:?}"));
        }
        findings.unless(lines.len() >= self.lines.len(), || {
            format!("{} records are left of {}", lines.len(), self.lines.len())
        });
        if let Some(n) = self.lines.iter().zip(&lines).position(|(was, is)| was != is) {
            let seq = self.since + n as u64 + 1;
            findings.add(format!("record {seq} was {} and is {}", self.lines[n], lines[n]));
        }
        for line in published {
            // What is no record says how the stream ended.
            let Some(seq) = value(line)["seq"].as_u64() else { continue };
            findings.unless(at(&lines, self.since, seq) == Some(line), || {
                format!("it was published and is not in the log: {line}")
            });
        }
        resurrections(&lines, findings);
        self.lines = lines;
        Ok(())
    }

    /// Holds the file of a daemon that has ended against what the API told, and against answers.
    pub(crate) fn check_file(&self, ground: &Ground, model: &Model, findings: &mut Findings<'_>) {
        let mut answers: BTreeMap<u64, Vec<Answer>> = BTreeMap::new();
        for answer in model.answers() {
            answers.entry(answer.seq).or_default().push(answer);
        }
        let (mut wrong, mut head) = (Vec::new(), 0);
        let read = inspect(&ground.log(), Depth::Everything, &mut |found, state| {
            head = found.seq.0;
            if let Some(told) = self.told(head) {
                let line = format::json(found);
                if value(told) != line {
                    wrong.push(format!("record {head} is {line} and was told otherwise"));
                }
            }
            for answer in answers.get(&head).into_iter().flatten() {
                let env = state.environments().find(|e| e.id.as_str() == answer.id);
                let is = env.map(|e| (u64::from(e.incarnation), e.phase.as_str()));
                // Somebody else may have begun another life by then.
                let holds = is.is_some_and(|(incarnation, phase)| {
                    incarnation > answer.incarnation
                        || incarnation == answer.incarnation && phase == answer.phase
                });
                if !holds {
                    wrong.push(format!("{answer} was acknowledged, and the log says {is:?}"));
                }
            }
        });
        if let Err(e) = read {
            findings.add(format!("the log cannot be read: {e}"));
            return;
        }
        for what in wrong {
            findings.add(what);
        }
        findings.unless(head >= self.last(), || {
            format!("the file ends at {head}, and was told up to {}", self.last())
        });
        for answer in answers.range(head + 1..).flat_map(|(_, all)| all) {
            findings.add(format!("{answer} was acknowledged, and the log ends at {head}"));
        }
    }
}

/// Returns the line of a record among those after another one.
fn at(lines: &[String], since: u64, seq: u64) -> Option<&String> {
    lines.get(usize::try_from(seq.checked_sub(since + 1)?).ok()?)
}

/// Completes the records that a trimmed log has left by those of its segments, which go on with the
/// same ones.
fn whole(
    ground: &Ground,
    told: Vec<String>,
    (since, first): (u64, u64),
    findings: &mut Findings<'_>,
) -> Result<Vec<String>, Trouble> {
    let mut all = ground.records()?;
    all.drain(..all.len().min(usize::try_from(since).unwrap_or(usize::MAX)));
    let begin = usize::try_from(first - since - 1).unwrap_or(usize::MAX);
    let end = (begin + told.len()).min(all.len());
    findings.unless(all.get(begin..end) == Some(&told[..]), || {
        format!("the records from {first} on are others in the file")
    });
    all.truncate(begin);
    all.extend(told);
    Ok(all)
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or(Value::Null)
}

/// After a tombstone only a request by somebody begins another life.
pub(crate) fn resurrections(lines: &[String], findings: &mut Findings<'_>) {
    let mut over: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let record = value(line);
        let (Some(id), Some(kind)) = (record["environment"].as_str(), record["kind"].as_str())
        else {
            continue;
        };
        if kind == "Tombstoned" {
            over.insert(id.to_owned(), record["seq"].as_u64().unwrap_or_default());
        } else if BEGINNINGS.contains(&kind) {
            let door = record["actor"]["door"].as_str().unwrap_or_default();
            findings.unless(matches!(door, "api" | "session"), || {
                format!("nobody asked for another life of {id}: {line}")
            });
            over.remove(id);
        } else if OF_THE_LIVING.contains(&kind)
            && let Some(seq) = over.get(id)
        {
            findings.add(format!("{id} ended with record {seq}, and then: {line}"));
        }
    }
}
