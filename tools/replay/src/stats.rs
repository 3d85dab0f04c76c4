//! `stats`: how much of what is in a log, read from the envelopes alone.
//!
//! Payloads are not decoded; the checksum of every record is checked unless that is not wanted,
//! and the output says which. Memory grows with the number of environments and days, not records.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use groundskeeper_core::Time;
use groundskeeper_journal::envelope::{self, HEADER_BYTES};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::format::{bytes, hex, rfc3339};
use groundskeeper_journal::{Error, peek};
use serde_json::{Value, json};

use crate::args::StatsArgs;
use crate::filter::operation_of;
use crate::out::{Out, note, safe, span};
use crate::problem::{DAMAGED, INTACT, Problem};
use crate::source::Source;

const DAY: u64 = 86_400 * 1_000_000_000;
/// Environments that are counted one by one; the rest is counted as one.
const ENVIRONMENTS_MAX: usize = 100_000;

#[derive(Default, Clone, Copy)]
struct Sum {
    records: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

/// Counts that are mostly about the same thing as the one before.
struct Tally<K> {
    sums: BTreeMap<K, Sum>,
    current: Option<(K, Sum)>,
}

impl<K: Ord + Clone> Tally<K> {
    fn new() -> Self {
        Self { sums: BTreeMap::new(), current: None }
    }

    fn add<Q>(&mut self, key: &Q, bytes: usize)
    where
        Q: ?Sized + PartialEq<K>,
        for<'a> &'a Q: Into<K>,
    {
        match &mut self.current {
            Some((current, sum)) if *key == *current => sum.add(bytes),
            _ => {
                self.settle();
                let mut sum = Sum::default();
                sum.add(bytes);
                self.current = Some((key.into(), sum));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((key, more)) = self.current.take() {
            let sum = self.sums.entry(key).or_default();
            sum.records += more.records;
            sum.bytes += more.bytes;
        }
    }
}

struct Stats {
    total: Sum,
    kinds: Vec<Sum>,
    others: BTreeMap<u32, Sum>,
    environments: Tally<String>,
    days: BTreeMap<u64, Sum>,
    boots: BTreeMap<u32, Sum>,
    day: (u64, Sum),
    boot: (u32, Sum),
    largest: (u64, usize),
    first: Option<(u64, u64)>,
    last: (u64, u64),
    gaps: u64,
    damaged: u64,
}

impl Stats {
    fn new() -> Self {
        Self {
            total: Sum::default(),
            kinds: vec![Sum::default(); 256],
            others: BTreeMap::new(),
            environments: Tally::new(),
            days: BTreeMap::new(),
            boots: BTreeMap::new(),
            day: (0, Sum::default()),
            boot: (0, Sum::default()),
            largest: (0, 0),
            first: None,
            last: (0, 0),
            gaps: 0,
            damaged: 0,
        }
    }

    fn add(&mut self, e: &envelope::Envelope<'_>) {
        let size = e.payload.len() + HEADER_BYTES;
        self.total.add(size);
        match self.kinds.get_mut(e.kind as usize) {
            Some(sum) => sum.add(size),
            None => self.others.entry(e.kind).or_default().add(size),
        }
        if let Some(id) = peek::environment(e) {
            let room = self.environments.sums.len() < ENVIRONMENTS_MAX;
            self.environments.add(if room { id } else { "(others)" }, size);
        }
        let day = e.at / DAY;
        if self.day.0 != day {
            self.settle_day();
            self.day.0 = day;
        }
        self.day.1.add(size);
        if self.boot.0 != e.boot {
            self.settle_boot();
            self.boot.0 = e.boot;
        }
        self.boot.1.add(size);
        if size > self.largest.1 {
            self.largest = (e.seq, size);
        }
        self.gaps += u64::from(self.first.is_some() && e.seq != self.last.0 + 1);
        self.first.get_or_insert((e.seq, e.at));
        self.last = (e.seq, e.at);
    }

    fn settle_day(&mut self) {
        let sum = self.days.entry(self.day.0).or_default();
        sum.records += self.day.1.records;
        sum.bytes += self.day.1.bytes;
        self.day.1 = Sum::default();
    }

    fn settle_boot(&mut self) {
        let sum = self.boots.entry(self.boot.0).or_default();
        sum.records += self.boot.1.records;
        sum.bytes += self.boot.1.bytes;
        self.boot.1 = Sum::default();
    }

    fn settle(&mut self) {
        self.environments.settle();
        self.settle_day();
        self.settle_boot();
        self.days.retain(|_, sum| sum.records > 0);
        self.boots.retain(|_, sum| sum.records > 0);
    }

    /// The kinds that there are, most records first.
    fn by_kind(&self) -> Vec<(String, &'static str, Sum)> {
        let known = (0_u32..).zip(&self.kinds).map(|(n, sum)| (n, *sum));
        let all = known.chain(self.others.iter().map(|(n, sum)| (*n, *sum)));
        let mut all: Vec<_> = all
            .filter(|(_, sum)| sum.records > 0)
            .map(|(n, sum)| {
                let name = peek::kind_name(n).map_or_else(|| format!("kind {n}"), str::to_owned);
                (name, operation_of(n), sum)
            })
            .collect();
        all.sort_by(|a, b| b.2.records.cmp(&a.2.records).then(a.0.cmp(&b.0)));
        all
    }

    fn by_environment(&self) -> Vec<(&String, Sum)> {
        let mut all: Vec<_> = self.environments.sums.iter().map(|(k, v)| (k, *v)).collect();
        all.sort_by(|a, b| b.1.records.cmp(&a.1.records).then(a.0.cmp(b.0)));
        all
    }
}

/// Counts.
pub(crate) fn stats(args: &StatsArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    let mut stats = Stats::new();
    let check = !args.no_checksums;
    let walked = source.log.walk(Range::ALL, &mut |key, bytes| {
        let opened =
            if check { envelope::open(key, bytes) } else { envelope::open_unchecked(key, bytes) };
        match opened {
            Ok(sealed) => stats.add(&sealed),
            Err(_) => stats.damaged += 1,
        }
        ControlFlow::Continue(())
    });
    match walked {
        Err(Error::Damaged { damage, .. }) => {
            stats.damaged += 1;
            note(&format!("warning: partial: {damage}"));
        }
        other => other?,
    }
    stats.settle();
    let file = source.path.metadata().map_or(0, |m| m.len());
    if out.json {
        out.object(&as_json(&stats, &source, file, check, args.top));
    } else {
        print(&stats, &source, file, check, args.top, out);
    }
    Ok(if stats.damaged > 0 || stats.gaps > 0 { DAMAGED } else { INTACT })
}

fn as_json(stats: &Stats, source: &Source, file: u64, checked: bool, top: usize) -> Value {
    let row = |sum: &Sum| json!({ "records": sum.records, "bytes": sum.bytes });
    let named = |name: Value, sum: &Sum| {
        let mut value = row(sum);
        value["name"] = name;
        value
    };
    let kinds = stats.by_kind();
    let kinds = kinds.iter().map(|(name, operation, sum)| {
        let mut value = named(name.as_str().into(), sum);
        value["operation"] = (*operation).into();
        value
    });
    let environments = stats.by_environment();
    let count = environments.len();
    let environments = environments.iter().take(top).map(|(k, sum)| named(k.as_str().into(), sum));
    json!({
        "log_id": hex(&source.log.log_id()), "file_bytes": file,
        "records": stats.total.records, "bytes": stats.total.bytes,
        "first": stats.first.map(|(seq, at)| json!({ "seq": seq, "at": rfc3339(Time(at)) })),
        "last": { "seq": stats.last.0, "at": rfc3339(Time(stats.last.1)) },
        "largest": { "seq": stats.largest.0, "bytes": stats.largest.1 },
        "gaps": stats.gaps, "damaged": stats.damaged, "checksums_checked": checked,
        "kinds": kinds.collect::<Vec<_>>(),
        "environments": count, "top_environments": environments.collect::<Vec<_>>(),
        "days": stats.days.iter().map(|(day, s)| named(date(*day).into(), s)).collect::<Vec<_>>(),
        "starts": stats.boots.iter().map(|(n, s)| named((*n).into(), s)).collect::<Vec<_>>(),
    })
}

fn date(day: u64) -> String {
    rfc3339(Time(day.saturating_mul(DAY))).get(..10).unwrap_or_default().to_owned()
}

fn print(stats: &Stats, source: &Source, file: u64, checked: bool, top: usize, out: &mut Out) {
    let id = hex(&source.log.log_id());
    out.line(&format!("log {id}, {} on disk", bytes(file)));
    let first = stats.first.unwrap_or_default();
    let spent = span(stats.last.1.saturating_sub(first.1));
    out.line(&format!(
        "{} records ({} to {}), {}, from {} to {} ({spent})",
        stats.total.records,
        first.0,
        stats.last.0,
        bytes(stats.total.bytes),
        rfc3339(Time(first.1)),
        rfc3339(Time(stats.last.1)),
    ));
    let found = format!("{} damaged, {} gaps", stats.damaged, stats.gaps);
    let how =
        if checked { "the checksum of each was checked" } else { "checksums were NOT checked" };
    out.line(&format!("{found}; {how}"));
    let (seq, size) = stats.largest;
    out.line(&format!("the largest record is {seq} with {}", bytes(size as u64)));
    let row = |name: String, sum: &Sum| vec![name, sum.records.to_string(), bytes(sum.bytes)];
    let kinds = stats.by_kind();
    let rows = kinds.iter().map(|(name, operation, sum)| {
        vec![name.clone(), (*operation).to_owned(), sum.records.to_string(), bytes(sum.bytes)]
    });
    out.table("kinds", &["KIND", "OPERATION", "RECORDS", "SIZE"], rows.collect());
    let environments = stats.by_environment();
    let rows = environments.iter().take(top).map(|(id, sum)| row(safe(id), sum)).collect();
    let title = format!("environments ({})", environments.len());
    out.table(&title, &["ENVIRONMENT", "RECORDS", "SIZE"], rows);
    let skipped = stats.days.len().saturating_sub(top);
    let rows = stats.days.iter().skip(skipped).map(|(day, sum)| row(date(*day), sum)).collect();
    out.table("days", &["DAY", "RECORDS", "SIZE"], rows);
    let skipped = stats.boots.len().saturating_sub(top);
    let rows = stats.boots.iter().skip(skipped).map(|(n, sum)| row(n.to_string(), sum)).collect();
    out.table("daemon starts", &["START", "RECORDS", "SIZE"], rows);
}
