//! `salvage`: what a byte scan still finds of a log, as a new one that a daemon can open.
//!
//! Where records were lost placeholders stand, so that every other record keeps its position: the
//! state refers to positions. The damaged file is read, never written.

use std::path::Path;

use groundskeeper_journal::codec::CODEC_BINCODE1;
use groundskeeper_journal::envelope::{self, Envelope};
use groundskeeper_journal::format::{bytes, hex};
use groundskeeper_journal::inspect::Depth;
use groundskeeper_journal::rebuild::Rewrite;
use groundskeeper_journal::salvage::Salvage;
use groundskeeper_journal::{Error, ReadOnlyLog, inspect};
use serde_json::json;

use crate::args::SalvageArgs;
use crate::live::is_locked;
use crate::out::{Out, count, note};
use crate::problem::{DAMAGED, INTACT, Problem};
use crate::source::resolve;

pub(crate) use groundskeeper_journal::salvage::LOST_KIND;

/// Most placeholders that are written.
const LOST_MAX: u64 = 1_000_000;

/// Salvages.
pub(crate) fn salvage(args: &SalvageArgs, out: &mut Out) -> Result<u8, Problem> {
    let (file, _) = resolve(&args.file);
    if is_locked(&file) {
        return Err(Error::Busy { path: file }.into());
    }
    let found = Salvage::scan(&file)?;
    if found.records.is_empty() {
        let what = "no whole record was found in it".to_owned();
        return Err(Error::NotALog { path: file, what }.into());
    }
    let lost: u64 = found.lost.iter().map(|(from, to)| to - from + 1).sum();
    if lost > LOST_MAX {
        return Err(Problem::Limit {
            what: format!("{lost} records are missing; at most {LOST_MAX} can be replaced"),
            hint: "if this is a part of a trimmed log, read it with `replay list` on a flat export"
                .to_owned(),
        });
    }
    let resealed = write(&file, &found, &args.new)?;
    let whole = inspect(&args.new, Depth::Everything, &mut |_, _| {})?;
    let contradiction = whole.state.check().err();
    let report = Report { found: &found, lost, resealed, contradiction };
    report.print(&args.new, out);
    let fine = lost == 0 && found.unchained.is_empty() && report.contradiction.is_none();
    Ok(if fine { INTACT } else { DAMAGED })
}

/// Writes the new log; says how many records were sealed anew.
fn write(file: &Path, found: &Salvage, new: &Path) -> Result<u64, Problem> {
    let mut log = Rewrite::after(new, found.log_id, found.base.as_ref())?;
    if found.base.is_some() {
        carry_lives(file, &mut log);
    }
    let (mut buffer, mut time, mut boot) = (Vec::new(), 0, 0);
    for place in &found.records {
        let record = found.read(place, &mut buffer)?;
        if boot == 0 {
            (time, boot) = (record.at, record.boot);
        }
        for seq in log.head().seq + 1..record.seq {
            log.put(&placeholder(seq, time, boot))?;
        }
        (time, boot) = (record.at.max(time), record.boot);
        log.put(&record)?;
    }
    let last = found.lost.last().map_or(0, |(_, to)| *to);
    for seq in log.head().seq + 1..=last {
        log.put(&placeholder(seq, time, boot))?;
    }
    let resealed = log.resealed();
    log.finish()?;
    Ok(resealed)
}

/// Takes along the lives that the state has forgotten. A scan does not find them; the index is read
/// as far as redb reads the file.
fn carry_lives(file: &Path, log: &mut Rewrite) {
    let read = ReadOnlyLog::open(file).and_then(|old| old.lives(&mut |lives| log.carry(lives)));
    if let Err(error) = read {
        note(&format!(
            "warning: what the index has of lives that are over is not found ({error}): the names \
             of forgotten environments begin again with incarnation 1"
        ));
    }
}

fn placeholder(seq: u64, at: u64, boot: u32) -> Envelope<'static> {
    Envelope {
        crc: 0,
        version: envelope::VERSION,
        codec: CODEC_BINCODE1,
        flags: 0,
        seq,
        at,
        boot,
        kind: LOST_KIND,
        kind_version: 1,
        previous: 0,
        payload: b"",
    }
}

struct Report<'a> {
    found: &'a Salvage,
    lost: u64,
    resealed: u64,
    contradiction: Option<String>,
}

impl Report<'_> {
    fn print(&self, new: &Path, out: &mut Out) {
        let found = self.found;
        let records = found.records.len() as u64;
        let first = found.records.first().map_or(0, |r| r.seq);
        let last = found.records.last().map_or(0, |r| r.seq);
        if out.json {
            let id = found.log_id.map(|id| hex(&id));
            out.object(&json!({
                "ok": self.lost == 0 && found.unchained.is_empty(), "new": new.display().to_string(),
                "bytes": found.bytes, "records": records, "first": first, "last": last,
                "lost": self.lost, "lost_ranges": found.lost, "unchained": found.unchained,
                "damaged_places": found.damaged, "log_id": id,
                "head": found.head.map(|h| h.seq), "resealed": self.resealed,
                "trimmed": found.base.as_ref().map_or(0, |base| base.head().seq),
                "contradiction": self.contradiction,
            }));
            return;
        }
        let looked = bytes(found.bytes);
        out.line(&format!("scanned {looked}: {records} whole records, {first} to {last}"));
        let damaged = count(found.damaged, "place starts", "places start");
        out.line(&format!("{damaged} like a record without holding one"));
        match (&found.log_id, found.head) {
            (Some(id), Some(head)) => {
                out.line(&format!("log {}, last record {}", hex(id), head.seq));
            }
            (Some(id), None) => {
                out.line(&format!("log {}; its last record is not known", hex(id)));
            }
            (None, _) => {
                out.line("the identity of the log was not found; the new log has its own,");
                out.line("so a daemon treats the worktrees of the old log as foreign");
            }
        }
        if let Some(base) = &found.base {
            let seq = base.head().seq;
            out.line(&format!("the log was trimmed: it begins with the state after record {seq}"));
        }
        for (from, to) in &found.lost {
            let range = if from == to { from.to_string() } else { format!("{from} to {to}") };
            out.line(&format!("lost: {range}"));
        }
        for seq in found.unchained.iter().take(20) {
            out.line(&format!("record {seq} does not continue the checksum chain"));
        }
        if self.lost > 0 {
            let places = count(self.lost, "placeholder", "placeholders");
            out.line(&format!("{places} for lost records; {} records sealed again", self.resealed));
        }
        if let Some(what) = &self.contradiction {
            out.line(&format!("the folded state is NOT consistent: {what}"));
        }
        out.line(&format!("written to {}", new.display()));
        note("hint: `replay verify NEW` checks it; keep the damaged file");
    }
}
