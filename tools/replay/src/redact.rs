//! `redact`: a log that can be shown to others. Names, paths, branches, messages and output are
//! hashed; positions, times, kinds, steps, codes, numbers and what belongs together stay.
//!
//! The hash is salted anew for each run, so that a name cannot be looked up by guessing it; the
//! same text is the same hash throughout, and parts of a path are hashed one by one.

use std::ops::ControlFlow;

use groundskeeper_core::event::{self, Event, Opaque, Record};
use groundskeeper_core::for_each_event;
use groundskeeper_core::policy::BranchPolicy;
use groundskeeper_core::{Code, Step};
use groundskeeper_journal::codec::{self, Decoded};
use groundskeeper_journal::forensic::Range;
use groundskeeper_journal::format;
use groundskeeper_journal::format::hex;
use groundskeeper_journal::rebuild::Rewrite;
use groundskeeper_journal::{Error, envelope};
use serde_json::Value;
use sha2::Digest as _;

use crate::args::RedactArgs;
use crate::out::{Out, note};
use crate::problem::{INTACT, Problem, write};
use crate::source::Source;

/// Words that say nothing about anybody.
const WORDS: &[&str] = &[
    "api",
    "session",
    "daemon",
    "server",
    "request",
    "reconcile",
    "gc",
    "sweep",
    "signal",
    "age",
    "bytes",
    "count",
    "disk",
    "lose",
    "sha1",
    "sha256",
    "parallel",
    "git",
    "done",
    "refuse",
    "keep-first",
    "rename",
    "leased",
    "processes",
    "adopted",
    "newer",
    "more",
    "timeout",
    "interrupted",
    "destroyed",
    "cgroup",
    "group",
    "marker",
    "child",
    "cwd",
    "root",
    "file",
    "directory",
    "registration",
    "staging",
    "lock",
    "temporary",
    "process",
    "trash",
    "HEAD",
    "refs",
    "heads",
    "remotes",
    "tags",
    "origin",
    "groundskeeper",
    "rescue",
    ".git",
    "worktrees",
    "home",
    "tmp",
    "building",
    "built",
    "canonical-moved",
    "committed",
    "unreadable",
    "stranded",
    "",
    ".",
];

/// Redacts.
pub(crate) fn redact(args: &RedactArgs, out: &mut Out) -> Result<u8, Problem> {
    let source = Source::open(&args.file)?;
    if source.log.first() > 1 && args.new.is_some() {
        return Err(Problem::missing(
            format!("the log begins with record {}: it was trimmed", source.log.first()),
            "leave out the new log to redact the records that are there; the state that the log \
             begins with has names that redaction does not reach",
        ));
    }
    let redactor = Redactor::new(args.salt.as_deref())?;
    let mut new = args.new.as_deref().map(|path| Rewrite::create(path, None)).transpose()?;
    let mut chain = source.log.chain();
    let mut failed: Option<Problem> = None;
    let mut records = 0_u64;
    source.log.walk(Range::ALL, &mut |key, bytes| {
        let done = chain
            .next(key, bytes)
            .and_then(|sealed| codec::decode(&sealed))
            .map_err(|damage| Error::Damaged { path: source.path.clone(), damage }.into())
            .and_then(|decoded| match decoded {
                Decoded::Record(record) => redactor.record(&record),
                Decoded::Newer(what) => {
                    Err(Error::Newer { path: source.path.clone(), what }.into())
                }
            })
            .and_then(|record| put(&record, new.as_mut(), out));
        records += 1;
        match done {
            Ok(()) if !out.closed => ControlFlow::Continue(()),
            Ok(()) => ControlFlow::Break(()),
            Err(problem) => {
                failed = Some(problem);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(problem) = failed {
        return Err(problem);
    }
    if let (Some(new), Some(path)) = (new, &args.new) {
        new.finish()?;
        note(&format!("wrote {records} records to {}", path.display()));
        note("inspect it before you share it: numbers, times and process ids are unchanged");
    }
    Ok(INTACT)
}

fn put(record: &Record, new: Option<&mut Rewrite>, out: &mut Out) -> Result<(), Problem> {
    let Some(new) = new else {
        out.object(&format::json(record));
        return Ok(());
    };
    let (bytes, _) = codec::encode(record, new.head().crc)?;
    let path = std::path::Path::new("the redacted log");
    let sealed = envelope::open(record.seq.0, &bytes).map_err(write("write", path))?;
    new.put(&sealed)?;
    Ok(())
}

macro_rules! rebuild {
    ($($kind:ident = $number:literal, $version:literal;)*) => {
        /// The event of a kind, from its JSON.
        fn rebuild(number: u32, value: Value) -> Result<Event, serde_json::Error> {
            match number {
                $($number => Ok(serde_json::from_value::<event::$kind>(value)?.into()),)*
                _ => Err(serde::de::Error::custom("there is no such kind")),
            }
        }
    };
}
for_each_event!(rebuild);

struct Redactor {
    salt: Vec<u8>,
    kept: std::collections::BTreeSet<&'static str>,
}

impl Redactor {
    fn new(salt: Option<&str>) -> Result<Self, Problem> {
        let mut random = vec![0; 16];
        getrandom::fill(&mut random).map_err(|e| {
            write("read random bytes for", std::path::Path::new("the salt"))(e.to_string())
        })?;
        let salt = salt.map_or(random, |text| text.as_bytes().to_vec());
        let steps = Step::ALL.iter().map(|s| s.as_str());
        let codes = Code::ALL.iter().map(|c| c.as_str());
        let policies = BranchPolicy::ALL.into_iter().map(BranchPolicy::as_str);
        let kept = WORDS.iter().copied().chain(steps).chain(codes).chain(policies).collect();
        Ok(Self { salt, kept })
    }

    fn record(&self, record: &Record) -> Result<Record, Problem> {
        let event = match &record.event {
            Event::Opaque(opaque) => {
                let payload = Vec::new();
                Event::Opaque(Opaque { payload, ..opaque.clone() })
            }
            event => {
                let path = std::path::PathBuf::from(format!("record {}", record.seq));
                let mut value = serde_json::to_value(event).map_err(write("redact", &path))?;
                self.value("", &mut value);
                rebuild(event.kind_number(), value).map_err(write("redact", &path))?
            }
        };
        Ok(Record { event, ..record.clone() })
    }

    fn value(&self, key: &str, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(key, text),
            Value::Array(list) => list.iter_mut().for_each(|v| self.value(key, v)),
            Value::Object(map) => map.iter_mut().for_each(|(key, v)| self.value(key, v)),
            _ => {}
        }
    }

    fn text(&self, key: &str, text: &str) -> String {
        // Words for people are one piece, whatever is in them.
        let prose = ["message", "causes", "evidence", "hint", "unsaved", "leftovers", "detail"];
        let named = ["noted", "lacks", "holds"];
        let prose = prose.contains(&key) || named.contains(&key);
        let prose = prose || text.contains(char::is_whitespace);
        // The codes of faults, and the versions of daemons, are nobody's.
        if key == "version" || key == "code" || self.kept.contains(text) {
            return text.to_owned();
        }
        if key == "migration" {
            return self.hash(text, 8);
        }
        let is_hash =
            matches!(text.len(), 32 | 40..) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hash {
            return self.hash(text, text.len());
        }
        if prose || !text.contains('/') {
            return self.word(text);
        }
        let parts: Vec<String> = text.split('/').map(|part| self.word(part)).collect();
        parts.join("/")
    }

    fn word(&self, text: &str) -> String {
        let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if self.kept.contains(text) || number {
            return text.to_owned();
        }
        // A letter first, so that it can name an environment.
        format!("x{}", self.hash(text, 10))
    }

    /// So many hex digits that say nothing about the text but which one it is.
    fn hash(&self, text: &str, digits: usize) -> String {
        let mut out = String::new();
        let mut round = 0_u8;
        while out.len() < digits {
            let mut hasher = sha2::Sha256::new();
            hasher.update(&self.salt);
            hasher.update([round]);
            hasher.update(text.as_bytes());
            out.push_str(&hex(&hasher.finalize()));
            round = round.wrapping_add(1);
        }
        out.truncate(digits);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(Some("salt")).expect("a redactor")
    }

    #[test]
    fn redaction_hides_names_keeps_relations() {
        let r = redactor();
        let path = r.text("path", "/home/alice/secret/worktrees/demo/1");
        assert!(!path.contains("alice") && !path.contains("secret") && !path.contains("demo"));
        assert!(path.starts_with("/home/x") && path.ends_with("/1"), "{path}");
        let demo = r.text("environment", "demo");
        assert!(path.contains(&demo), "{path} {demo}");
        assert!(r.text("branch", "gk/demo").ends_with(&demo));
        let commit = r.text("commit", &"a".repeat(40));
        assert!(commit.len() == 40 && commit != "a".repeat(40));
        assert_eq!(r.text("step", "add_worktree"), "add_worktree");
        assert_eq!(r.text("reason", ""), "");
        let message = r.text("message", "cannot read /home/alice/x: no such file");
        assert!(message.starts_with('x') && message.len() == 11, "{message}");
    }

    /// Every kind and version that is in the catalogue goes through, and tells no name.
    #[test]
    fn every_kind_can_be_redacted() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema/events");
        let mut kinds = 0;
        for entry in std::fs::read_dir(folder).expect("golden files").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_suffix(".bin") else { continue };
            let (number, rest) = rest.split_once('-').expect("a number");
            let (_, version) = rest.rsplit_once(".v").expect("a version");
            let payload = std::fs::read(entry.path()).expect("read");
            let sealed = envelope::Envelope {
                crc: 0,
                version: envelope::VERSION,
                codec: codec::CODEC_BINCODE1,
                flags: 0,
                seq: 1,
                at: 1,
                boot: 1,
                kind: number.parse().expect("a number"),
                kind_version: version.parse().expect("a version"),
                previous: 0,
                payload: &payload,
            };
            let Ok(Decoded::Record(record)) = codec::decode(&sealed) else { panic!("{name}") };
            let hidden = redactor().record(&record).expect("redacted");
            assert_eq!(hidden.event.kind(), record.event.kind());
            let (bytes, _) = codec::encode(&hidden, 0).expect("encoded");
            assert!(envelope::open(1, &bytes).is_ok(), "{name}");
            let text = format::json(&hidden).to_string();
            for word in ["demo", "project", "/u/", "key-1", "npm"] {
                assert!(!text.contains(word), "{name}: {word} in {text}");
            }
            kinds += 1;
        }
        assert!(kinds >= 70, "{kinds} golden files");
    }

    #[test]
    fn different_salt_gives_different_hash() {
        let other = Redactor::new(None).expect("a redactor");
        assert_ne!(redactor().text("branch", "demo"), other.text("branch", "demo"));
    }
}
