//! The worktree that a checkout takes equal files from. Only reads it, and takes no file on trust:
//! the hash of its bytes has to be that of the wanted object.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::world::fs::paths;
use crate::world::git::blobs::BLOB_BYTES_MAX;
use crate::world::git::index::format::{Entry, Hash};

/// Excess of misses over hits after which the template is no longer read.
const MISSES_MAX: usize = 64;

/// Files of another worktree, used where their bytes are exactly the wanted ones.
///
/// Reading and hashing a file costs half of what git needs to inflate the object. The hash proves
/// that it is the object, so nothing needs to be known about that worktree.
pub(super) struct Template<'a> {
    source: Option<&'a Path>,
    hash: Hash,
    bytes: Vec<u8>,
    missed: usize,
}

impl<'a> Template<'a> {
    pub(super) fn new(source: Option<&'a Path>, hash: Hash) -> Self {
        Self { source, hash, bytes: Vec::new(), missed: 0 }
    }

    pub(super) fn read(&mut self, entry: &Entry) -> Option<&[u8]> {
        if self.missed >= MISSES_MAX {
            return None;
        }
        let path = self.source?.join(paths::from_bytes(&entry.path));
        let found = self.fill(&path).is_ok() && self.hash.of_blob(&self.bytes) == entry.oid;
        self.missed = if found { self.missed.saturating_sub(1) } else { self.missed + 1 };
        found.then_some(&self.bytes)
    }

    fn fill(&mut self, path: &Path) -> io::Result<()> {
        // `O_NONBLOCK`: a pipe may have taken the place of a file, and opening it would block.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() > BLOB_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.bytes.clear();
        file.read_to_end(&mut self.bytes).map(drop)
    }
}
