//! Segments: the records that were trimmed from a log, in files beside it. Only this file names
//! ruzstd.
//!
//! A segment is a flat log, compressed with zstd: `zstd -d` and `replay` read it. It has the
//! base that it continues, so that a later segment means something without the earlier ones. Its
//! name says its first and last record. It has another name until it is whole, read back, and on
//! disk. None is removed but one that no trim was decided for.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, FrameCompressor};
use sha2::{Digest as _, Sha256};

use crate::base::Base;
use crate::chain::Chain;
use crate::error::{Damage, Error};
use crate::flat_file::FlatFile;
use crate::range::Range;
use crate::stream_format::{self, Next, Start};
use crate::tables::Head;
use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::portable::{self, Existing};

/// Name of the folder of segments beside a log.
pub const FOLDER: &str = "log-archive";
const SUFFIX: &str = ".flat.zst";
const UNFINISHED: &str = ".unfinished";
const BUFFER_BYTES: usize = 1 << 17;

/// A segment that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Name of the file.
    pub name: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// A segment in a folder, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its first record.
    pub first: u64,
    /// Its last record.
    pub last: u64,
    /// Path of the file.
    pub path: PathBuf,
}

impl Segment {
    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        // A name that was taken has the checksum of the last record besides.
        let name = name.split_once('.').map_or(name, |(name, _)| name);
        let (first, last) = name.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (first > 0 && first <= last && last < u64::MAX).then_some(Self { first, last, path })
    }

    /// Returns the record before the first one, and the state after it, as the segment has them.
    pub(super) fn start(&self) -> Result<(Head, Option<Base>), Error> {
        unpacking(&self.path, || {
            let mut input = open(&self.path)?;
            let mut head = [0; stream_format::HEAD_BYTES];
            let io = |source| Error::Io { what: "read", path: self.path.clone(), source };
            input.read_exact(&mut head).map_err(io)?;
            let unreadable = |why: &str| damaged(&self.path, Damage::Unreadable(why.to_owned()));
            let start = stream_format::parse_head(&head).map_err(unreadable)?;
            let base = if start.has_base {
                let base = stream_format::base(&mut input).map_err(io)?;
                Some(base.ok_or_else(|| damaged(&self.path, Damage::Base))?)
            } else {
                None
            };
            Ok((start.after, base))
        })
    }

    /// Returns the last record of a whole segment.
    fn end(&self) -> Result<Head, Error> {
        let (after, base) = self.start()?;
        unpacking(&self.path, || check(&self.path, (after, base.as_ref())))
    }

    /// Unpacks the segment to a file without a name. `next` is what the record after it continues.
    pub(super) fn unpack(&self, next: Head) -> Result<FlatFile, Error> {
        unpacking(&self.path, || {
            let io = |source| Error::Io { what: "unpack", path: self.path.clone(), source };
            let mut spool = tempfile::tempfile().map_err(io)?;
            io::copy(&mut open(&self.path)?, &mut spool).map_err(io)?;
            let (file, start) = FlatFile::open(&self.path, spool)?;
            let end = file.end().unwrap_or_default();
            let is_next = end == next || end.seq == next.seq && next.crc == 0;
            // Its name decides which records are looked for in it.
            if start.after.seq + 1 == self.first && end.seq == self.last && is_next {
                return Ok(file);
            }
            let (expected, found) = (next.seq, end.seq);
            Err(damaged(&self.path, Damage::Segment { expected, found }))
        })
    }

    /// Returns whether some of its records are in a range.
    pub(super) fn meets(&self, range: Range) -> bool {
        self.first <= range.to && range.from <= self.last
    }
}

/// Returns the segments that lead without a gap to the record `next`, the oldest first. Of several
/// with the same last seq, as beside a log that was put back from a backup, the one that ends with
/// that record. Each comes with the record that it ends with.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be listed; a missing one has no segments.
pub(super) fn before(folder: &Path, mut next: Head) -> Result<Vec<(Segment, Head)>, Error> {
    let (all, mut chain) = (list(folder)?, Vec::new());
    while next.seq > 0 {
        let mut ends: Vec<&Segment> = all.iter().filter(|s| s.last == next.seq).collect();
        ends.sort();
        let is_it = |s: &&&Segment| s.end().is_ok_and(|end| end == next || next.crc == 0);
        let found = if ends.len() > 1 { ends.iter().find(is_it).copied() } else { None };
        let Some(found) = found.or(ends.first().copied()) else { break };
        chain.push((found.clone(), next));
        next = found.start().map_or(Head { seq: found.first - 1, crc: 0 }, |(after, _)| after);
    }
    chain.reverse();
    Ok(chain)
}

fn list(folder: &Path) -> Result<Vec<Segment>, Error> {
    let failed = |source| Error::Io { what: "list", path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut all = Vec::new();
    for entry in entries {
        all.extend(Segment::at(entry.map_err(failed)?.path()));
    }
    Ok(all)
}

/// Runs a read of a segment. The decoder panics on some damaged bytes.
fn unpacking<T>(path: &Path, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let done = catch_unwind(AssertUnwindSafe(read));
    done.unwrap_or_else(|panic| Err(crate::evidence::panicked(&*panic).at(path)))
}

/// Reads a segment as the flat log that it is.
///
/// # Errors
/// [`Error::Io`], and [`Error::NotALog`] when the file is not compressed as a segment is.
pub fn open(path: &Path) -> Result<impl Read + use<>, Error> {
    let io = |source| Error::Io { what: "read", path: path.to_owned(), source };
    if !path.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is not a file")));
    }
    let file = own_file::open(path, File::options().read(true), Links::Followed).map_err(io)?;
    let plain = StreamingDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file));
    plain.map_err(|e| Error::NotALog { path: path.to_owned(), what: e.to_string() })
}

/// The next record to write: adds its bytes, and returns its head; none after the last one.
pub(super) type Source<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> Result<Option<Head>, Error>;

/// Writes a segment of the records after `start` up to `last`, and reads it back.
///
/// # Errors
/// Errors of the source, [`Error::Io`], and [`Error::Damaged`] when it is not read as written.
pub(super) fn write(
    folder: &Path,
    (start, base): (Start, Option<&Base>),
    last: Head,
    source: Source<'_>,
) -> Result<Archived, Error> {
    let io = |what| move |source| Error::Io { what, path: folder.to_owned(), source };
    own_file::make_folder(folder).map_err(io("create"))?;
    // Without it a power loss can take the folder with the first segment in it.
    portable::sync_dir(folder.parent().unwrap_or(folder)).map_err(io("sync the parent of"))?;
    // One name for all: what a killed daemon has left is written over.
    let fresh = Unfinished(folder.join(UNFINISHED));
    let mut file = portable::open_private(&fresh.0, Existing::Emptied).map_err(io("write in"))?;
    let mut flat = Flat::new(&start, base, source);
    compress(&mut flat, &mut file).map_err(io("write in"))?;
    flat.ended()?;
    file.sync_all().map_err(io("sync a file in"))?;
    let read = unpacking(&fresh.0, || check(&fresh.0, (start.after, base)))?;
    if read != last {
        let (expected, found) = (last.seq, read.seq);
        return Err(damaged(&fresh.0, Damage::Segment { expected, found }));
    }
    let (bytes, sha256) = digest(&fresh.0).map_err(io("read a file in"))?;
    let names = format!("{}-{}", start.after.seq + 1, last.seq);
    for name in [format!("{names}{SUFFIX}"), format!("{names}.{:08x}{SUFFIX}", last.crc)] {
        let path = folder.join(&name);
        match std::fs::hard_link(&fresh.0, &path) {
            Ok(()) => {}
            // The same records of an earlier attempt: nothing is ever replaced.
            Err(_) if digest(&path).is_ok_and(|found| found == (bytes, sha256)) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(_) if path.symlink_metadata().is_err() => {
                // A file system without hard links.
                std::fs::rename(&fresh.0, &path).map_err(io("rename a file in"))?;
            }
            Err(e) => return Err(io("name a file in")(e)),
        }
        portable::sync_dir(folder).map_err(io("sync"))?;
        return Ok(Archived { name, bytes, sha256 });
    }
    let taken = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(io("name a segment in")(taken))
}

/// Removes segments of trims that were never decided: those that begin with the record `first`, of
/// which `is_there` says that the log still has the last one. Every record in them is in the log.
pub(super) fn remove_undecided(
    folder: &Path,
    first: u64,
    is_there: &dyn Fn(Head) -> Result<bool, Error>,
) -> Result<(), Error> {
    for segment in list(folder)?.into_iter().filter(|segment| segment.first == first) {
        // One that cannot be read, or of another future of this log, stays.
        if let Ok(end) = segment.end()
            && is_there(end)?
        {
            let io = |source| Error::Io { what: "remove", path: segment.path.clone(), source };
            std::fs::remove_file(&segment.path).map_err(io)?;
        }
    }
    Ok(())
}

fn compress(flat: &mut Flat<'_>, file: &mut File) -> io::Result<()> {
    let out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut drain = Drain { out, error: None };
    let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
    compressor.set_source(flat);
    compressor.set_drain(&mut drain);
    compressor.compress();
    let Drain { mut out, error } = drain;
    error.map_or(Ok(()), Err).and_then(|()| out.flush())
}

/// Takes what the compressor writes. After an error it takes the rest and drops it: the compressor
/// panics where a write fails.
struct Drain<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> Write for Drain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none() {
            self.error = self.out.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn damaged(path: &Path, damage: Damage) -> Error {
    Error::Damaged { path: path.to_owned(), damage }
}

/// Reads a segment to its end, and returns its last record.
fn check(path: &Path, (after, base): (Head, Option<&Base>)) -> Result<Head, Error> {
    let io = |source| Error::Io { what: "read", path: path.to_owned(), source };
    let cut = || damaged(path, Damage::Cut(after.seq));
    let mut input = open(path)?;
    let mut head = [0; stream_format::HEAD_BYTES];
    input.read_exact(&mut head).map_err(io)?;
    let read_base = match base {
        Some(_) => stream_format::base(&mut input).map_err(io)?,
        None => None,
    };
    let is_begun = stream_format::parse_head(&head).is_ok_and(|start| start.after == after);
    if !is_begun || read_base.as_ref() != base {
        return Err(cut());
    }
    let (mut chain, mut buffer) = (Chain::after(after), Vec::new());
    loop {
        let last = chain.last();
        let seq = last.seq + 1;
        let next = stream_format::next(&mut input, seq, &mut buffer).map_err(io)?;
        match next.map_err(|damage| damaged(path, damage))? {
            Next::Cut | Next::Lives(_) => return Err(cut()),
            Next::End(end) if end == last => return Ok(last),
            Next::End(end) => {
                return Err(damaged(path, Damage::Head { expected: end.seq, found: last.seq }));
            }
            Next::Record => {
                chain.next(seq, &buffer).map_err(|damage| damaged(path, damage))?;
            }
        }
    }
}

fn digest(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut hash = Sha256::new();
    let mut input = File::open(path)?;
    let (mut buffer, mut bytes) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let have = input.read(&mut buffer)?;
        if have == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        bytes += have as u64;
        hash.update(&buffer[..have]);
    }
}

/// A flat log as a stream of bytes, made while it is read.
struct Flat<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
    at: usize,
    last: Head,
    is_ended: bool,
    /// What ended it early: the compressor takes no error but that of the system.
    error: Option<Error>,
}

impl<'a> Flat<'a> {
    fn new(start: &Start, base: Option<&Base>, source: Source<'a>) -> Self {
        let mut buffer = stream_format::head(start).to_vec();
        buffer.extend(base.map(Base::frame).unwrap_or_default());
        Self { source, buffer, at: 0, last: start.after, is_ended: false, error: None }
    }

    /// Returns the error that ended it early.
    fn ended(self) -> Result<(), Error> {
        self.error.map_or(Ok(()), Err)
    }

    fn refill(&mut self) -> Result<(), Error> {
        self.buffer.clear();
        self.at = 0;
        if let Some(head) = (self.source)(&mut self.buffer)? {
            self.last = head;
        } else {
            self.buffer.extend_from_slice(&stream_format::end(self.last));
            self.is_ended = true;
        }
        Ok(())
    }
}

impl Read for Flat<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() && !self.is_ended && self.error.is_none() {
            self.error = self.refill().err();
        }
        let have = (self.buffer.len() - self.at).min(out.len());
        out[..have].copy_from_slice(&self.buffer[self.at..self.at + have]);
        self.at += have;
        Ok(have)
    }
}

/// A file that is removed when the segment is not completed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
