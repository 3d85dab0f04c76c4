//! `timeline`: lives beside each other on one line of time, as text, JSON or a page.

use std::fmt::Write as _;
use std::io::Write as _;

use groundskeeper_core::Time;
use groundskeeper_journal::format::rfc3339;
use serde_json::{Value, json};

use crate::args::TimelineArgs;
use crate::export::{fresh, keep};
use crate::out::{Out, Tone, note, safe, span};
use crate::problem::{Problem, write};
use crate::source::Source;
use crate::spans::{Bar, Spans, collect};

/// Columns of the line of time.
const WIDTH: usize = 60;

/// Draws.
pub(crate) fn timeline(args: &TimelineArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let spans = collect(args, &source)?;
    let rows = rows(&spans, args.limit);
    if let Some(path) = &args.html {
        let page = crate::html::page(&spans, &rows, &source.log.log_id());
        if path.as_os_str() == "-" {
            out.text(&page);
        } else {
            let mut file = fresh(path)?;
            file.write_all(page.as_bytes()).map_err(write("write the page", path))?;
            keep(file, path)?;
        }
    } else if out.json {
        for bar in rows.iter().flat_map(|row| &row.bars) {
            out.object(&as_json(bar));
        }
    } else {
        print(&spans, &rows, out);
    }
    Ok(spans.verdict)
}

/// The bars of one environment.
pub(crate) struct Row<'a> {
    /// Whose.
    pub(crate) id: &'a str,
    /// In order.
    pub(crate) bars: Vec<&'a Bar>,
}

/// The environments that something happened to last, at most `limit`, in the order of their birth.
pub(crate) fn rows(spans: &Spans, limit: usize) -> Vec<Row<'_>> {
    let mut by_id: std::collections::BTreeMap<&str, Vec<&Bar>> = std::collections::BTreeMap::new();
    for bar in &spans.bars {
        by_id.entry(&bar.id).or_default().push(bar);
    }
    let mut rows: Vec<Row<'_>> = by_id.into_iter().map(|(id, bars)| Row { id, bars }).collect();
    let last = |row: &Row<'_>| row.bars.last().map_or(0, |b| b.seq);
    rows.sort_by_key(|row| std::cmp::Reverse(last(row)));
    rows.truncate(limit);
    rows.sort_by_key(|row| row.bars.first().map_or(0, |b| b.seq));
    rows
}

fn as_json(bar: &Bar) -> Value {
    let notes = bar
        .notes
        .iter()
        .map(|n| json!({ "seq": n.seq, "at": rfc3339(n.at), "kind": n.kind, "says": n.words }));
    json!({
        "environment": bar.id, "incarnation": bar.life, "phase": bar.phase, "seq": bar.seq,
        "from": rfc3339(bar.from), "to": bar.to.map(rfc3339), "notes": notes.collect::<Vec<_>>(),
        "left_out": bar.more,
    })
}

fn print(spans: &Spans, rows: &[Row<'_>], out: &mut Out) {
    let (from, to) = (rfc3339(spans.from), rfc3339(spans.to));
    let all = u64::try_from(spans.to.since(spans.from).as_nanos()).unwrap_or(u64::MAX);
    out.line(&format!("{from} to {to} ({})", span(all)));
    out.line(
        "+ provisioning   = ready   - tearing down   ~ retiring   x failed   | daemon start\n",
    );
    let widest = rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0).min(32);
    for row in rows {
        let name = out.paint(Tone::Name, &format!("{:<widest$}", safe(row.id)));
        out.line(&format!("{name} {}", lane(spans, row)));
    }
    let hidden = rows.len();
    let shown: Vec<&&Bar> = rows.iter().flat_map(|row| &row.bars).collect();
    let mut ordered: Vec<&&Bar> = shown;
    ordered.sort_by_key(|bar| bar.seq);
    let lines = ordered.iter().map(|bar| {
        let ended = bar.notes.last().filter(|_| bar.to.is_some());
        let took = span(bar.nanos(spans.to));
        let took = if bar.to.is_some() { took } else { format!("{took} so far") };
        vec![
            bar.seq.to_string(),
            rfc3339(bar.from),
            format!("{}.{}", safe(&bar.id), bar.life),
            bar.phase.to_owned(),
            took,
            ended.map_or_else(String::new, |n| cut(&format!("{}: {}", n.kind, n.words))),
        ]
    });
    let lines: Vec<Vec<String>> = lines.collect();
    out.table("phases", &["SEQ", "SINCE", "ENVIRONMENT", "PHASE", "TOOK", "ENDED BY"], lines);
    if spans.dropped > 0 {
        let text = format!("{} older phases of {hidden} rows are omitted", spans.dropped);
        note(&text);
    }
}

/// Words for the end of a line.
fn cut(text: &str) -> String {
    const LONGEST: usize = 90;
    let text = safe(text);
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// One environment's line of time.
fn lane(spans: &Spans, row: &Row<'_>) -> String {
    let mut cells = vec![' '; WIDTH];
    for (at, _) in &spans.starts {
        cells[column(spans, *at)] = '|';
    }
    for bar in &row.bars {
        let sign = match bar.phase {
            "provisioning" => '+',
            "ready" => '=',
            "tearing_down" => '-',
            "retiring" => '~',
            "failed" => 'x',
            _ => '#',
        };
        let (from, to) = (column(spans, bar.from), column(spans, bar.to.unwrap_or(spans.to)));
        for cell in &mut cells[from..=to.max(from)] {
            *cell = sign;
        }
    }
    let mut text = String::with_capacity(WIDTH);
    let _fits = write!(text, "{}", cells.iter().collect::<String>());
    text
}

fn column(spans: &Spans, at: Time) -> usize {
    let share = share(spans, at);
    ((share as usize) * (WIDTH - 1) / 10_000).min(WIDTH - 1)
}

/// How far along the line a time is, in hundredths of a percent.
pub(crate) fn share(spans: &Spans, at: Time) -> u64 {
    let all = spans.to.since(spans.from).as_nanos().max(1);
    let part = at.max(spans.from).min(spans.to).since(spans.from).as_nanos();
    u64::try_from(part * 10_000 / all).unwrap_or(10_000)
}
