//! The named points at which a daemon can be killed, as the program lists them, and which of them
//! were reached and used. A point that nothing ever gets to is a hole in the torture and is named.

use std::collections::BTreeMap;

use groundskeeper::failpoint::kill::POINTS;

use crate::fault::Fault;
use crate::ground::Ground;

/// Times each point was reached, and times a daemon was killed there.
#[derive(Debug, Default, Clone)]
pub(crate) struct Coverage {
    all: BTreeMap<String, (u64, u64)>,
    /// Histories that are about a point, so that two at a time take different ones.
    taken: BTreeMap<String, u64>,
}

fn is_of_migrations(point: &str) -> bool {
    ["migrate.", "flip.", "takeover.", "undo."].iter().any(|family| point.starts_with(family))
}

fn is_of_trims(point: &str) -> bool {
    point.starts_with("trim.")
}

/// The points that a kind of trouble is about.
pub(crate) fn of(fault: Fault) -> Vec<&'static str> {
    let trims = fault == Fault::TrimPoint;
    let is_of =
        |point: &&str| is_of_migrations(point) == fault.migrates() && is_of_trims(point) == trims;
    POINTS.iter().copied().filter(is_of).collect()
}

impl Coverage {
    /// Adds what a history reached.
    pub(crate) fn reached(&mut self, ground: &Ground) {
        let text = std::fs::read_to_string(ground.path("points")).unwrap_or_default();
        for point in text.lines() {
            self.all.entry(point.to_owned()).or_default().0 += 1;
        }
        drop(std::fs::remove_file(ground.path("points")));
    }

    pub(crate) fn killed(&mut self, point: &str) {
        self.all.entry(point.to_owned()).or_default().1 += 1;
    }

    pub(crate) fn take(&mut self, point: &str) {
        *self.taken.entry(point.to_owned()).or_default() += 1;
    }

    pub(crate) fn taken(&self, point: &str) -> u64 {
        self.taken.get(point).copied().unwrap_or_default()
    }

    pub(crate) fn of(&self, point: &str) -> (u64, u64) {
        self.all.get(point).copied().unwrap_or_default()
    }

    /// Points that no daemon has been killed at, and points that none has reached.
    pub(crate) fn holes(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let without = |which: fn((u64, u64)) -> u64| {
            POINTS.iter().copied().filter(|p| which(self.of(p)) == 0).collect()
        };
        (without(|(_, killed)| killed), without(|(reached, _)| reached))
    }

    pub(crate) fn len() -> usize {
        POINTS.len()
    }
}
