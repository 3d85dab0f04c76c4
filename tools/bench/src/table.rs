//! The table of results, and the statistics behind it.

use std::time::Duration;

/// Rows of results, printed as they come.
pub(crate) struct Table {
    missed: Vec<String>,
}

impl Table {
    pub(crate) fn new() -> Self {
        println!(
            "{:<46} {:>14} {:>14} {:>9} {:>10}",
            "what", "ours", "against", "figure", "promised"
        );
        Self { missed: Vec::new() }
    }

    /// A row whose figure must not be above (or, with `least`, not below) what is promised.
    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: &str,
        against: &str,
        figure: f64,
        promised: f64,
        least: bool,
    ) {
        let kept = if least { figure >= promised } else { figure <= promised };
        let sign = if least { ">=" } else { "<=" };
        let mark = if kept { "" } else { "  MISSED" };
        println!("{what:<46} {ours:>14} {against:>14} {figure:>9.2} {sign:>4} {promised:<6}{mark}");
        if !kept {
            self.missed.push(what.to_owned());
        }
    }

    /// A figure without a promise.
    #[expect(clippy::unused_self, reason = "a line of the same table")]
    pub(crate) fn note(&self, what: &str, text: &str) {
        println!("{what:<46} {text:>14}");
    }

    /// Says whether every promise was kept.
    pub(crate) fn finish(self) -> bool {
        if !self.missed.is_empty() {
            println!("\nmissed: {}", self.missed.join(", "));
        }
        self.missed.is_empty()
    }
}

/// The value below which a share of the samples lies.
pub(crate) fn quantile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

pub(crate) fn median(samples: &mut [Duration]) -> Duration {
    quantile(samples, 0.5)
}

/// How many times as long `a` is as `b`.
pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}

pub(crate) fn show(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.001 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}
