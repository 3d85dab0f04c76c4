//! `list` and `show`: records as lines, as JSON, one in full, or as they come.

use std::collections::VecDeque;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;

use groundskeeper_core::event::Record;
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::describe;
use groundskeeper_journal::envelope::{self, Envelope};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::format;
use groundskeeper_journal::stream_format;
use groundskeeper_journal::stream_format::Next;
use groundskeeper_journal::{Damage, Error};

use crate::args::ListArgs;
use crate::filter::Wanted;
use crate::live::Live;
use crate::out::{Out, Tone, count, note, safe};
use crate::problem::{DAMAGED, INTACT, Problem};
use crate::source::{Source, resolve};

/// Most records that `--last` holds.
const LAST_MAX: usize = 100_000;

/// Lists records.
pub(crate) fn list(args: &ListArgs, out: &mut Out) -> Result<u8, Problem> {
    let wanted = Wanted::new(&args.filter)?;
    if args.follow {
        return follow(args, &wanted, out);
    }
    let source = Source::open(&args.file)?;
    let mut listing = Listing { out, wanted: &wanted, damaged: 0, shown: 0 };
    if let Some(last) = args.last {
        listing.last(&source, last, args.reverse)?;
    } else {
        let range = Range { from: wanted.from(), to: wanted.to(), backwards: args.reverse };
        listing.walk(&source, range, u64::MAX, &mut |listing, record| listing.print(record))?;
    }
    let (damaged, shown) = (listing.damaged, listing.shown);
    if damaged > 0 {
        let records = count(damaged, "record", "records");
        note(&format!(
            "warning: partial: {records} could not be read\nhint: `replay verify FILE` lists them"
        ));
        return Ok(DAMAGED);
    }
    if shown == 0 && !listing.out.json {
        note("no record matches");
    }
    Ok(INTACT)
}

struct Listing<'a> {
    out: &'a mut Out,
    wanted: &'a Wanted,
    damaged: u64,
    shown: u64,
}

impl Listing<'_> {
    /// Hands on up to `max` of the wanted records of a range.
    fn walk(
        &mut self,
        source: &Source,
        range: Range,
        max: u64,
        each: &mut dyn FnMut(&mut Self, &Record),
    ) -> Result<(), Problem> {
        let mut left = max;
        let walked = source.log.walk(range, &mut |key, bytes| {
            let sealed = match envelope::open(key, bytes) {
                Ok(sealed) => sealed,
                Err(damage) => return self.bad(&damage),
            };
            let over = if range.backwards {
                self.wanted.is_before(&sealed)
            } else {
                self.wanted.is_past(&sealed)
            };
            if over || self.out.closed || left == 0 {
                return ControlFlow::Break(());
            }
            if !self.wanted.takes(&sealed) {
                return ControlFlow::Continue(());
            }
            match readable(&sealed) {
                Ok(record) => {
                    if self.wanted.wants(&record, &format::json(&record)) {
                        each(self, &record);
                        left -= 1;
                    }
                    ControlFlow::Continue(())
                }
                Err(damage) => self.bad(&damage),
            }
        });
        match walked {
            Err(Error::Damaged { damage, .. }) => {
                let _goes_on = self.bad(&damage);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn last(&mut self, source: &Source, last: usize, reverse: bool) -> Result<(), Problem> {
        let last = checked_last(last)?;
        let range = Range { from: self.wanted.from(), to: self.wanted.to(), backwards: true };
        let mut found = Vec::new();
        self.walk(source, range, last as u64, &mut |_, record| found.push(record.clone()))?;
        if !reverse {
            found.reverse();
        }
        for record in &found {
            self.print(record);
        }
        Ok(())
    }

    fn bad(&mut self, damage: &Damage) -> ControlFlow<()> {
        self.damaged += 1;
        // A file in ruins is not worth a line for each of its records.
        if self.damaged <= 20 {
            note(&format!("warning: {damage}"));
        }
        ControlFlow::Continue(())
    }

    fn print(&mut self, record: &Record) {
        self.shown += 1;
        if self.out.json {
            self.out.object(&format::json(record));
            return;
        }
        let line = line(self.out, record);
        self.out.line(&line);
    }
}

/// A record, also one that a newer program wrote: then it is opaque.
fn readable(sealed: &Envelope<'_>) -> Result<Record, Damage> {
    match codec::decode(sealed)? {
        Decoded::Record(record) => Ok(record),
        Decoded::Newer(_) => {
            let unflagged = Envelope { flags: 0, ..*sealed };
            match codec::decode(&unflagged)? {
                Decoded::Record(record) => Ok(record),
                Decoded::Newer(what) => Err(Damage::Unreadable(what)),
            }
        }
    }
}

/// One record on one line.
pub(crate) fn line(out: &Out, record: &Record) -> String {
    let event = &record.event;
    let about = event.environment().map(groundskeeper_core::EnvironmentId::as_str);
    let about = about.or(event.migration().map(groundskeeper_core::MigrationId::as_str));
    let kind = format!("{:<22}", event.kind());
    format!(
        "{:>8}  {}  {} {} {}",
        record.seq.0,
        out.paint(Tone::Faint, &format::rfc3339(record.at)),
        out.paint(tone(event.kind()), &kind),
        out.paint(Tone::Name, &format!("{:<16}", about.unwrap_or("-"))),
        safe(&describe::event(event))
    )
}

/// What a kind is, at a glance.
pub(crate) fn tone(kind: &str) -> Tone {
    match kind {
        "EnvironmentReady" | "Restored" | "Flipped" | "MigrationFinished" | "WorkRescued" => {
            Tone::Good
        }
        "Tombstoned" | "DestroyRequested" | "DirectoryTrashed" | "PurgeDecided" | "TrashPurged"
        | "CleanPurgeDecided" | "CleanPurged" => Tone::Warn,
        _ if kind.contains("Failed") || kind.contains("GaveUp") || kind.contains("Refused") => {
            Tone::Bad
        }
        _ => Tone::Plain,
    }
}

/// Prints what there is, and then what comes, until the daemon or the reader ends it.
fn follow(args: &ListArgs, wanted: &Wanted, out: &mut Out) -> Result<u8, Problem> {
    let (_, dir) = resolve(&args.file);
    let live = dir.as_deref().and_then(Live::find);
    let live = live.ok_or_else(|| {
        Problem::usage(
            format!("no daemon answers for {}, so there is nothing to follow", args.file.display()),
            "start the daemon, or omit --follow",
        )
    })?;
    let failed = |source| Problem::Daemon { dir: live.dir.clone(), source };
    let mut after = wanted.from().saturating_sub(1);
    // Records up to here are history, of which only the last that fit are shown.
    let history = match args.last {
        Some(last) => {
            let end = live.digest().map_err(failed)?.seq;
            if wanted.is_everything() {
                after = after.max(end.saturating_sub(last as u64));
            }
            end
        }
        None => 0,
    };
    let mut tail_buffer = TailBuffer::new(args.last)?;
    let mut input = BufReader::new(live.records(after, true).map_err(failed)?);
    after = begin(&mut input, after).map_err(failed)?;
    let mut listing = Listing { out, wanted, damaged: 0, shown: 0 };
    let mut buffer = Vec::new();
    loop {
        if after >= history {
            tail_buffer.release(&mut listing);
        }
        after += 1;
        let next = stream_format::next(&mut input, after, &mut buffer).map_err(failed)?;
        let next = next.map_err(|damage| damaged(&args.file, damage))?;
        if matches!(next, Next::Lives(_)) {
            after -= 1;
            continue;
        }
        if next != Next::Record {
            tail_buffer.release(&mut listing);
            return Ok(INTACT);
        }
        let sealed = envelope::open(after, &buffer).map_err(|d| damaged(&args.file, d))?;
        if wanted.takes(&sealed) {
            let record = readable(&sealed).map_err(|d| damaged(&args.file, d))?;
            if wanted.wants(&record, &format::json(&record)) {
                if after <= history {
                    tail_buffer.push(record);
                } else {
                    listing.print(&record);
                    listing.out.flush();
                }
            }
        }
        if listing.out.closed || wanted.is_past(&sealed) {
            tail_buffer.release(&mut listing);
            return Ok(INTACT);
        }
    }
}

/// Reads the head of the daemon's stream. Returns the record before the first one, which is later
/// than `after` where that one is trimmed.
fn begin(input: &mut impl std::io::Read, after: u64) -> std::io::Result<u64> {
    let mut head = [0; stream_format::HEAD_BYTES];
    input.read_exact(&mut head)?;
    let start = stream_format::parse_head(&head).map_err(std::io::Error::other)?;
    if start.has_base && stream_format::base(input)?.is_none() {
        return Err(std::io::Error::other("the daemon's stream ends within its base"));
    }
    if start.after.seq > after {
        let what = format!("note: the daemon's log begins with record {}", start.after.seq + 1);
        note(&format!("{what}; the ones before are in its `log-archive`, or gone"));
    }
    Ok(start.after.seq.max(after))
}

/// The last records of the history that fit, until the history ends.
struct TailBuffer {
    records: VecDeque<Record>,
    max: usize,
}

impl TailBuffer {
    fn new(last: Option<usize>) -> Result<Self, Problem> {
        Ok(Self { records: VecDeque::new(), max: checked_last(last.unwrap_or(0))? })
    }

    fn push(&mut self, record: Record) {
        self.records.push_back(record);
        if self.records.len() > self.max {
            self.records.pop_front();
        }
    }

    fn release(&mut self, listing: &mut Listing<'_>) {
        if self.records.is_empty() {
            return;
        }
        for record in self.records.drain(..) {
            listing.print(&record);
        }
        listing.out.flush();
    }
}

/// Returns how many of the last records to show, if that many can be held.
fn checked_last(last: usize) -> Result<usize, Problem> {
    if last > LAST_MAX {
        let what = format!("--last is at most {LAST_MAX}");
        return Err(Problem::usage(what, "use --from or --since instead"));
    }
    Ok(last)
}

fn damaged(path: &Path, damage: Damage) -> Problem {
    Error::Damaged { path: path.to_owned(), damage }.into()
}

/// Shows one record in full.
pub(crate) fn show(file: &Path, seq: &str, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(file)?;
    let seq = crate::fold::position(&source.log, seq)?;
    let range = Range { from: if seq == u64::MAX { 0 } else { seq }, to: seq, backwards: true };
    let mut found: Option<Result<(), Damage>> = None;
    source.log.walk(range, &mut |key, bytes| {
        let shown = envelope::open(key, bytes).and_then(|sealed| {
            let record = readable(&sealed)?;
            full(out, &sealed, &record);
            Ok(())
        });
        found = Some(shown);
        ControlFlow::Break(())
    })?;
    match found {
        Some(Ok(())) => Ok(INTACT),
        Some(Err(damage)) => Err(damaged(&source.path, damage)),
        None => {
            let what = format!("there is no record {seq}");
            Err(Problem::missing(what, "run `replay list FILE` to list all records"))
        }
    }
}

fn full(out: &mut Out, sealed: &Envelope<'_>, record: &Record) {
    let value = format::json(record);
    if out.json {
        out.object(&value);
        return;
    }
    let title = format!("record {}: {}", record.seq, record.event.kind());
    let title = out.paint(Tone::Head, &title);
    out.line(&title);
    let words = describe::event(&record.event);
    if !words.is_empty() {
        out.line(&safe(&words));
    }
    let size = sealed.payload.len() + envelope::HEADER_BYTES;
    let facts = format!(
        "kind {} version {}, {size} bytes, crc {:08x}, continues {:08x}\n",
        sealed.kind, sealed.kind_version, sealed.crc, sealed.previous
    );
    let facts = out.paint(Tone::Faint, &facts);
    out.line(&facts);
    // JSON text has no control characters; what turns lines around is taken out as well.
    let text: Vec<String> = format!("{value:#}").lines().map(safe).collect();
    out.line(&text.join("\n"));
}
