//! `check-replay`: the fold has one outcome. It is done twice, compared with the snapshots in the
//! file, and, when a daemon has the log, with the state in its memory.

use std::ops::ControlFlow;
use std::path::Path;

use groundskeeper_journal::codec::state_digest;
use groundskeeper_journal::format::hex;
use serde_json::json;

use crate::fold::{Folded, fold, fold_with};
use crate::live::Digest;
use crate::out::{Out, Tone};
use crate::problem::{DAMAGED, Problem};
use crate::source::Source;

/// How often the daemon is asked until its state is one that the copy has.
const TRIES: usize = 5;

/// Checks.
pub(crate) fn check(file: &Path, out: &mut Out) -> Result<u8, Problem> {
    let mut source = Source::open(file)?;
    let live = ask(file, &mut source)?;
    let first = fold(&source.log, u64::MAX)?;
    let at_live = live.as_ref().map(|d| d.seq);
    let (mut live_fold, mut snapshots) = (None, std::collections::BTreeMap::new());
    source.log.snapshots(&mut |state, _| {
        snapshots.insert(state.seq().0, state_digest(&state).ok());
    })?;
    let mut diverged: Vec<String> = Vec::new();
    let mut compared = 0_u64;
    let second = fold_with(&source.log, u64::MAX, &mut |state, record| {
        state.apply(record);
        let seq = state.seq().0;
        if at_live == Some(seq) {
            live_fold = state_digest(state).ok();
        }
        if let Some(snapshot) = snapshots.get(&seq) {
            compared += 1;
            if *snapshot != state_digest(state).ok() {
                diverged.push(format!("the snapshot at record {seq} differs from the fold"));
            }
        }
        ControlFlow::Continue(())
    })?;
    let (one, two) = (state_digest(&first.state)?, state_digest(&second.state)?);
    if one != two {
        diverged.push("two folds of the same records differ".to_owned());
    }
    if let Some(live) = &live {
        let folded = live_fold.map(|digest| hex(&digest));
        if folded.as_deref() != Some(live.sha256.as_str()) {
            diverged.push(format!(
                "the daemon's state after record {} differs from the fold",
                live.seq
            ));
        }
    }
    let outcome = Outcome { first: &first, sha256: hex(&one), compared, live, diverged };
    show(&outcome, out);
    let diverged = outcome.diverged;
    let verdict = first.verdict();
    Ok(if diverged.is_empty() { verdict } else { DAMAGED })
}

/// What was compared, and what differs.
struct Outcome<'a> {
    first: &'a Folded,
    sha256: String,
    /// Number of snapshots that were compared with the fold.
    compared: u64,
    live: Option<Digest>,
    diverged: Vec<String>,
}

fn show(outcome: &Outcome<'_>, out: &mut Out) {
    let Outcome { first, sha256, compared, live, diverged } = outcome;
    let seq = first.state.seq();
    if out.json {
        out.object(&json!({
            "ok": diverged.is_empty() && first.damage.is_none(), "seq": seq, "sha256": sha256,
            "folded": first.records, "snapshots": compared, "partial": first.partial(),
            "live": live.as_ref().map(|d| json!({ "seq": d.seq, "sha256": d.sha256 })),
            "diverged": diverged,
        }));
        return;
    }
    out.line(&format!("state after record {seq}: {sha256}"));
    let what = format!("two folds of {} records, {compared} snapshots", first.records);
    let live = live.as_ref().map_or_else(
        || "no daemon has the log open".to_owned(),
        |d| format!("the daemon's state after record {}", d.seq),
    );
    if diverged.is_empty() {
        let mark = out.paint(Tone::Good, "agree");
        out.line(&format!("{mark}: {what}; {live}"));
    }
    for text in diverged {
        let mark = out.paint(Tone::Bad, "DIVERGED");
        out.line(&format!("{mark}: {text}"));
    }
}

/// The daemon's hash, of a state that the copy of its log reaches.
fn ask(file: &Path, source: &mut Source) -> Result<Option<Digest>, Problem> {
    let Some(live) = source.live.clone() else { return Ok(None) };
    let failed = |source| Problem::Daemon { dir: live.dir.clone(), source };
    for _ in 0..TRIES {
        let digest = live.digest().map_err(failed)?;
        if digest.log_id != hex(&source.log.log_id()) {
            let other = std::io::Error::other("it serves another log by now");
            return Err(failed(other));
        }
        if source.log.head().is_some_and(|head| head.seq >= digest.seq) {
            return Ok(Some(digest));
        }
        // It has gone on since the copy was made.
        *source = Source::open(file)?;
    }
    let busy = std::io::Error::other("it writes faster than its log can be read");
    Err(failed(busy))
}
