//! A flat log in a file, read in either direction. Nothing here checks or decodes a record.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::base::Base;
use crate::error::{Damage, Error};
use crate::evidence::ReadError;
use crate::range::{Range, Visitor};
use crate::stream_format::{self, END_BYTES, HEAD_BYTES, Next, Start};
use crate::tables::Head;
use groundskeeper_core::event::FormerLife;

const BUFFER_BYTES: usize = 1 << 18;

/// The file.
#[derive(Debug)]
pub(super) struct FlatFile {
    path: PathBuf,
    file: File,
    /// The record before the first one.
    before: Head,
    /// Where the lives begin, and where the first record does.
    lives: u64,
    begin: u64,
    base: Option<Base>,
    end: Option<Head>,
}

impl FlatFile {
    /// Reads the head, the base and the end; `path` serves only for errors.
    pub(super) fn open(path: &Path, mut file: File) -> Result<(Self, Start), Error> {
        let io = |source| Error::Io { what: "read the log", path: path.to_owned(), source };
        let damage = |damage| ReadError::Damage(damage).at(path);
        file.rewind().map_err(io)?;
        let mut bytes = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut bytes).map_err(io)?;
        let start = stream_format::parse_head(&bytes).map_err(|what| {
            if what.contains("newer") {
                return ReadError::Newer(what.to_owned()).at(path);
            }
            damage(Damage::Unreadable(what.to_owned()))
        })?;
        let base = if start.has_base {
            let base = stream_format::base(&mut file).map_err(io)?;
            let base = base.filter(|base| base.head() == start.after);
            Some(base.ok_or_else(|| damage(Damage::Base))?)
        } else {
            None
        };
        let lives = file.stream_position().map_err(io)?;
        let (mut begin, mut buffer) = (lives, Vec::new());
        while start.has_base
            && let Ok(Next::Lives(_)) =
                stream_format::next(&mut file, 0, &mut buffer).map_err(io)?
        {
            begin = file.stream_position().map_err(io)?;
        }
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut end = None;
        if let Some(at) = length.checked_sub(END_BYTES as u64).filter(|at| *at >= begin) {
            let mut bytes = [0; END_BYTES];
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            file.read_exact(&mut bytes).map_err(io)?;
            end = stream_format::parse_end(&bytes);
        }
        let (path, before) = (path.to_owned(), start.after);
        Ok((Self { path, file, before, lives, begin, base, end }, start))
    }

    /// Returns the last record as the end names it; none in a file without its end.
    pub(super) fn end(&self) -> Option<Head> {
        self.end
    }

    /// Returns the state that the records are folded onto.
    pub(super) fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// Hands out the lives that the state has forgotten before the first record, some at a time.
    pub(super) fn lives(
        &self,
        each: &mut dyn FnMut(&[FormerLife]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.lives)).map_err(self.io())?;
        let (mut input, mut buffer) = (BufReader::new(file.take(self.begin - self.lives)), vec![]);
        while let Ok(Next::Lives(lives)) =
            stream_format::next(&mut input, 0, &mut buffer).map_err(self.io())?
        {
            each(&lives)?;
        }
        Ok(())
    }

    /// Hands out the records of a range.
    pub(super) fn walk(&self, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        if range.backwards { self.back(range, each) } else { self.forth(range, each) }
    }

    fn io(&self) -> impl Fn(io::Error) -> Error + '_ {
        |source| Error::Io { what: "read the log", path: self.path.clone(), source }
    }

    fn forth(&self, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        let damaged = |damage| Error::Damaged { path: self.path.clone(), damage };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.begin)).map_err(self.io())?;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let (mut seq, mut buffer) = (self.before.seq + 1, Vec::new());
        while seq <= range.to {
            match stream_format::next(&mut input, seq, &mut buffer)
                .map_err(self.io())?
                .map_err(damaged)?
            {
                Next::Cut => return Err(damaged(Damage::Cut(seq - 1))),
                Next::Lives(_) => return Err(damaged(Damage::Magic(seq))),
                Next::End(_) => break,
                Next::Record if seq < range.from => {}
                Next::Record => {
                    if each(seq, &buffer).is_break() {
                        break;
                    }
                }
            }
            seq += 1;
        }
        Ok(())
    }

    /// Notes where each record begins, then reads the records from the last to the first.
    fn back(&self, range: Range, each: Visitor<'_>) -> Result<(), Error> {
        // A record has no length at its end, so a flat file cannot be parsed backwards.
        let (mut places, mut at) = (Vec::new(), self.begin);
        let whole = self.forth(Range::up_to(range.to), &mut |seq, bytes| {
            if seq >= range.from {
                places.push((seq, at, bytes.len()));
            }
            at += bytes.len() as u64;
            ControlFlow::Continue(())
        });
        let (mut file, mut buffer) = (&self.file, Vec::new());
        for (seq, at, length) in places.into_iter().rev() {
            buffer.resize(length, 0);
            file.seek(SeekFrom::Start(at)).map_err(self.io())?;
            file.read_exact(&mut buffer).map_err(self.io())?;
            if each(seq, &buffer).is_break() {
                return Ok(());
            }
        }
        // Damage further on is reported only after every record before it is handed out.
        whole
    }
}
