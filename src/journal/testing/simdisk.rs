//! A disk that can lose power: a redb storage backend in memory that records every write and sync,
//! and builds the images that a crash can leave.
//!
//! Synced data is there. Each write since the last sync is there whole, torn at a sector or at a
//! byte, or not at all, independently of the others, so writes are reordered too. A disk can also
//! lie about syncs; the crash tests must detect that.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Deterministic random numbers (xorshift64*), so that a seed reproduces a failure.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// Bytes of a disk. Cheap to clone: pages are shared until they change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Image {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let count = (PAGE - within).min(out.len() - done);
            let target = &mut out[done..done + count];
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => target.copy_from_slice(&page[within..within + count]),
                None => target.fill(0),
            }
            done += count;
        }
        Ok(())
    }

    /// Writes `data`. Bytes past the end are dropped, as if the extension of the file was lost.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() && offset + (done as u64) < self.len {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let count = (PAGE - within).min(data.len() - done);
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + count].copy_from_slice(&data[done..done + count]);
            done += count;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE as u64));
            let within = (len % PAGE as u64) as usize;
            if within > 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE as u64))
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

/// One recorded operation on the disk.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// Whether a disk does what a sync promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// Every sync that returns has made the writes before it durable.
    Honest,
    /// On average one sync in this many does nothing, but reports success.
    LiesOneIn(usize),
}

#[derive(Debug)]
struct Inner {
    image: Image,
    ops: Vec<Op>,
    honesty: Honesty,
    random: Random,
}

/// A recording disk; clones share the same disk.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    pub(crate) fn new(image: Image, honesty: Honesty, seed: u64) -> Self {
        let random = Random::new(seed);
        Self(Arc::new(Mutex::new(Inner { image, ops: Vec::new(), honesty, random })))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the number of operations so far.
    pub(crate) fn position(&self) -> usize {
        self.with(|inner| inner.ops.len())
    }

    /// Returns all operations so far.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.with(|inner| inner.ops.clone())
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner| Ok(inner.image.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner| inner.image.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner| {
            inner.image.set_len(len);
            inner.ops.push(Op::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|inner| {
            let lie = match inner.honesty {
                Honesty::Honest => false,
                Honesty::LiesOneIn(n) => inner.random.below(n) == 0,
            };
            if !lie {
                inner.ops.push(Op::Sync);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|inner| {
            inner.image.write(offset, data);
            inner.ops.push(Op::Write(offset, data.to_vec()));
            Ok(())
        })
    }
}

/// The durable images of a recording: the guaranteed content of the disk after each sync.
#[derive(Debug)]
pub(crate) struct Durable {
    ops: Vec<Op>,
    /// Pairs of the first operation after a sync and the image at that sync.
    at: Vec<(usize, Image)>,
}

impl Durable {
    pub(crate) fn new(base: Image, ops: Vec<Op>) -> Self {
        let mut at = vec![(0, base.clone())];
        let mut image = base;
        for (n, op) in ops.iter().enumerate() {
            match op {
                Op::Write(offset, data) => image.write(*offset, data),
                Op::SetLen(len) => image.set_len(*len),
                Op::Sync => at.push((n + 1, image.clone())),
            }
        }
        Self { ops, at }
    }

    /// Returns one image that a power loss right before operation `crash` can leave.
    pub(crate) fn crash_image(&self, crash: usize, random: &mut Random) -> Image {
        let synced = self.at.partition_point(|(n, _)| *n <= crash) - 1;
        let (first, image) = &self.at[synced];
        let mut image = image.clone();
        // Most, half or few of the writes are kept: each of these hides other bugs.
        let keep_in_8 = [1, 4, 7][random.below(3)];
        let mut pending: Vec<&Op> = self.ops[*first..crash].iter().collect();
        if random.below(2) == 0 {
            let n = pending.len();
            for i in (1..n).rev() {
                pending.swap(i, random.below(i + 1));
            }
        }
        for op in pending {
            match op {
                Op::SetLen(len) if random.below(4) > 0 => image.set_len(*len),
                Op::Write(offset, data) if random.below(8) < keep_in_8 => {
                    write_torn(&mut image, *offset, data, random);
                }
                _ => {}
            }
        }
        image
    }
}

fn write_torn(image: &mut Image, offset: u64, data: &[u8], random: &mut Random) {
    match random.below(4) {
        0 => {
            for (n, sector) in data.chunks(SECTOR).enumerate() {
                if random.below(2) == 0 {
                    image.write(offset + (n * SECTOR) as u64, sector);
                }
            }
        }
        1 => image.write(offset, &data[..random.below(data.len() + 1)]),
        _ => image.write(offset, data),
    }
}
