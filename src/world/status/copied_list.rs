//! The list of the files that the copy of included files made, with the proof that each is
//! unchanged. Writes and parses that list; `included_files.rs` decides what follows from it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::core::Fault;
use crate::world::fs::paths;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::racy;

/// Name of the list in the administrative directory.
pub(super) const LIST: &str = "groundskeeper.included";

const HEADER: &[u8] = b"groundskeeper included 1";

/// Bound on the files and links of one list, and on the entries that one check visits.
pub(super) const ENTRIES_MAX: usize = 20_000;

pub(super) const LIST_BYTES_MAX: u64 = 8 << 20;

/// Largest file that is hashed because a clock tick leaves it unproven, in bytes.
const HASHED_BYTES_MAX: u64 = 1 << 20;

/// State of a file or link at the time it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) stat: Stat,
    pub(super) proof: Proof,
}

/// Evidence that a file has not changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Equal stat data, since no program can set a ctime.
    Stat,
    /// Equal stat data and these bytes (SHA-256): a change within the clock tick in which the copy
    /// ended would not alter the stat data.
    Bytes(String),
    /// Equal stat data and the bytes of the source: as above, but the file is too
    /// large to be hashed.
    Source,
}

/// Collects what the copy makes.
#[derive(Debug, Default)]
pub(in crate::world) struct Recorder {
    pub(super) made: BTreeMap<Vec<u8>, Made>,
    pub(super) overflowed: bool,
}

impl Recorder {
    /// Records a file or link that was made, or found equal to the source.
    ///
    /// # Errors
    /// The error of the system.
    pub(in crate::world) fn note(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        if self.made.len() >= ENTRIES_MAX {
            self.overflowed = true;
            return Ok(());
        }
        let stat = Stat::of(&target.join(path).symlink_metadata()?);
        let made = Made { stat, proof: Proof::Stat };
        self.made.insert(path.as_os_str().as_bytes().to_vec(), made);
        Ok(())
    }

    /// Writes the list atomically. A list that exceeds the bounds is removed instead: without one,
    /// only equality with the source counts later.
    ///
    /// # Errors
    /// The error of the system.
    pub(in crate::world) fn write(mut self, admin: &Path, target: &Path) -> Result<(), Fault> {
        let place = admin.join(LIST);
        self.prove_the_last(target);
        let text = render(&self.made);
        if self.overflowed || text.len() as u64 > LIST_BYTES_MAX {
            return paths::remove_file_if_any(&place).map_err(paths::failed("remove", &place));
        }
        let fresh = admin.join(format!("{LIST}.new"));
        std::fs::write(&fresh, text).map_err(paths::failed("write", &fresh))?;
        paths::rename(&fresh, &place).map_err(paths::failed("write", &place))
    }

    /// An edit comes after the last copy, so it can hide only in files as young as that copy.
    fn prove_the_last(&mut self, target: &Path) {
        let Some(last) = self.made.values().map(|made| made.stat.ctime).max() else { return };
        for (path, made) in self.made.iter_mut().filter(|(_, made)| !made.stat.is_before(last)) {
            let digest = digest(&target.join(paths::from_bytes(path)));
            made.proof = digest.map_or(Proof::Source, Proof::Bytes);
        }
    }
}

pub(super) fn digest(path: &Path) -> Option<String> {
    let found = path.symlink_metadata().ok().filter(|found| found.len() <= HASHED_BYTES_MAX)?;
    let bytes = racy::content(path, &found).ok()?;
    Some(crate::format::hex(&Hash::Sha256.of(&[&bytes])))
}

/// Formats one record per file, ended by a NUL, with the path last. The number of records ends the
/// list, so that a truncated one is detected.
fn render(made: &BTreeMap<Vec<u8>, Made>) -> Vec<u8> {
    let mut out = [HEADER, b"\0"].concat();
    for (path, Made { stat: s, proof }) in made {
        let proof = match proof {
            Proof::Stat => "stat",
            Proof::Source => "source",
            Proof::Bytes(digest) => digest,
        };
        let times = [s.ctime.0, s.ctime.1, s.mtime.0, s.mtime.1];
        let rest = [s.dev, s.ino, s.uid, s.gid, s.size];
        for number in times.into_iter().chain(rest) {
            out.extend_from_slice(format!("{number} ").as_bytes());
        }
        out.extend_from_slice(format!("{proof} ").as_bytes());
        out.extend_from_slice(path);
        out.push(0);
    }
    out.extend_from_slice(format!("end {}\0", made.len()).as_bytes());
    out
}

/// Parses a list; `None` when it is not complete.
pub(super) fn parse(text: &[u8]) -> Option<BTreeMap<Vec<u8>, Made>> {
    let rest = text.strip_prefix(HEADER)?.strip_prefix(b"\0")?.strip_suffix(b"\0")?;
    let mut records: Vec<&[u8]> = rest.split(|b| *b == 0).collect();
    let end = records.pop()?;
    let made: BTreeMap<_, _> = records.iter().map(|r| record(r)).collect::<Option<_>>()?;
    (end == format!("end {}", made.len()).as_bytes()).then_some(made)
}

fn record(text: &[u8]) -> Option<(Vec<u8>, Made)> {
    let mut words = text.splitn(11, |b| *b == b' ');
    let mut numbers = [0_u32; 9];
    for number in &mut numbers {
        *number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    }
    let proof = match words.next()? {
        b"stat" => Proof::Stat,
        b"source" => Proof::Source,
        digest => Proof::Bytes(String::from_utf8(digest.to_vec()).ok()?),
    };
    let [c, c_nanos, m, m_nanos, dev, ino, uid, gid, size] = numbers;
    let stat = Stat { ctime: (c, c_nanos), mtime: (m, m_nanos), dev, ino, uid, gid, size };
    Some((words.next()?.to_vec(), Made { stat, proof }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_round_trips_and_rejects_cuts() {
        let stat = Stat { ctime: (1, 2), mtime: (3, 4), dev: 5, ino: 6, uid: 7, gid: 8, size: 9 };
        let made = |proof| Made { stat, proof };
        let list = BTreeMap::from([
            (b"a b\nc".to_vec(), made(Proof::Stat)),
            (b"\xff/x".to_vec(), made(Proof::Bytes("00ff".into()))),
            (b"large".to_vec(), made(Proof::Source)),
        ]);
        let text = render(&list);
        assert_eq!(parse(&text), Some(list));
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]), None, "cut at {cut}");
        }
    }
}
