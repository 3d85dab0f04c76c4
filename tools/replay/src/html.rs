//! A timeline as one page that can be looked at and mailed: no script, nothing from elsewhere,
//! readable in light and dark, and harmless whatever names a log holds.

use std::fmt::Write as _;

use groundskeeper_journal::format::{hex, rfc3339};

use crate::out::{safe, span};
use crate::spans::{Bar, Spans};
use crate::timeline::{Row, share};

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1b1f24; --faint: #667080; --line: #d5dae1; --back: #fff;
  --lane: #f4f6f8; --provisioning: #3b82c4; --ready: #2f9e6e; --tearing_down: #d98a1f;
  --retiring: #b89b2c; --failed: #c8453b; --other: #8a63c9; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --faint: #97a1b0; --line: #353c46;
  --back: #14181d; --lane: #1d232a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--back); color: var(--text);
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; color: var(--faint); } .bad { color: var(--failed); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0; }
.legend i { display: inline-block; width: .9rem; height: .9rem; border-radius: 2px; vertical-align: -2px;
  margin-right: .35rem; }
.row, .axis { display: grid; grid-template-columns: 12rem 1fr; align-items: center; gap: .75rem; }
.row b { font-weight: 500; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lane { position: relative; height: 1.25rem; margin: 2px 0; background: var(--lane); border-radius: 3px;
  overflow: hidden; }
.lane span { position: absolute; top: 0; bottom: 0; min-width: 3px; border-radius: 2px; }
.lane u { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--faint); opacity: .6; }
.axis div { display: flex; justify-content: space-between; color: var(--faint); font-size: 12px; }
.provisioning { background: var(--provisioning); } .ready { background: var(--ready); }
.tearing_down { background: var(--tearing_down); } .retiring { background: var(--retiring); }
.failed { background: var(--failed); } .other { background: var(--other); }
details { border-top: 1px solid var(--line); padding: .35rem 0; }
summary { cursor: pointer; display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
summary i { width: .7rem; height: .7rem; border-radius: 2px; flex: none; }
summary small, td { color: var(--faint); } table { border-collapse: collapse; margin: .35rem 0 .35rem 1.4rem; }
td { padding: .1rem .9rem .1rem 0; vertical-align: top; font-size: 13px; overflow-wrap: anywhere; }
td:nth-child(3) { color: var(--text); white-space: nowrap; } td:nth-child(-n+2) { white-space: nowrap; }
";

/// The page.
pub(crate) fn page(spans: &Spans, rows: &[Row<'_>], log_id: &[u8; 16]) -> String {
    let mut page = String::new();
    let (from, to) = (rfc3339(spans.from), rfc3339(spans.to));
    let all = u64::try_from(spans.to.since(spans.from).as_nanos()).unwrap_or(u64::MAX);
    add(
        &mut page,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>groundskeeper, {from}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Lives of {} environments</h1>\n<p>{from} to {to} ({}), log {}</p>\n",
            rows.len(),
            span(all),
            hex(log_id)
        ),
    );
    if let Some(why) = &spans.partial {
        add(&mut page, format_args!("<p class=\"bad\">Partial: {}</p>\n", escape(why)));
    }
    if spans.dropped > 0 {
        add(&mut page, format_args!("<p>{} older phases are omitted.</p>\n", spans.dropped));
    }
    legend(&mut page);
    lanes(spans, rows, &mut page);
    page.push_str("<h2>What happened</h2>\n");
    let mut bars: Vec<&&Bar> = rows.iter().flat_map(|row| &row.bars).collect();
    bars.sort_by_key(|bar| bar.seq);
    for bar in bars {
        details(spans, bar, &mut page);
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _fits = page.write_fmt(text);
}

fn legend(page: &mut String) {
    page.push_str("<div class=\"legend\">");
    for phase in ["provisioning", "ready", "tearing_down", "retiring", "failed"] {
        let name = phase.replace('_', " ");
        add(page, format_args!("<span><i class=\"{phase}\"></i>{name}</span>"));
    }
    page.push_str("<span>thin line: start of a daemon</span></div>\n");
}

fn lanes(spans: &Spans, rows: &[Row<'_>], page: &mut String) {
    for row in rows {
        let name = escape(row.id);
        add(
            page,
            format_args!("<div class=\"row\"><b title=\"{name}\">{name}</b><div class=\"lane\">"),
        );
        for (at, orderly) in &spans.starts {
            let why = if *orderly { "a daemon started" } else { "a daemon started after a crash" };
            let left = percent(share(spans, *at));
            let at = rfc3339(*at);
            add(page, format_args!("<u style=\"left:{left}\" title=\"{why}, {at}\"></u>"));
        }
        for bar in &row.bars {
            let from = share(spans, bar.from);
            let to = share(spans, bar.to.unwrap_or(spans.to)).max(from);
            let title = format!(
                "{} (incarnation {}), {}, from {}",
                bar.phase.replace('_', " "),
                bar.life,
                span(bar.nanos(spans.to)),
                rfc3339(bar.from)
            );
            add(
                page,
                format_args!(
                    "<span class=\"{}\" style=\"left:{};width:{}\" title=\"{}\"></span>",
                    class(bar),
                    percent(from),
                    percent(to - from),
                    escape(&title)
                ),
            );
        }
        page.push_str("</div></div>\n");
    }
    let (from, to) = (rfc3339(spans.from), rfc3339(spans.to));
    add(
        page,
        format_args!(
            "<div class=\"axis\"><b></b><div><span>{from}</span><span>{to}</span></div></div>\n"
        ),
    );
}

fn class(bar: &Bar) -> &'static str {
    match bar.phase {
        known @ ("provisioning" | "ready" | "tearing_down" | "retiring" | "failed") => known,
        _ => "other",
    }
}

/// Hundredths of a percent, as CSS wants them.
fn percent(share: u64) -> String {
    format!("{}.{:02}%", share / 100, share % 100)
}

fn details(spans: &Spans, bar: &Bar, page: &mut String) {
    let took = span(bar.nanos(spans.to));
    let took = if bar.to.is_some() { took } else { format!("{took} so far") };
    let ended = bar.notes.last().filter(|_| bar.to.is_some());
    let ended = ended.map(|n| format!("{}: {}", n.kind, n.words)).unwrap_or_default();
    add(
        page,
        format_args!(
            "<details><summary><i class=\"{}\"></i><span>{} <small>incarnation {}</small></span>\
         <span>{}</span><small>{}</small><small>{took}</small><small>{}</small></summary>\n<table>\n",
            class(bar),
            escape(&bar.id),
            bar.life,
            bar.phase.replace('_', " "),
            rfc3339(bar.from),
            escape(&ended)
        ),
    );
    for note in &bar.notes {
        let (at, words) = (rfc3339(note.at), escape(&note.words));
        add(
            page,
            format_args!(
                "<tr><td>{}</td><td>{at}</td><td>{}</td><td>{words}</td></tr>\n",
                note.seq, note.kind
            ),
        );
    }
    page.push_str("</table>");
    if bar.more > 0 {
        add(page, format_args!("<p>and {} more</p>", bar.more));
    }
    page.push_str("</details>\n");
}

/// Text that is text and nothing else in a page, in an attribute as well.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_escaped() {
        let text = escape("<script>alert('x')</script>\" onload=\"\u{202e}&\u{1b}");
        assert!(!text.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']), "{text}");
    }
}
