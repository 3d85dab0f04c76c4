//! `explain`: the fate of one environment, as a chain of causes: who asked, what was decided, each
//! step with how long it took, why it ended, and where its work is now.

use groundskeeper_core::event::Record;
use groundskeeper_core::{EnvironmentId, Event, Fault, HostPath, Phase, Time};
use groundskeeper_journal::describe;
use groundskeeper_journal::format;
use groundskeeper_journal::format::{bytes, rfc3339};
use serde_json::{Value, json};

use crate::args::ExplainArgs;
use crate::history::{History, Life, collect, kept_until, lives};
use crate::out::{Out, Tone, note, safe, span};
use crate::problem::{DAMAGED, INTACT, Problem};
use crate::source::Source;

/// How much of a transcript is read, and how many of its last lines are shown.
const OUTPUT_BYTES: u64 = 16 << 10;
const OUTPUT_LINES: usize = 20;

/// Explains.
pub(crate) fn explain(args: &ExplainArgs, out: &mut Out) -> Result<u8, Problem> {
    let id = EnvironmentId::parse(&args.environment()).map_err(|e| {
        let what = format!("{:?} is not an environment id: {e}", args.environment());
        Problem::usage(what, "run `replay stats FILE` to list the environments of a log")
    })?;
    let source = Source::open(&args.file())?;
    let history = collect(&source, id)?;
    if history.state.environment(&history.id).is_none() && history.records.is_empty() {
        let what = format!("the log has no record about environment {}", history.id);
        return Err(Problem::missing(what, "run `replay stats FILE` to list its environments"));
    }
    let lives = lives(&history);
    let lives = lives.iter().filter(|life| args.life.is_none_or(|n| n == life.number));
    let lives: Vec<&Life<'_>> = lives.collect();
    if out.json {
        let lives: Vec<Value> = lives.iter().map(|life| life.json(&history)).collect();
        out.object(&json!({
            "environment": history.id, "answer": answer(&history), "incarnations": lives,
            "records": history.records.len() as u64 + history.left_out, "left_out": history.left_out,
            "damaged": history.damaged,
        }));
    } else {
        print(&history, &lives, args.output, out);
    }
    if history.damaged > 0 {
        note("warning: partial: some records cannot be read; `replay verify FILE` lists them");
        return Ok(DAMAGED);
    }
    Ok(INTACT)
}

impl Life<'_> {
    fn json(&self, history: &History) -> Value {
        let mut before = None;
        let steps = self.records.iter().chain(&self.later).map(|r| {
            let took = before.map(|t| r.at.since(t).as_millis() as u64);
            before = Some(r.at);
            let says = describe::event(&r.event);
            json!({
                "seq": r.seq, "at": rfc3339(r.at), "kind": r.event.kind(), "after_ms": took,
                "says": says, "record": format::json(r),
            })
        });
        let steps: Vec<Value> = steps.collect();
        let (asked, over) = self.end();
        let asked = asked.map(|(r, e)| {
            json!({
                "seq": r.seq, "at": rfc3339(r.at), "actor": e.actor, "reason": e.options.reason,
                "forced": e.force,
            })
        });
        let over =
            over.map(|r| json!({ "seq": r.seq, "at": rfc3339(r.at), "kind": r.event.kind() }));
        json!({
            "incarnation": self.number, "steps": steps, "removal_asked": asked, "ended": over,
            "work": self.work(history),
        })
    }

    /// Where its work is now.
    fn work(&self, history: &History) -> Value {
        let archive = history.state.archive_of(&history.id, self.number);
        let branch = self.records.iter().rev().find_map(|r| match &r.event {
            Event::BranchSettled(e) => Some(json!({ "deleted": e.deleted, "reason": e.reason })),
            _ => None,
        });
        let lost = self
            .later
            .iter()
            .filter(|r| matches!(r.event, Event::TrashPurged(_) | Event::RescueDropped(_)));
        let gone: Vec<Value> = lost
            .map(|r| json!({ "seq": r.seq, "at": rfc3339(r.at), "kind": r.event.kind() }))
            .collect();
        let until = archive.filter(|r| r.trash.is_some()).map(|r| rfc3339(kept_until(history, r)));
        json!({
            "branch": branch, "branch_name": self.branch(),
            "rescue": archive.and_then(|r| r.rescue.clone()),
            "trash": archive.and_then(|r| r.trash.clone()), "trash_until": until,
            "size": archive.and_then(|r| r.size), "gone": gone,
        })
    }
}

/// The short answer: where it stands, and why.
fn answer(history: &History) -> String {
    let Some(env) = history.state.environment(&history.id) else {
        return "the log names it but has no record that begins it".to_owned();
    };
    let since = rfc3339(env.changed_at);
    let standing = match env.phase {
        Phase::Tombstoned => format!("incarnation {} ended at {since}", env.incarnation),
        Phase::Failed => format!("incarnation {} failed at {since}", env.incarnation),
        phase => format!("incarnation {} is {} since {since}", env.incarnation, phase.as_str()),
    };
    let lives = lives(history);
    let asked = lives
        .last()
        .and_then(|life| life.end().0)
        .filter(|_| matches!(env.phase, Phase::Tombstoned | Phase::TearingDown | Phase::Retiring));
    let why = asked.map(|(record, e)| {
        let force = if e.force { ", forced" } else { "" };
        let reason = Some(e.options.reason.as_str()).filter(|reason| !reason.is_empty());
        let reason = reason.unwrap_or("request");
        format!(
            "; its removal was requested by {}{force}, reason {reason} (record {})",
            describe::actor(&e.actor),
            record.seq
        )
    });
    let fault = env.fault.as_ref().or(env.refusal.as_ref()).map(|f| format!("; {f}"));
    let owed = env.owed.as_ref().map(|o| format!("; it owes {}", o.step.as_str()));
    let parts = [why, fault, owed];
    format!("{standing}{}", parts.into_iter().flatten().collect::<String>())
}

fn print(history: &History, lives: &[&Life<'_>], output: bool, out: &mut Out) {
    let name = out.paint(Tone::Head, history.id.as_str());
    out.line(&format!("{name}: {}", safe(&answer(history))));
    if history.left_out > 0 {
        out.line(&format!("({} older records are omitted)", history.left_out));
    }
    for life in lives {
        let title = format!("\nincarnation {}", life.number);
        let title = out.paint(Tone::Head, &title);
        out.line(&title);
        let mut before = None;
        for record in &life.records {
            step(record, before, out);
            before = Some(record.at);
            if let Event::SetupFinished(e) = &record.event
                && output
            {
                transcript(&e.report.transcript, &e.tail, out);
            }
        }
        if !life.later.is_empty() {
            let text = out.paint(Tone::Faint, "  its archive:");
            out.line(&text);
        }
        for record in &life.later {
            step(record, before, out);
            before = Some(record.at);
        }
        work(history, life, out);
    }
}

fn step(record: &Record, before: Option<Time>, out: &mut Out) {
    let took = before.map(|t| u64::try_from(record.at.since(t).as_nanos()).unwrap_or(u64::MAX));
    let took = took.map_or_else(String::new, |nanos| format!("+{}", span(nanos)));
    let kind = format!("{:<22}", record.event.kind());
    let line = format!(
        "  {:>7}  {}  {took:>13}  {} {}",
        record.seq.0,
        out.paint(Tone::Faint, &rfc3339(record.at)),
        out.paint(crate::list::tone(record.event.kind()), &kind),
        safe(&describe::event(&record.event)),
    );
    out.line(&line);
    if let Some(fault) = fault(&record.event) {
        let causes = fault.causes.iter().map(|c| format!("caused by: {c}"));
        let evidence = fault.evidence.iter().map(|e| format!("| {e}"));
        let hint = Some(format!("hint: {}", fault.hint)).filter(|_| !fault.hint.is_empty());
        for text in causes.chain(evidence).chain(hint) {
            let text = out.paint(Tone::Faint, &safe(&text));
            out.line(&format!("{:>53}{text}", ""));
        }
    }
}

/// The last lines of a transcript. It is read because somebody asked for it: the path is what the
/// log says, and may be another machine's.
fn transcript(path: &HostPath, kept: &[String], out: &mut Out) {
    let file = groundskeeper_system::paths::borrowed(path);
    // The transcript goes by age; the log keeps its end.
    let text = tail(file).unwrap_or_else(|e| match kept {
        [] => format!("(its output cannot be read: {e})"),
        kept => kept.join("\n"),
    });
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(OUTPUT_LINES)..] {
        let line = out.paint(Tone::Faint, &safe(line));
        out.line(&format!("{:>53}| {line}", ""));
    }
}

fn tail(file: &std::path::Path) -> std::io::Result<String> {
    use groundskeeper_system::own_file::{self, Links};
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = own_file::open(file, std::fs::File::options().read(true), Links::Followed)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn fault(event: &Event) -> Option<&Fault> {
    match event {
        Event::ProvisionFailed(e) => Some(&e.fault),
        Event::AttemptFailed(e) => Some(&e.fault),
        Event::DestroyRefused(e) => Some(&e.fault),
        Event::TeardownGaveUp(e) => Some(&e.fault),
        Event::TeardownPostponed(e) => Some(&e.fault),
        Event::TeardownHookFinished(e) => e.fault.as_ref(),
        Event::RemainsAttemptFailed(e) => Some(&e.fault),
        Event::TrashLookFailed(e) => Some(&e.fault),
        Event::Cleaned(e) => e.fault.as_ref(),
        Event::CleanUndone(e) => e.fault.as_ref(),
        Event::CleanPurged(e) => e.fault.as_ref(),
        Event::CleanAttemptFailed(e) => Some(&e.fault),
        _ => None,
    }
}

fn work(history: &History, life: &Life<'_>, out: &mut Out) {
    let current = history.state.environment(&history.id);
    let is_current = current.is_some_and(|e| e.incarnation == life.number && e.is_live());
    let title = out.paint(Tone::Head, "  its work now");
    out.line(&title);
    let mut row = |label: &str, text: &str| out.line(&format!("    {label:<8} {}", safe(text)));
    if let Some(env) = current.filter(|_| is_current) {
        row("place", &env.plan.path.to_string());
        row("branch", &env.plan.branch);
        return;
    }
    let branch = life.branch().unwrap_or_default();
    let settled = life.records.iter().rev().find_map(|r| match &r.event {
        Event::BranchSettled(e) => Some(e),
        _ => None,
    });
    match settled {
        Some(e) if e.deleted => row("branch", &format!("{branch} was deleted: {}", e.reason)),
        Some(e) => row("branch", &format!("{branch} was kept: {}", e.reason)),
        None if branch.is_empty() => {}
        None => row("branch", &format!("{branch}: no record says whether it was deleted")),
    }
    let Some(archive) = history.state.archive_of(&history.id, life.number) else {
        row("archive", "none: it was never made, or was restored, purged or dropped since");
        return;
    };
    if let Some(rescue) = &archive.rescue {
        let holds = rescue.holds.join(", ");
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (reference, commit) = (text(&rescue.reference), text(&rescue.commit));
        row("rescue", &format!("{reference} at {commit}: {holds}"));
        for lack in &rescue.lacks {
            row("", &format!("not in it: {lack}"));
        }
    }
    if let Some(trash) = &archive.trash {
        let size = archive.size.map_or_else(|| "not measured".to_owned(), |s| bytes(s.allocated));
        row("trash", &format!("{trash} ({size}), until {}", rfc3339(kept_until(history, archive))));
    }
    let (id, n) = (&history.id, life.number);
    row("restore", &format!("groundskeeper restore {id} --incarnation {n}"));
}
