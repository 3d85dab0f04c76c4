//! `verify` and `bisect`: is a log whole, does it add up, and was every rule kept.
//!
//! All damage is listed, not the first alone. What a state says after a record was lost is not
//! judged: the output says up to which record the rules were checked.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use groundskeeper_core::State;
use groundskeeper_core::event::{Event, Record};
use groundskeeper_core::invariants::{Audit, Breach, INVARIANTS, invariant};
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::forensic::{Chain, Range};
use groundskeeper_journal::format::hex;
use groundskeeper_journal::{Damage, Error, Head, envelope};
use serde_json::{Value, json};

use crate::args::BisectArgs;
use crate::fold::{fold_with, position};
use crate::out::{Out, Tone, count, note, safe};
use crate::problem::{DAMAGED, INTACT, Problem};
use crate::source::Source;

/// Most damaged records, and most breaches, that are listed one by one.
const LISTED: usize = 100;

/// What a look at every record came to.
struct Report {
    log_id: [u8; 16],
    records: u64,
    first: u64,
    last: Head,
    damage: Vec<String>,
    damaged: u64,
    breaches: Vec<Breach>,
    broken: u64,
    /// The last record up to which state and rules were checked.
    judged: u64,
    snapshots: u64,
    contradiction: Option<String>,
}

/// Verifies.
pub(crate) fn verify(file: &Path, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(file)?;
    let mut verifier = Verifier::new(&source)?;
    let range = Range::ALL;
    let walked = source.log.walk(range, &mut |key, bytes| {
        verifier.record(key, bytes);
        ControlFlow::Continue(())
    });
    match walked {
        Err(Error::Damaged { damage, .. }) => verifier.bad(&damage),
        other => other?,
    }
    let report = verifier.end(&source);
    if let Some(what) = report.1 {
        return Err(Error::Newer { path: source.path, what }.into());
    }
    let report = report.0;
    if out.json {
        out.object(&as_json(&report));
    } else {
        print(&report, out);
    }
    let whole = report.damaged == 0 && report.broken == 0 && report.contradiction.is_none();
    Ok(if whole { INTACT } else { DAMAGED })
}

struct Verifier {
    report: Report,
    chain: Chain,
    state: State,
    audit: Audit,
    /// Snapshots by position: the hash of the state and the checksum of the record.
    snapshots: BTreeMap<u64, ([u8; 32], u32)>,
    /// The state is that of all records so far.
    sound: bool,
    newer: Option<String>,
}

impl Verifier {
    fn new(source: &Source) -> Result<Self, Problem> {
        let log = &source.log;
        let (mut snapshots, mut start) = (BTreeMap::new(), None);
        log.snapshots(&mut |state, crc| {
            if let Ok(digest) = codec::state_digest(&state) {
                snapshots.insert(state.seq().0, (digest, crc));
            }
            if log.first() > 1 && start.is_none() && state.seq().0 + 1 >= log.first() {
                start = Some(state);
            }
        })?;
        let state = start.unwrap_or_default();
        let sound = log.first() == 1 || state.seq().0 > 0;
        Ok(Self {
            report: Report {
                log_id: log.log_id(),
                records: 0,
                first: log.first(),
                last: Head::default(),
                damage: Vec::new(),
                damaged: 0,
                breaches: Vec::new(),
                broken: 0,
                judged: 0,
                snapshots: 0,
                contradiction: None,
            },
            chain: log.chain(),
            audit: Audit::of(&state),
            state,
            snapshots,
            sound,
            newer: None,
        })
    }

    fn record(&mut self, key: u64, bytes: &[u8]) {
        self.report.records += 1;
        let decoded = self.chain.next(key, bytes).and_then(|sealed| {
            let decoded = codec::decode(&sealed)?;
            canonical(&decoded, bytes, sealed.previous)?;
            Ok(decoded)
        });
        match decoded {
            Ok(Decoded::Record(record)) if is_lost(&record) => {
                self.bad_text(format!("record {key} was lost before this log was salvaged"));
            }
            Ok(Decoded::Record(record)) => {
                // What a snapshot has folded in already is not folded again.
                if !self.sound || record.seq <= self.state.seq() {
                    return;
                }
                let breaches = self.audit.fold(&mut self.state, &record);
                self.broke(breaches);
                self.report.judged = key;
                self.compare(key);
            }
            Ok(Decoded::Newer(what)) => drop(self.newer.get_or_insert(what)),
            Err(damage) => self.bad(&damage),
        }
    }

    fn broke(&mut self, breaches: impl IntoIterator<Item = Breach>) {
        for breach in breaches {
            self.report.broken += 1;
            if self.report.breaches.len() < LISTED {
                self.report.breaches.push(breach);
            }
        }
    }

    fn bad(&mut self, damage: &Damage) {
        self.bad_text(damage.to_string());
    }

    fn bad_text(&mut self, text: String) {
        self.sound = false;
        self.report.damaged += 1;
        if self.report.damage.len() < LISTED {
            self.report.damage.push(text);
        }
    }

    /// A snapshot must be what the records add up to.
    fn compare(&mut self, key: u64) {
        let Some((digest, crc)) = self.snapshots.remove(&key) else { return };
        self.report.snapshots += 1;
        let folded = codec::state_digest(&self.state).ok();
        if folded != Some(digest) || crc != self.chain.last().crc {
            self.bad_text(format!("the snapshot at record {key} is not the fold of the records"));
            self.sound = true;
        }
    }

    fn end(mut self, source: &Source) -> (Report, Option<String>) {
        let last = self.chain.last();
        if let Some(head) = source.log.head().filter(|head| *head != last) {
            self.bad(&Damage::Head { expected: head.seq, found: last.seq });
        }
        // Only intact records can tell whether the index fits them.
        if self.report.damaged == 0
            && let Err(error) = source.log.check_index()
        {
            let why = match error {
                Error::Damaged { damage, .. } => damage.to_string(),
                other => other.to_string(),
            };
            self.bad_text(format!("{why}; `replay salvage` writes a log without an index"));
        }
        self.report.last = last;
        let open = self.audit.finish(&self.state);
        self.broke(open);
        self.report.contradiction = self.state.check().err();
        (self.report, self.newer)
    }
}

/// Whether a record only stands for one that was lost.
fn is_lost(record: &Record) -> bool {
    matches!(&record.event, Event::Opaque(e) if e.kind == crate::salvage::LOST_KIND)
}

/// A payload that decodes must be what encoding it gives: a kind that was read as another one
/// would not be.
fn canonical(decoded: &Decoded, bytes: &[u8], previous: u32) -> Result<(), Damage> {
    let Decoded::Record(record) = decoded else { return Ok(()) };
    let sealed = envelope::open_unchecked(record.seq.0, bytes)?;
    let newest = sealed.kind_version == record.event.kind_version();
    let same = !newest || codec::encode(record, previous).is_ok_and(|(again, _)| again == bytes);
    // What is opaque is not ours to judge, flags included.
    if same || matches!(record.event, Event::Opaque(_)) {
        return Ok(());
    }
    Err(Damage::Payload {
        seq: record.seq.0,
        kind: sealed.kind,
        version: sealed.kind_version,
        why: "encoding it again gives other bytes".to_owned(),
    })
}

fn as_json(report: &Report) -> Value {
    let breaches = report.breaches.iter().map(|b| {
        let line = invariant(b.invariant).map(|i| i.line);
        json!({ "invariant": b.invariant, "line": line, "seq": b.seq, "what": b.what })
    });
    json!({
        "ok": report.damaged == 0 && report.broken == 0 && report.contradiction.is_none(),
        "log_id": hex(&report.log_id), "records": report.records, "first": report.first,
        "last": report.last.seq, "head_crc": format!("{:08x}", report.last.crc),
        "damaged": report.damaged, "damage": report.damage,
        "broken": report.broken, "breaches": breaches.collect::<Vec<_>>(),
        "judged_to": report.judged, "snapshots": report.snapshots,
        "contradiction": report.contradiction,
    })
}

fn print(report: &Report, out: &mut Out) {
    let (first, last, id) = (report.first, report.last.seq, hex(&report.log_id));
    out.line(&format!("{} records, {first} to {last}, of log {id}", report.records));
    let mut line = |tone, mark: &str, text: &str| {
        let mark = out.paint(tone, mark);
        out.line(&format!("{mark} {}", safe(text)));
    };
    if report.damaged == 0 {
        let snapshots = count(report.snapshots, "snapshot", "snapshots");
        let text =
            format!("checksums, order, chain, payloads and head agree; {snapshots} compared");
        line(Tone::Good, "ok  ", &text);
    }
    for damage in &report.damage {
        line(Tone::Bad, "BAD ", damage);
    }
    let more = report.damaged.saturating_sub(report.damage.len() as u64);
    if more > 0 {
        line(Tone::Bad, "BAD ", &format!("and {more} more"));
    }
    match &report.contradiction {
        None => line(Tone::Good, "ok  ", "the folded state is consistent"),
        Some(what) => {
            line(Tone::Bad, "BAD ", &format!("the folded state is NOT consistent: {what}"));
        }
    }
    let checked = INVARIANTS.len();
    if report.broken == 0 {
        let text = format!("{checked} invariants hold from record {first} to {}", report.judged);
        line(Tone::Good, "ok  ", &text);
    }
    for breach in &report.breaches {
        let text = format!("record {}: {}: {}", breach.seq, breach.invariant, breach.what);
        line(Tone::Bad, "BAD ", &text);
    }
    let more = report.broken.saturating_sub(report.breaches.len() as u64);
    if more > 0 {
        line(Tone::Bad, "BAD ", &format!("and {more} more"));
    }
    if report.damaged > 0 {
        let text = format!("the invariants were checked up to record {} only", report.judged);
        line(Tone::Warn, "note", &text);
        note("hint: keep the file; `replay salvage FILE NEW` copies what is readable to a new log");
    }
}

/// Finds the first record that breaks an invariant.
pub(crate) fn bisect(args: &BisectArgs, out: &mut Out) -> Result<u8, Problem> {
    if args.list {
        return Ok(list(out));
    }
    let (Some(file), Some(name)) = (&args.file, &args.invariant) else {
        let hint = "run `replay bisect --list` to list the invariants, or use `any`";
        return Err(Problem::usage("bisect needs a log and an invariant", hint));
    };
    if name != "any" && invariant(name).is_none() {
        let hint = "run `replay bisect --list` to list them, or use `any`";
        return Err(Problem::usage(format!("there is no invariant {name:?}"), hint));
    }
    let source = Source::open(file)?;
    let to = args.to.as_deref().map_or(Ok(u64::MAX), |to| position(&source.log, to))?;
    let (mut audit, mut first): (Option<Audit>, Option<Breach>) = (None, None);
    let wanted = |b: &Breach| name == "any" || b.invariant == name;
    let folded = fold_with(&source.log, to, &mut |state, record| {
        let audit = audit.get_or_insert_with(|| Audit::of(state));
        first = audit.fold(state, record).into_iter().find(wanted);
        if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let open = audit.and_then(|audit| audit.finish(&folded.state)).filter(wanted);
    let first = first.or(open);
    let last = folded.state.seq();
    if out.json {
        let breach = first
            .as_ref()
            .map(|b| json!({ "invariant": b.invariant, "seq": b.seq, "what": b.what }));
        let partial = folded.partial();
        out.object(
            &json!({ "ok": first.is_none(), "breach": breach, "to": last, "partial": partial }),
        );
    } else if let Some(breach) = &first {
        let what = safe(&breach.what);
        out.line(&format!("record {} is the first that breaks {}", breach.seq, breach.invariant));
        out.line(&format!("  {what}"));
        let says = invariant(breach.invariant).map_or("", |i| i.says);
        out.line(&format!("  rule: {says}"));
        note(&format!("hint: run `replay show FILE {0}` or `replay at FILE {0}`", breach.seq));
    } else {
        out.line(&format!("no record up to {last} breaks {name}"));
    }
    let verdict = folded.verdict();
    Ok(if first.is_some() { DAMAGED } else { verdict })
}

fn list(out: &mut Out) -> u8 {
    if out.json {
        for i in INVARIANTS {
            out.object(&json!({ "name": i.name, "line": i.line, "says": i.says }));
        }
        return INTACT;
    }
    let rows =
        INVARIANTS.iter().map(|i| vec![i.name.to_owned(), i.line.to_string(), i.says.to_owned()]);
    out.table("", &["INVARIANT", "LINE", "PROPERTY"], rows.collect());
    out.line("\nLINE is the class of failure that the invariant guards against.");
    INTACT
}
