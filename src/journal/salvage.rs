//! Finds records by their bytes alone, in a file that redb may not be able to read.
//!
//! Every record begins with a magic number and has a length and a checksum, so a scan finds each
//! intact record wherever it lies, also in pages that are no longer in use. Of several records with
//! one position, the chain decides. Gaps are named. Memory holds only positions, about 40 bytes a
//! record. Nothing is ever written to the file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Kind of the placeholder that stands where a record was lost; no record of a daemon has it.
pub const LOST_KIND: u32 = 4_000_000_000;

use super::base::{self, Base};
use super::envelope::{self, Envelope, HEADER_BYTES, MAGIC, PAYLOAD_BYTES_MAX};
use super::error::Error;
use super::tables::{FORMAT, FORMAT_BASED, Head};
use crate::stream_format;
use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::portable;

/// Bytes of the file that are scanned at once; more than the longest record.
const WINDOW: usize = 4 << 20;
const RECORD_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;
/// How redb lays out the three entries of `meta` in one page: their names, then their values.
const TABLE_KEY: &[u8; 16] = b"formatheadlog_id";
const TABLE_KEY_BYTES: usize = 16 + 4 + 12 + 16;

/// Location of one intact record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLocation {
    /// Position in the log.
    pub seq: u64,
    /// Checksum of the record.
    pub crc: u32,
    previous: u32,
    offset: u64,
    length: u32,
}

/// Result of a scan.
#[derive(Debug)]
pub struct Salvage {
    path: PathBuf,
    file: File,
    /// What a trimmed log begins with, if it was found. Records before it are left out.
    pub base: Option<Base>,
    /// The chosen records by position, one for each.
    pub records: Vec<RecordLocation>,
    /// Missing positions from 1, or from the base on: first and last of each gap.
    pub lost: Vec<(u64, u64)>,
    /// Seqs of records that do not continue the record before them, although that one is there.
    pub unchained: Vec<u64>,
    /// Number of places that begin like a record and are not an intact one.
    pub damaged: u64,
    /// Identity of the log, if it was found.
    pub log_id: Option<[u8; 16]>,
    /// The last record, as named by the newest readable head whose record is there.
    pub head: Option<Head>,
    /// Length of the file in bytes.
    pub bytes: u64,
}

impl Salvage {
    /// Scans a file of any kind.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read or is not a regular file.
    pub fn scan(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "read", path: path.to_owned(), source };
        // Checked before the open: an open of a pipe would block until a process writes to it.
        let about = path.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(io(io::Error::other("it is not a file")));
        }
        let file = own_file::open(path, File::options().read(true), Links::Followed);
        let file = file.map_err(io)?;
        let mut scan = Scan::default();
        scan.run(&file).map_err(io)?;
        let Scan { mut found, damaged, identities, base } = scan;
        let begin = base.as_ref().map_or(Head::default(), Base::head);
        found.retain(|f| f.seq > begin.seq);
        // redb copies a page before it changes it, so one record can be found several times.
        found.sort_by_key(|f| (f.seq, f.offset));
        found.dedup_by_key(|f| (f.seq, f.crc));
        let head = identities.iter().filter_map(|(_, head)| *head);
        // Old pages can name a head whose record is lost; only a head whose record is there counts.
        let there = |head: &Head| found.iter().any(|f| (f.seq, f.crc) == (head.seq, head.crc));
        let head = head.filter(|head| there(head) || *head == begin).max_by_key(|head| head.seq);
        let log_id =
            identities.iter().find(|(_, h)| head.is_none() || *h == head).map(|(id, _)| *id);
        let records = choose(&found);
        let (lost, unchained) = gaps(&records, begin, head);
        let bytes = about.len();
        let path = path.to_owned();
        Ok(Self { path, file, base, records, lost, unchained, damaged, log_id, head, bytes })
    }

    /// Reads one of the records again into `buffer`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Damaged`] when the file has changed since the scan.
    pub fn read<'a>(
        &self,
        found: &RecordLocation,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Envelope<'a>, Error> {
        let io = |source| Error::Io { what: "read", path: self.path.clone(), source };
        buffer.resize(found.length as usize, 0);
        portable::read_exact_at(&self.file, buffer, found.offset).map_err(io)?;
        envelope::open(found.seq, buffer)
            .map_err(|damage| Error::Damaged { path: self.path.clone(), damage })
    }
}

#[derive(Default)]
struct Scan {
    found: Vec<RecordLocation>,
    damaged: u64,
    /// Identities and heads found in the file. Old pages can hold earlier heads.
    identities: Vec<([u8; 16], Option<Head>)>,
    /// The newest base. Old pages can hold earlier ones.
    base: Option<Base>,
}

impl Scan {
    fn run(&mut self, file: &File) -> io::Result<()> {
        let mut window = vec![0; WINDOW];
        let mut start = 0;
        loop {
            let have = fill(file, start, &mut window)?;
            let last = have < window.len();
            let bytes = &window[..have];
            // The next window begins at the records that may not fit into this one.
            let until = if last { have } else { have - RECORD_MAX };
            let mut at = 0;
            while at < until {
                // Every pattern that the scan knows begins with one of these two bytes.
                let Some(next) = bytes[at..until].iter().position(|b| matches!(b, b'G' | b'f'))
                else {
                    at = until;
                    break;
                };
                at += next;
                if bytes[at..].starts_with(&base::MAGIC) {
                    self.base_at(file, &bytes[at..], start + at as u64)?;
                }
                at += self.scan_at(&bytes[at..], start + at as u64);
            }
            if last {
                return Ok(());
            }
            start += at as u64;
        }
    }

    /// Reads a base, which may be longer than a window.
    fn base_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(length) = Base::length(bytes) else { return Ok(()) };
        // The length may be damaged.
        if offset + length as u64 > file.metadata()?.len() {
            return Ok(());
        }
        let mut frame = vec![0; length];
        portable::read_exact_at(file, &mut frame, offset)?;
        let found = Base::parse(&frame).filter(|base| base.state().is_some());
        let seq = |base: &Option<Base>| base.as_ref().map_or(0, |base| base.head().seq);
        if seq(&found) > seq(&self.base) {
            self.base = found;
        }
        Ok(())
    }

    /// Checks for a known pattern at the start of `bytes`; returns how many bytes to advance.
    fn scan_at(&mut self, bytes: &[u8], offset: u64) -> usize {
        if bytes.starts_with(TABLE_KEY) {
            self.identities(bytes);
            return 1;
        }
        if bytes.starts_with(&stream_format::HEAD_MAGIC) {
            self.identities
                .extend(stream_format::parse_head(bytes).ok().map(|start| (start.log_id, None)));
            return 1;
        }
        if bytes.starts_with(&stream_format::END_MAGIC) {
            let end = bytes.get(..stream_format::END_BYTES).and_then(stream_format::parse_end);
            if let (Some(end), Some(word)) = (end, self.identities.first_mut()) {
                word.1 = Some(end);
            }
            return 1;
        }
        if !bytes.starts_with(&MAGIC) {
            return 1;
        }
        let length = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let length = length.map_or(usize::MAX, |l| HEADER_BYTES.saturating_add(l as usize));
        let record = bytes.get(..length).filter(|_| length <= RECORD_MAX);
        let Some(sealed) = record.and_then(|r| envelope::open(0, r).ok()) else {
            self.damaged += 1;
            // Not the stated length: it may be damaged, and intact records may lie within it.
            return 1;
        };
        self.found.push(RecordLocation {
            seq: sealed.seq,
            crc: sealed.crc,
            previous: sealed.previous,
            offset,
            length: length as u32,
        });
        length
    }

    fn identities(&mut self, bytes: &[u8]) {
        let Some(identities) = bytes.get(TABLE_KEY.len()..TABLE_KEY_BYTES) else { return };
        let Ok(log_id) = identities[16..].try_into() else { return };
        let word = (log_id, Head::from_bytes(&identities[4..16]));
        let is_known = [FORMAT, FORMAT_BASED].iter().any(|f| identities[..4] == f.to_le_bytes());
        if is_known && !self.identities.contains(&word) {
            self.identities.push(word);
        }
    }
}

fn fill(file: &File, at: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < out.len() {
        match portable::read_at(file, &mut out[have..], at + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Chooses one record for each position: from the end backwards, the one that the next one
/// continues. A commit that was not completed can leave other records.
fn choose(found: &[RecordLocation]) -> Vec<RecordLocation> {
    let mut chosen: Vec<RecordLocation> = Vec::new();
    let mut end = found.len();
    while let Some(last) = end.checked_sub(1).and_then(|n| found.get(n)) {
        let start = found[..end].partition_point(|f| f.seq < last.seq);
        let same = &found[start..end];
        let next = chosen.last().filter(|next| next.seq == last.seq + 1);
        let linked = next.and_then(|next| same.iter().rfind(|f| f.crc == next.previous));
        // Otherwise a record that continues one that is there.
        let before = &found[..start];
        let goes_on = |f: &&RecordLocation| {
            let from = before.partition_point(|b| b.seq + 1 < f.seq);
            before[from..].iter().any(|b| b.crc == f.previous)
        };
        let best = linked.or_else(|| same.iter().rfind(goes_on)).unwrap_or(last);
        chosen.push(*best);
        end = start;
    }
    chosen.reverse();
    chosen
}

fn gaps(
    records: &[RecordLocation],
    mut before: Head,
    head: Option<Head>,
) -> (Vec<(u64, u64)>, Vec<u64>) {
    let (mut lost, mut unchained) = (Vec::new(), Vec::new());
    for record in records {
        if record.seq > before.seq + 1 {
            lost.push((before.seq + 1, record.seq - 1));
        } else if record.previous != before.crc {
            unchained.push(record.seq);
        }
        before = Head { seq: record.seq, crc: record.crc };
    }
    if let Some(head) = head.filter(|head| head.seq > before.seq) {
        lost.push((before.seq + 1, head.seq));
    }
    (lost, unchained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(seq: u64, crc: u32, previous: u32, offset: u64) -> RecordLocation {
        RecordLocation { seq, crc, previous, offset, length: 48 }
    }

    #[test]
    fn salvage_chain_resolves_duplicate_positions() {
        // Two records have position 2; the third continues the first of them.
        let all =
            [found(1, 10, 0, 0), found(2, 20, 10, 100), found(2, 21, 10, 900), found(3, 30, 20, 5)];
        let chosen: Vec<u32> = choose(&all).iter().map(|f| f.crc).collect();
        assert_eq!(chosen, [10, 20, 30]);
        // At the end, a record that continues another one is preferred to one that continues none.
        let all = [found(1, 10, 0, 0), found(2, 20, 10, 100), found(2, 21, 99, 900)];
        let chosen: Vec<u32> = choose(&all).iter().map(|f| f.crc).collect();
        assert_eq!(chosen, [10, 20]);
    }

    #[test]
    fn salvage_reports_gaps() {
        let all = [found(2, 20, 10, 0), found(3, 30, 77, 0), found(7, 70, 60, 0)];
        let head = Some(Head { seq: 9, crc: 90 });
        assert_eq!(gaps(&all, Head::default(), head), (vec![(1, 1), (4, 6), (8, 9)], vec![3]));
        assert_eq!(gaps(&[], Head::default(), None), (Vec::new(), Vec::new()));
    }
}
