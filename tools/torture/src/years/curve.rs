//! What a daemon costs from week to week: the curves, their table, and whether they grow.

use std::time::Instant;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::check::Finding;
use crate::daemon::Daemon;
use crate::ground::Ground;
use crate::life::Lived;
use crate::trouble::Trouble;

/// Weeks until everything that ages has begun to go, rescues last.
const SETTLED: u64 = 28;
/// How much more than in the first settled weeks a later one may cost, in percent: clients do by
/// chance what they do, so that the number of rescues and files varies.
const MORE_PERCENT: u64 = 30;
/// Weeks in a line of the table.
const LINE: u64 = 4;
const MB: u64 = 1 << 20;

/// What a daemon costs after a week.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Point {
    week: u64,
    kills: u64,
    /// Bytes of memory of a daemon that has just started.
    memory: u64,
    /// Files of the data directory without segments, and of git.
    files: u64,
    log: u64,
    segments: u64,
    refs: u64,
    rescues: u64,
    /// Milliseconds until it is ready.
    start: u64,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { week, memory, files, log, rescues, refs, start, .. } = self;
        let (memory, log) = (memory / MB, log / MB);
        write!(
            f,
            "week {week}: {memory} MB, {files} files, log {log} MB, {rescues} rescues in {refs} \
             refs, start {start} ms"
        )
    }
}

/// All weeks so far.
#[derive(Debug, Default)]
pub(crate) struct Curve(Vec<Point>);

impl Curve {
    /// Notes what a daemon costs after a week, and what was found in it.
    pub(crate) fn measure(
        &mut self,
        ground: &Ground,
        week: u64,
        lived: &mut Lived,
    ) -> Result<Point, Trouble> {
        let began = Instant::now();
        let daemon = Daemon::start(ground, &[])?;
        let start = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rescues = ground.gk(&["rescue", "ls"])?.json();
        ground.gk(&["ls"])?;
        let memory = daemon.memory();
        if let Err(what) = daemon.end() {
            lived.findings.push(Finding { check: "stop", what });
        }
        let (data, git) = (ground.data(), ground.repo().join(".git"));
        let segments = super::files(&data.join("log-archive"));
        let refs = ground.must_git(&ground.repo(), &["for-each-ref", "refs/groundskeeper"])?;
        let point = Point {
            week,
            kills: lived.kills,
            memory,
            files: super::files(&data).saturating_sub(segments) + super::files(&git),
            log: std::fs::metadata(ground.log()).map_or(0, |found| found.len()),
            segments,
            refs: refs.lines().count() as u64,
            rescues: rescues.as_array().map_or(0, Vec::len) as u64,
            start,
        };
        self.0.push(point);
        Ok(point)
    }

    /// Finds what costs more in the last weeks than in the first ones after which all ages.
    pub(crate) fn growth(&self) -> Vec<Finding> {
        let settled: Vec<&Point> = self.0.iter().filter(|point| point.week > SETTLED).collect();
        let (early, late) = settled.split_at(settled.len() / 2);
        if early.is_empty() {
            return Vec::new();
        }
        let costs: [(&str, fn(&Point) -> u64); 4] = [
            ("memory", |point| point.memory),
            ("files", |point| point.files),
            ("the log", |point| point.log),
            ("refs", |point| point.refs),
        ];
        let mut found = Vec::new();
        for (name, of) in costs {
            let (before, after) = (median(early, of), median(late, of));
            if after > before.saturating_mul(100 + MORE_PERCENT) / 100 {
                let what = format!("{name}: {before} in the first weeks, {after} in the last");
                found.push(Finding { check: "growth", what });
            }
        }
        found
    }

    /// Returns the curves as a table, a line for every fourth week.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Disabled);
        let head =
            ["week", "kills", "memory", "files", "log", "segments", "rescues", "refs", "start"];
        table.set_header(head);
        let mut kills = 0;
        for point in &self.0 {
            kills += point.kills;
            let is_last = self.0.last().is_some_and(|last| last.week == point.week);
            if point.week != 1 && point.week % LINE != 0 && !is_last {
                continue;
            }
            table.add_row([
                point.week.to_string(),
                kills.to_string(),
                format!("{} MB", point.memory / MB),
                point.files.to_string(),
                format!("{} MB", point.log / MB),
                point.segments.to_string(),
                point.rescues.to_string(),
                point.refs.to_string(),
                format!("{} ms", point.start),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n")
    }

    /// Returns the curves and what was found.
    pub(crate) fn json(&self, seed: u64, findings: &[Finding]) -> Value {
        let points = self.0.iter().map(|point| {
            json!({
                "week": point.week, "kills": point.kills, "memory": point.memory,
                "files": point.files, "log": point.log, "segments": point.segments,
                "rescues": point.rescues, "refs": point.refs, "start_ms": point.start,
            })
        });
        let found = findings.iter().map(|found| json!({"check": found.check, "what": found.what}));
        json!({
            "seed": seed, "weeks": points.collect::<Vec<_>>(),
            "violations": found.collect::<Vec<_>>(),
        })
    }
}

fn median(points: &[&Point], of: fn(&Point) -> u64) -> u64 {
    let mut all: Vec<u64> = points.iter().map(|point| of(point)).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What grows without end is found, what varies is not, and the first weeks count for nothing.
    #[test]
    fn growth_is_found() {
        let curve = |memory: fn(u64) -> u64| {
            let point = |week| Point { week, memory: memory(week), ..Point::default() };
            Curve((1..=52).map(point).collect())
        };
        for (memory, grows) in [
            ((|week| week * MB) as fn(u64) -> u64, true),
            (|week| week.min(SETTLED) * MB, false),
            (|week| (10 + week % 5) * MB, false),
        ] {
            let found = curve(memory).growth();
            assert_eq!(!found.is_empty(), grows, "{found:?}");
        }
        assert!(Curve::default().growth().is_empty(), "nothing was lived");
    }
}
