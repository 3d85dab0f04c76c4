//! Opens a log as evidence: reads come from the file, writes stay in memory.
//!
//! redb repairs a file that was not closed cleanly, even before the first read, and refuses a
//! read-only open of such a file. Through this backend the repair happens in memory and the file
//! keeps every byte. Used for the check before a daemon opens its log, and by `replay`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::portable;
use redb::StorageBackend;

const PAGE: u64 = 4096;

/// Storage backend for redb that never writes to the file that it reads.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    file_len: u64,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    len: u64,
    /// Bytes of the file that still count: a shrink hides the rest for good, also after a growth.
    visible: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Opens a file read-only.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = own_file::open(path, File::options().read(true), Links::Followed)?;
        let file_len = file.metadata()?.len();
        let memory = Memory { len: file_len, visible: file_len, pages: BTreeMap::new() };
        Ok(Self { file, file_len, memory: Mutex::new(memory) })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `out` from the file, with zeros beyond the visible part of the file.
    fn below(&self, visible: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = visible.min(self.file_len);
        let have = end.saturating_sub(offset).min(out.len() as u64);
        let (known, rest) = out.split_at_mut(usize::try_from(have).unwrap_or(usize::MAX));
        rest.fill(0);
        if known.is_empty() { Ok(()) } else { portable::read_exact_at(&self.file, known, offset) }
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.memory().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let memory = self.memory();
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= memory.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.below(memory.visible, offset, out)?;
        // Pages in memory are newer than the file and replace what was read from it.
        for (number, page) in memory.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = number * PAGE;
            let from = start.max(offset);
            let to = (start + PAGE).min(end);
            let target = (from - offset) as usize..(to - offset) as usize;
            out[target].copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut memory = self.memory();
        if len < memory.len {
            memory.visible = memory.visible.min(len);
            memory.pages.split_off(&len.div_ceil(PAGE));
            let within = (len % PAGE) as usize;
            if within > 0
                // A later growth must read zeros here, as a file would.
                && let Some(page) = memory.pages.get_mut(&(len / PAGE))
            {
                page[within..].fill(0);
            }
        }
        memory.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Nothing of this storage is on a disk.
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut memory = self.memory();
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= memory.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let start = number * PAGE;
            if !memory.pages.contains_key(&number) {
                // A page holds whole file content before the first write to it, so reads need no
                // merging below a page.
                let mut page = vec![0; PAGE as usize];
                self.below(memory.visible, start, &mut page)?;
                memory.pages.insert(number, page.into_boxed_slice());
            }
            let from = start.max(offset);
            let to = (start + PAGE).min(end);
            if let Some(page) = memory.pages.get_mut(&number) {
                page[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Compares the overlay with a model of the file; the file keeps its bytes.
    #[test]
    fn overlay_matches_file_without_writing() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let original: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        file.write_all(&original).expect("written");
        let overlay = Overlay::open(file.path()).expect("opened");
        let mut model = original.clone();
        let steps: [(u64, usize); 5] = [(0, 10), (4_090, 20), (9_990, 10), (5_000, 4_096), (1, 1)];
        for (n, (offset, length)) in steps.into_iter().enumerate() {
            let data = vec![n as u8 + 100; length];
            overlay.write(offset, &data).expect("written");
            model[offset as usize..offset as usize + length].copy_from_slice(&data);
        }
        for len in [6_000, 12_000, 3, 9_000] {
            overlay.set_len(len).expect("resized");
            model.resize(len as usize, 0);
            let mut all = vec![9; model.len()];
            overlay.read(0, &mut all).expect("read");
            assert_eq!(all, model);
        }
        assert!(overlay.read(8_999, &mut [0; 2]).is_err());
        assert!(overlay.write(8_999, &[0; 2]).is_err());
        assert_eq!(std::fs::read(file.path()).expect("read"), original);
    }
}
