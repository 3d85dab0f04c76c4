//! The output of a hook: a bounded transcript, lines for subscribers, and the last lines for a
//! fault. Secrets are removed before anything is kept.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::core::Fault;
use crate::world::fs::paths;
use crate::world::process::redact::{Redactor, Secrets};

/// Bytes of output that a transcript keeps from the start, and again from the end.
const TRANSCRIPT_HALF: usize = 256 * 1024;

/// Last lines of output that a fault carries as evidence.
const TAIL_LINES: usize = 20;

/// Characters of each of these lines that the log keeps of a hook that succeeded.
const TAIL_LINE_CHARS: usize = 200;

/// A longer line is split.
const LINE_BYTES_MAX: usize = 4_096;

/// The bounded output of a hook.
pub(super) struct Output {
    file: File,
    /// Bytes in the first half of the transcript so far.
    written: usize,
    /// The last bytes, once the first half is full.
    tail: Vec<u8>,
    /// The line being read.
    line: Vec<u8>,
    last_lines: std::collections::VecDeque<String>,
    /// Bytes of output after redaction.
    pub(super) bytes: u64,
    redactor: Redactor,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self, Fault> {
        paths::remove_file_if_any(path).map_err(paths::failed("remove", path))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(paths::failed("create", path))?;
        Ok(Self {
            file,
            written: 0,
            tail: Vec::new(),
            line: Vec::new(),
            last_lines: std::collections::VecDeque::new(),
            bytes: 0,
            redactor: Redactor::new(Secrets::of_environment()),
        })
    }

    /// Adds output of the hook. Secret values from the daemon's environment are removed first.
    pub(super) fn take(&mut self, bytes: &[u8], each_line: &mut dyn FnMut(&str)) {
        let bytes = self.redactor.take(bytes);
        self.keep(&bytes, each_line);
    }

    fn keep(&mut self, bytes: &[u8], each_line: &mut dyn FnMut(&str)) {
        self.bytes += bytes.len() as u64;
        let room = TRANSCRIPT_HALF.saturating_sub(self.written).min(bytes.len());
        // A transcript that cannot be written must not fail the hook.
        drop(self.file.write_all(&bytes[..room]));
        self.written += room;
        self.tail.extend_from_slice(&bytes[room..]);
        let excess = self.tail.len().saturating_sub(TRANSCRIPT_HALF);
        self.tail.drain(..excess);
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES_MAX {
                self.end_line(each_line);
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, each_line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        each_line(&text);
        self.last_lines.push_back(text);
        if self.last_lines.len() > TAIL_LINES {
            self.last_lines.pop_front();
        }
    }

    /// Completes the transcript: the last bytes, preceded by a line that counts the omitted ones.
    pub(super) fn finish(&mut self, each_line: &mut dyn FnMut(&str)) {
        let rest = self.redactor.finish();
        self.keep(&rest, each_line);
        if !self.line.is_empty() {
            self.end_line(each_line);
        }
        let cut = self.bytes.saturating_sub((self.written + self.tail.len()) as u64);
        if cut > 0 {
            drop(writeln!(self.file, "\n[... {cut} bytes omitted ...]"));
        }
        drop(self.file.write_all(&self.tail));
    }

    /// Returns the last lines, cut to the length that the log keeps.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let cut = |line: &String| line.chars().take(TAIL_LINE_CHARS).collect();
        self.last_lines.iter().map(cut).collect()
    }

    pub(super) fn explain(&self, mut fault: Fault, transcript: &Path) -> Fault {
        fault.transient = false;
        let lines = self.last_lines.iter().cloned();
        fault.with_evidence(lines.chain([format!("transcript: {}", transcript.display())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcript_keeps_start_and_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t");
        let mut output = Output::create(&path).expect("created");
        let mut lines = 0;
        for n in 0..100_000 {
            output.take(format!("line {n}\n").as_bytes(), &mut |_| lines += 1);
        }
        output.finish(&mut |_| lines += 1);
        assert_eq!(lines, 100_000);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.len() < 2 * TRANSCRIPT_HALF + 100);
        assert!(text.starts_with("line 0\n") && text.ends_with("line 99999\n"));
        assert!(text.contains("bytes omitted"));
        let tail = output.last_lines();
        assert_eq!((tail.len(), tail.last().map(String::as_str)), (TAIL_LINES, Some("line 99999")));
    }
}
