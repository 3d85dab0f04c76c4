//! `at`, `diff` and `owed`: the state at a point, between two points, and what it asks for.

use groundskeeper_core::{
    ArchivedIncarnation, Environment, MigrationPhase, Owed, Phase, State, Time,
};
use groundskeeper_journal::codec::state_digest;
use groundskeeper_journal::format::{bytes, hex, rfc3339};
use serde_json::{Map, Value, json};

use crate::args::{AtArgs, DiffArgs, OwedArgs};
use crate::fold::{Folded, fold, headline, position};
use crate::out::{Out, Tone, count, safe, span};
use crate::problem::Problem;
use crate::source::Source;

/// Shows the state after a record.
pub(crate) fn at(args: &AtArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let seq = position(&source.log, args.seq.as_deref().unwrap_or("last"))?;
    let folded = fold(&source.log, seq)?;
    folded.must_reach(seq)?;
    let state = &folded.state;
    if let Some(id) = &args.environment {
        let found = state.environments().find(|e| e.id.as_str() == id);
        let archive: Vec<&ArchivedIncarnation> =
            state.archives().filter(|r| r.id.as_str() == id).collect();
        if found.is_none() && archive.is_empty() {
            let what = format!("there is no environment {id} after record {}", state.seq());
            return Err(Problem::missing(what, "omit --env to list the environments"));
        }
        let cleans: Vec<_> = state.outputs().filter(|o| o.id.as_str() == id).collect();
        let mut value = json!({ "environment": found, "remains": archive, "cleans": cleans });
        readable(&mut value);
        out.line(&if out.json { value.to_string() } else { pretty(&value) });
        return Ok(folded.verdict());
    }
    if out.json {
        let mut value = serde_json::to_value(state).unwrap_or_default();
        readable(&mut value);
        let object = json!({
            "seq": state.seq(), "at": rfc3339(state.at()), "boot": state.boot(),
            "sha256": hex(&state_digest(state)?), "partial": folded.partial(), "state": value,
        });
        out.object(&object);
    } else {
        tables(out, state, args.all)?;
    }
    Ok(folded.verdict())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}").lines().map(safe).collect::<Vec<_>>().join("\n")
}

fn tables(out: &mut Out, state: &State, all: bool) -> Result<(), Problem> {
    headline(out, state);
    let digest = hex(&state_digest(state)?);
    out.line(&format!("sha256 of the state {digest}"));
    let shown = state.environments().filter(|e| all || e.phase != Phase::Tombstoned);
    let rows: Vec<Vec<String>> = shown.map(environment).collect();
    let over = state.environments().filter(|e| e.phase == Phase::Tombstoned).count();
    out.table(
        "environments",
        &["ID", "INCARNATION", "PHASE", "OWES", "SEQ", "BRANCH", "PATH"],
        rows,
    );
    if over > 0 && !all {
        let over = count(over as u64, "tombstone", "tombstones");
        out.line(&format!("and {over} (--all shows them)"));
    }
    let rows = state.archives().map(|r| {
        let rescue = r.rescue.as_ref().map_or("-", |r| r.reference.as_deref().unwrap_or_default());
        let size = r.size.map_or_else(|| "-".to_owned(), |s| bytes(s.allocated));
        let trash = r.trash.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        vec![r.id.to_string(), r.incarnation.to_string(), size, safe(&trash), safe(rescue)]
    });
    out.table("archives", &["ID", "INCARNATION", "SIZE", "TRASH", "RESCUE"], rows.collect());
    let rows = state.outputs().map(|o| {
        let size = o.size.map_or_else(|| "-".to_owned(), |s| bytes(s.allocated));
        let trash = o.trash.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        vec![o.id.to_string(), o.clean.to_string(), size, safe(&trash)]
    });
    out.table("cleaned output", &["ID", "CLEAN", "SIZE", "TRASH"], rows.collect());
    let rows = state.leases().map(|(id, l)| {
        vec![id.to_string(), l.environment.to_string(), rfc3339(l.until), safe(&l.purpose)]
    });
    out.table("leases", &["LEASE", "ENVIRONMENT", "UNTIL", "PURPOSE"], rows.collect());
    let open = |p: MigrationPhase| p.as_str().to_owned();
    let rows = state
        .migrations()
        .map(|m| vec![m.id.to_string(), open(m.phase), safe(&m.plan.database.to_string())]);
    out.table("migrations", &["ID", "PHASE", "DATABASE"], rows.collect());
    Ok(())
}

fn environment(e: &Environment) -> Vec<String> {
    let owes = e.owed.as_ref().map_or("-", |o| o.step.as_str()).to_owned();
    let adopted = if e.adopted { " (adopted)" } else { "" };
    vec![
        e.id.to_string(),
        e.incarnation.to_string(),
        format!("{}{adopted}", e.phase.as_str()),
        owes,
        e.seq.to_string(),
        safe(&e.plan.branch),
        safe(&e.plan.path.to_string()),
    ]
}

/// Shows what changed between two records.
pub(crate) fn diff(args: &DiffArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let (a, b) = (position(&source.log, &args.a)?, position(&source.log, &args.b)?);
    let (first, second) = (fold(&source.log, a)?, fold(&source.log, b)?);
    first.must_reach(a)?;
    second.must_reach(b)?;
    let mut changes = Vec::new();
    let (mut old, mut new) = (value(&first)?, value(&second)?);
    if let Some(id) = &args.environment {
        (old, new) = (only(&old, id), only(&new, id));
    }
    compare("", &old, &new, &mut changes);
    if out.json {
        let list: Vec<Value> =
            changes.iter().map(|c| json!({ "path": c.path, "from": c.from, "to": c.to })).collect();
        let partial = [first.partial(), second.partial()];
        out.object(&json!({
            "from": first.state.seq(), "to": second.state.seq(), "partial": partial,
            "changes": list,
        }));
    } else {
        headline(out, &first.state);
        headline(out, &second.state);
        for change in &changes {
            let line = change.line(out);
            out.line(&line);
        }
        if changes.is_empty() {
            out.line("nothing changed except the position");
        }
    }
    Ok(first.verdict().max(second.verdict()))
}

fn value(folded: &Folded) -> Result<Value, Problem> {
    let mut value = serde_json::to_value(&folded.state).map_err(|e| {
        let path = std::path::Path::new("the state");
        crate::problem::write("format", path)(e)
    })?;
    readable(&mut value);
    if let Value::Object(map) = &mut value {
        // Position and time differ always.
        for name in ["seq", "at"] {
            map.remove(name);
        }
    }
    Ok(value)
}

fn only(value: &Value, id: &str) -> Value {
    let leases = value["leases"].as_object().into_iter().flatten();
    let leases: Map<String, Value> = leases
        .filter(|(_, lease)| lease["environment"] == id)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    json!({ "environment": value["environments"][id], "remains": value["remains"][id], "leases": leases })
}

struct Change {
    path: String,
    from: Value,
    to: Value,
}

impl Change {
    fn line(&self, out: &Out) -> String {
        let (from, to) = (brief(&self.from), brief(&self.to));
        let path = safe(&self.path);
        match (&self.from, &self.to) {
            (Value::Null, _) => out.paint(Tone::Good, &format!("+ {path}  {to}")),
            (_, Value::Null) => out.paint(Tone::Bad, &format!("- {path}  {from}")),
            _ => format!("~ {path}  {from} -> {}", out.paint(Tone::Name, &to)),
        }
    }
}

/// A value on one line.
fn brief(value: &Value) -> String {
    const WIDTH: usize = 160;
    let text = match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => safe(text),
        other => safe(&other.to_string()),
    };
    match text.char_indices().nth(WIDTH) {
        Some((cut, _)) => format!("{} ... ({} bytes)", &text[..cut], text.len()),
        None => text,
    }
}

/// Values that differ, by path. What is there on one side only is told as a whole.
fn compare(path: &str, old: &Value, new: &Value, out: &mut Vec<Change>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = Value::Null;
                compare(&below, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), out);
            }
        }
        _ => {
            out.push(Change { path: path.to_owned(), from: old.clone(), to: new.clone() });
        }
    }
}

/// A phase or a step by the name that it has everywhere else: `TearingDown` is `tearing_down`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Times and names as people read them: the state counts nanoseconds.
pub(crate) fn readable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let is_time = key == "at"
                    || key == "until"
                    || key == "not_before"
                    || (key.ends_with("_at") && key != "held_at");
                match value {
                    Value::String(name) if key == "phase" || key == "step" => *name = snake(name),
                    _ => match value.as_u64() {
                        Some(nanos) if is_time && nanos > 0 => {
                            *value = rfc3339(Time(nanos)).into();
                        }
                        _ => readable(value),
                    },
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(readable),
        _ => {}
    }
}

/// Shows which effects a daemon would start after a record.
pub(crate) fn owed(args: &OwedArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let seq = position(&source.log, args.seq.as_deref().unwrap_or("last"))?;
    let folded = fold(&source.log, seq)?;
    folded.must_reach(seq)?;
    let state = &folded.state;
    let now = args.now.as_deref().map(crate::filter::time).transpose()?.unwrap_or(state.at());
    let due: Vec<_> = state.owed(now).collect();
    // At the end of time everything is due.
    let later = state.owed(Time(u64::MAX)).filter(|effect| !due.contains(effect));
    let rows = due.iter().map(|e| (true, e.clone())).chain(later.map(|e| (false, e)));
    let rows = rows.map(|(due, e)| describe(state, now, due, &e)).collect::<Vec<_>>();
    if out.json {
        let list: Vec<&Value> = rows.iter().map(|r| &r.json).collect();
        let (at, partial) = (rfc3339(now), folded.partial());
        out.object(&json!({ "seq": state.seq(), "now": at, "partial": partial, "owed": list }));
    } else {
        headline(out, state);
        if rows.is_empty() {
            out.line("nothing is owed");
        }
        let head = ["EFFECT", "STEP", "WHEN", "FAILED", "INTERRUPTED", "LAST ERROR"];
        out.table("", &head, rows.into_iter().map(|r| r.cells).collect());
    }
    Ok(folded.verdict())
}

struct OwedRow {
    json: Value,
    cells: Vec<String>,
}

/// Returns attempts, interruptions and earliest start of an owed step.
fn retries<S>(owed: &Owed<S>) -> (u32, u32, Time) {
    (owed.attempts, owed.interruptions, owed.not_before)
}

fn describe(
    state: &State,
    now: Time,
    due: bool,
    effect: &groundskeeper_core::OwedEffect,
) -> OwedRow {
    use groundskeeper_core::Target;
    let target = state.effect(&effect.id).map(|e| e.target);
    let (owed, fault) = match &target {
        Some(Target::Environment(_, e, _)) => (e.owed.as_ref().map(retries), e.fault.as_ref()),
        Some(Target::Archive(_, r, _)) => (r.owed.as_ref().map(retries), r.fault.as_ref()),
        Some(Target::Output(_, o)) => (o.owed.as_ref().map(retries), o.fault.as_ref()),
        Some(Target::Migration(_, m)) => (m.owed.as_ref().map(retries), m.fault.as_ref()),
        Some(Target::Host(..)) => (state.sweep().map(|s| retries(&s.owed)), None),
        None => (None, None),
    };
    let (attempts, died, not_before) = owed.unwrap_or_default();
    let step = effect.step.as_str();
    let fault = fault.map(ToString::to_string);
    let json = json!({
        "effect": effect.id.to_string(), "subject": effect.id.subject.to_string(),
        "entered": effect.id.entered, "step": step, "due": due,
        "not_before": (not_before > Time(0)).then(|| rfc3339(not_before)),
        "attempts": attempts, "interruptions": died, "fault": fault,
    });
    let when = if due {
        "now".to_owned()
    } else {
        format!("in {}", span(u64::try_from(not_before.since(now).as_nanos()).unwrap_or(u64::MAX)))
    };
    let fault = fault.map_or_else(|| "-".to_owned(), |f| safe(&f));
    let cells = vec![
        effect.id.to_string(),
        step.to_owned(),
        when,
        attempts.to_string(),
        died.to_string(),
        fault,
    ];
    OwedRow { json, cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_reported_by_path() {
        let old = json!({ "a": { "x": 1, "y": 2 }, "b": [1], "gone": 3 });
        let new = json!({ "a": { "x": 1, "y": 5 }, "b": [1, 2], "new": { "z": 1 } });
        let mut changes = Vec::new();
        compare("", &old, &new, &mut changes);
        let told: Vec<String> =
            changes.iter().map(|c| format!("{} {} {}", c.path, c.from, c.to)).collect();
        assert_eq!(told, ["a.y 2 5", "b [1] [1,2]", "gone 3 null", r#"new null {"z":1}"#]);
    }

    #[test]
    fn times_and_phases_are_readable() {
        let mut value =
            json!({ "created_at": 1_700_000_000_000_000_000_u64, "held_at": 7, "at": 0 });
        readable(&mut value);
        assert_eq!(value["created_at"], "2023-11-14T22:13:20.000Z");
        assert_eq!((&value["held_at"], &value["at"]), (&json!(7), &json!(0)));
        let mut value = json!({ "phase": "TearingDown", "owed": { "step": "MoveToTrash" } });
        readable(&mut value);
        assert_eq!(value, json!({ "phase": "tearing_down", "owed": { "step": "move_to_trash" } }));
    }
}
