//! `fork`: a new log of the records up to a point, which a daemon or this tool can open.

use std::ops::ControlFlow;

use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::format::hex;
use groundskeeper_journal::rebuild::Rewrite;
use groundskeeper_journal::{Base, Error, ReadOnlyLog};
use serde_json::json;

use crate::args::ForkArgs;
use crate::fold::position;
use crate::out::Out;
use crate::problem::{INTACT, Problem};
use crate::source::Source;

/// Forks.
pub(crate) fn fork(args: &ForkArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let to = position(&source.log, &args.at)?;
    let base = base_of(&source.log, to)?;
    let log_id = args.same_id.then(|| source.log.log_id());
    let mut new = Rewrite::after(&args.new, log_id, base)?;
    if base.is_some() {
        source.log.lives(&mut |lives| new.carry(lives))?;
    }
    let mut chain = source.log.chain();
    let mut failed: Option<Problem> = None;
    source.log.walk(Range::up_to(to), &mut |key, bytes| {
        let put = match chain.next(key, bytes) {
            Ok(sealed) => new.put(&sealed).map_err(Problem::from),
            Err(damage) => Err(Error::Damaged { path: source.path.clone(), damage }.into()),
        };
        match put {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => {
                failed = Some(problem);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(problem) = failed {
        return Err(problem);
    }
    if to != u64::MAX && new.head().seq < to {
        let last = new.head().seq;
        let what = format!("there is no record {to}: the log ends at {last}");
        return Err(Problem::missing(what, "use `--at last` for all records"));
    }
    let head = new.finish()?;
    if out.json {
        let new = args.new.display().to_string();
        out.object(&json!({ "ok": true, "new": new, "last": head.seq, "same_id": args.same_id }));
        return Ok(INTACT);
    }
    let first = source.log.first();
    out.line(&format!("records {first} to {} are in {}", head.seq, args.new.display()));
    if args.same_id {
        let id = hex(&source.log.log_id());
        out.line(&format!(
            "it has the identity of log {id}: a daemon manages what that log created"
        ));
    } else {
        out.line("it has its own identity: a daemon manages nothing that the old log created");
    }
    Ok(INTACT)
}

/// Returns the state that the new log begins with: none when it begins with record 1.
fn base_of(log: &ReadOnlyLog, to: u64) -> Result<Option<&Base>, Problem> {
    let base = log.base();
    if log.first() > 1 && base.is_none() {
        return Err(Problem::missing(
            format!("it begins with record {}, without the state before it", log.first()),
            "fork the log or a backup, not a part of a log",
        ));
    }
    if let Some(base) = base.filter(|base| base.head().seq > to) {
        return Err(Problem::missing(
            format!("the log begins after record {}: it was trimmed", base.head().seq),
            "name a later record, or fork a backup from before",
        ));
    }
    Ok(base)
}
