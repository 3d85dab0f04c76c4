//! Which records are wanted: by position, time, environment, kind, operation, start, and who asked.
//!
//! What the envelope can answer is asked first, so that most records are never decoded.

use clap::Args;
use groundskeeper_core::Time;
use groundskeeper_core::event::Record;
use groundskeeper_journal::envelope::Envelope;
use groundskeeper_journal::peek;
use serde_json::Value;

use crate::problem::Problem;

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Filter {
    /// Only about this environment
    #[arg(long = "env", short = 'e', value_name = "ENV")]
    pub(crate) environment: Option<String>,
    /// Only of this kind, such as Tombstoned; may be given several times
    #[arg(long, short = 'k', value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Only of this operation: daemon, provision, restore, adopt, teardown, lease, trust, trash,
    /// process, clean, sweep, watch, label, reconcile, migration
    #[arg(long, short = 'o', value_name = "OPERATION")]
    pub(crate) operation: Vec<String>,
    /// Not before: a time (UTC), a date, or how long ago (2h, 3d)
    #[arg(long, short = 'S', value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Not after
    #[arg(long, short = 'U', value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
    /// From this record on
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<u64>,
    /// Up to this record
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<u64>,
    /// Only of this start of a daemon, counted from 1
    #[arg(long, short = 'b', value_name = "N")]
    pub(crate) boot: Option<u32>,
    /// Only what this actor asked for: a door (api, session, daemon), uid:N or pid:N
    #[arg(long, short = 'a', value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Only records that have this text somewhere
    #[arg(long, short = 'g', value_name = "TEXT")]
    pub(crate) grep: Option<String>,
}

/// A filter, checked.
pub(crate) struct Wanted {
    filter: Filter,
    kinds: Vec<u32>,
    since: Option<Time>,
    until: Option<Time>,
}

/// The operations, and the kinds that belong to each.
const OPERATIONS: [(&str, &[(u32, u32)]); 15] = [
    ("daemon", &[(1, 8)]),
    ("provision", &[(10, 21)]),
    ("restore", &[(22, 24)]),
    ("adopt", &[(25, 25)]),
    ("teardown", &[(30, 37), (60, 65)]),
    ("lease", &[(40, 42)]),
    ("trust", &[(50, 52)]),
    ("trash", &[(70, 79), (89, 89), (92, 92)]),
    ("process", &[(80, 81), (112, 113)]),
    ("clean", &[(82, 88)]),
    ("sweep", &[(90, 91)]),
    ("watch", &[(100, 101)]),
    ("label", &[(102, 102)]),
    ("reconcile", &[(110, 111), (114, 114)]),
    ("migration", &[(120, 135)]),
];

/// The operation that a kind belongs to; `other` for one that this program does not know.
pub(crate) fn operation_of(kind: u32) -> &'static str {
    let within = |(from, to): &(u32, u32)| (*from..=*to).contains(&kind);
    let found = OPERATIONS.iter().find(|(_, ranges)| ranges.iter().any(within));
    found.map_or("other", |(name, _)| name)
}

/// A time as people type it.
pub(crate) fn time(text: &str) -> Result<Time, Problem> {
    groundskeeper_journal::format::parse_time(text).ok_or_else(|| {
        Problem::usage(
            format!("{text:?} is neither a time nor a position"),
            "write 2026-11-22T01:30:00Z, 2026-11-22 01:30, 2026-11-22, or how long ago: 2h, 3d",
        )
    })
}

impl Wanted {
    pub(crate) fn new(filter: &Filter) -> Result<Self, Problem> {
        let mut kinds = Vec::new();
        for name in &filter.kind {
            let number = peek::kind_number(name).or_else(|| name.parse().ok());
            kinds.push(number.ok_or_else(|| {
                let near = peek::KINDS.iter().filter(|k| resembles(k, name));
                let near: Vec<&str> = near.copied().take(6).collect();
                let near = if near.is_empty() { peek::KINDS.join(", ") } else { near.join(", ") };
                Problem::usage(
                    format!("there is no kind {name:?}"),
                    format!("use one of these kinds: {near}"),
                )
            })?);
        }
        for name in &filter.operation {
            let found = OPERATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let (_, ranges) = found.ok_or_else(|| {
                let known: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
                let hint = format!("use one of these operations: {}", known.join(", "));
                Problem::usage(format!("there is no operation {name:?}"), hint)
            })?;
            kinds.extend(ranges.iter().flat_map(|(from, to)| *from..=*to));
        }
        let since = filter.since.as_deref().map(time).transpose()?;
        let until = filter.until.as_deref().map(time).transpose()?;
        Ok(Self { filter: filter.clone(), kinds, since, until })
    }

    /// The first position that may be wanted.
    pub(crate) fn from(&self) -> u64 {
        self.filter.from.unwrap_or(0)
    }

    /// Whether every record from [`Wanted::from`] on is wanted.
    pub(crate) fn is_everything(&self) -> bool {
        self.filter == Filter { from: self.filter.from, ..Filter::default() }
    }

    /// The last position that may be wanted.
    pub(crate) fn to(&self) -> u64 {
        self.filter.to.unwrap_or(u64::MAX)
    }

    /// Whether no later record can be wanted: time never runs backwards in a log.
    pub(crate) fn is_past(&self, e: &Envelope<'_>) -> bool {
        self.until.is_some_and(|until| Time(e.at) > until) || e.seq > self.to()
    }

    /// Whether no earlier record can be wanted.
    pub(crate) fn is_before(&self, e: &Envelope<'_>) -> bool {
        self.since.is_some_and(|since| Time(e.at) < since) || e.seq < self.from()
    }

    /// Whether a record may be wanted, as far as its envelope tells.
    pub(crate) fn takes(&self, e: &Envelope<'_>) -> bool {
        let about =
            |id: &String| peek::environment(e) == Some(id.as_str()) || matches!(e.kind, 110 | 114);
        !self.is_past(e)
            && !self.is_before(e)
            && (self.kinds.is_empty() || self.kinds.contains(&e.kind))
            && self.filter.boot.is_none_or(|boot| boot == e.boot)
            && self.filter.environment.as_ref().is_none_or(about)
    }

    /// Whether a record is wanted, as far as its payload tells.
    pub(crate) fn wants(&self, record: &Record, json: &Value) -> bool {
        let about = |id: &String| match &record.event {
            groundskeeper_core::Event::LiveSetTaken(_)
            | groundskeeper_core::Event::LiveSetContinued(_) => mentions(json, id),
            event => event.environment().is_some_and(|e| e.as_str() == id),
        };
        let grep = |text: &String| json.to_string().contains(text.as_str());
        self.filter.environment.as_ref().is_none_or(about)
            && self.filter.actor.as_ref().is_none_or(|who| by(json, who))
            && self.filter.grep.as_ref().is_none_or(grep)
    }
}

fn resembles(kind: &str, name: &str) -> bool {
    kind.to_ascii_lowercase().contains(&name.to_ascii_lowercase())
}

/// Whether a live set names an environment as one that it took away, kept or healed.
fn mentions(json: &Value, id: &str) -> bool {
    let lists = ["retired", "missing", "healed"];
    let named = lists.iter().filter_map(|list| json[list].as_array()).flatten();
    let kept = json["kept"].as_array().into_iter().flatten().map(|kept| &kept["environment"]);
    named.chain(kept).any(|name| name == id)
}

/// Whether an actor asked for it: a door, `uid:N` or `pid:N`.
fn by(json: &Value, who: &str) -> bool {
    let actor = &json["actor"];
    match who.split_once(':') {
        Some((field @ ("uid" | "pid"), number)) => {
            number.parse::<u64>().is_ok_and(|n| actor[field] == n)
        }
        _ => actor["door"] == who,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_operation() {
        for name in peek::KINDS {
            let number = peek::kind_number(name).expect("a number");
            assert_ne!(operation_of(number), "other", "{name}");
        }
        assert_eq!(operation_of(9_999), "other");
    }

    #[test]
    fn wrong_filter_suggests_valid_names() {
        let filter = Filter { kind: vec!["tomb".into()], ..Filter::default() };
        let problem = Wanted::new(&filter).err().expect("refused");
        assert!(problem.hint().contains("Tombstoned"), "{}", problem.hint());
    }
}
