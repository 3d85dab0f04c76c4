//! Unpacks a data directory of an earlier release at a new path. The old path, and every device and
//! inode that identifies a directory, are replaced byte by byte, so that log payloads keep the
//! versions in which they were written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use groundskeeper::journal::ReadOnlyLog;
use groundskeeper::journal::envelope::Envelope;
use groundskeeper::journal::forensic::Range;
use groundskeeper::journal::rebuild::Rewrite;

use crate::support::Harness;

/// Old path of the packed directory. The new path has the same length.
const MADE_AT: &str = "/tmp/gk-fixture-000000";

/// Identity of a directory: device and inode.
type Identity = (u64, u64);

/// Unpacks an archive into a new directory and adapts it to that path.
pub(crate) fn lay_out(archive: &str) -> Harness {
    // Not in the system's temporary directory: its path may be longer than the old one.
    let (parent, name) = MADE_AT.rsplit_once('/').expect("a path");
    let prefix = name.trim_end_matches('0');
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).rand_bytes(name.len() - prefix.len());
    let harness = Harness { dir: builder.tempdir_in(parent).expect("a directory") };
    let root = harness.path("");
    let root = root.to_str().expect("text").trim_end_matches('/');
    assert_eq!(root.len(), MADE_AT.len(), "{root}");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(archive);
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xJpf"]).arg(archive).args(["-C", root]);
    assert!(tar.status().expect("tar").success());

    let moved = (MADE_AT.as_bytes().to_vec(), root.as_bytes().to_vec());
    let log = harness.data().join("log.redb");
    for path in files(Path::new(root)).iter().filter(|path| **path != log) {
        replace_in(path, std::slice::from_ref(&moved));
    }
    let identities = identities(&harness);
    mark(&harness, &identities);
    let bytes = |(device, inode): Identity| [device.to_le_bytes(), inode.to_le_bytes()].concat();
    let mut moves: Vec<_> = identities.iter().map(|(&a, &b)| (bytes(a), bytes(b))).collect();
    moves.push(moved);
    rewrite(&log, &moves);
    harness
}

/// Lists all files below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in dir.read_dir().expect("read").map(|entry| entry.expect("an entry")) {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Replaces texts by others of the same length, from left to right; no byte is replaced twice.
fn replaced(bytes: &[u8], moves: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut at) = (bytes.to_vec(), 0);
    while at < bytes.len() {
        let found = moves.iter().find(|(old, _)| bytes[at..].starts_with(old));
        if let Some((_, new)) = found {
            out[at..at + new.len()].copy_from_slice(new);
        }
        at += found.map_or(1, |(old, _)| old.len());
    }
    out
}

/// Replaces texts in a file and restores its mtime.
fn replace_in(path: &Path, moves: &[(Vec<u8>, Vec<u8>)]) {
    let before = std::fs::read(path).expect("read");
    let after = replaced(&before, moves);
    if after != before {
        let age = path.metadata().and_then(|found| found.modified()).expect("an age");
        std::fs::write(path, after).expect("written");
        let file = std::fs::File::options().append(true).open(path).expect("opened");
        file.set_modified(age).expect("an age");
    }
}

/// Maps the old identity of each directory to its new one.
fn identities(harness: &Harness) -> BTreeMap<Identity, Identity> {
    let text = std::fs::read_to_string(harness.path("facts/identities")).expect("read");
    let one = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        let then = (number(), number());
        let now = harness.path(words.next().expect("a path")).metadata().expect("a directory");
        (then, (now.dev(), now.ino()))
    };
    text.lines().map(one).collect()
}

/// Writes the new identities into the markers of worktrees.
fn mark(harness: &Harness, identities: &BTreeMap<Identity, Identity>) {
    let text = |(device, inode): Identity| format!("\"device\":{device},\"inode\":{inode},");
    let admin = files(&harness.path("project/.git"));
    for path in admin.iter().filter(|path| path.ends_with("groundskeeper.json")) {
        let before = std::fs::read_to_string(path).expect("read");
        let known = identities.iter().find(|(then, _)| before.contains(&text(**then)));
        let (then, now) = known.unwrap_or_else(|| panic!("nothing has the identity in {before}"));
        std::fs::write(path, before.replace(&text(*then), &text(*now))).expect("written");
    }
}

/// Replaces bytes in the payloads of a log; all else except the checksums stays.
fn rewrite(log: &Path, moves: &[(Vec<u8>, Vec<u8>)]) {
    let old = ReadOnlyLog::open(log).expect("a log");
    let fresh = log.with_extension("relocated");
    let mut new = Rewrite::create(&fresh, Some(old.log_id())).expect("a new log");
    let mut chain = old.chain();
    let walked = old.walk(Range::ALL, &mut |key, bytes| {
        let sealed = chain.next(key, bytes).expect("an intact log");
        let payload = replaced(sealed.payload, moves);
        new.put(&Envelope { payload: &payload, ..sealed }).expect("written");
        ControlFlow::Continue(())
    });
    walked.expect("an intact log");
    let (then, now) = (old.head().expect("a head"), new.finish().expect("a whole log"));
    assert_eq!((then, now.seq), (chain.last(), then.seq), "every record was taken over");
    drop(old);
    std::fs::rename(&fresh, log).expect("in its place");
}
