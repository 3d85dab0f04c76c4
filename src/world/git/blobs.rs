//! The contents of blobs, streamed from one `git cat-file`. Passes them on in order; never holds
//! more than one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use crate::world::git::checkout_error::CheckoutError;
use crate::world::git::command::Git;
use crate::world::git::error::Error;
use crate::world::git::index::format::Entry;
use crate::world::process::subprocess::{Patient, Running};

/// Largest file that is held in memory; a larger one is a reason to use git.
pub(super) const BLOB_BYTES_MAX: u64 = 64 << 20;

/// Longest wait for a byte of `git cat-file`.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Passes the contents of blobs to `each`, in order, from one `git cat-file`.
pub(super) fn each_blob(
    git: &Git<'_>,
    entries: &[&Entry],
    each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<(), CheckoutError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut command = git.command(["cat-file", "--batch", "--buffer"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Its drop ends the process on every path out of this function.
    let mut running = Running::spawn(command, "git cat-file")?;
    let (stdin, stdout) = running.take_pipes();
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(Error::Defect("git cat-file has no pipes").into());
    };
    std::thread::scope(|scope| {
        // A separate thread writes the requests: one thread would deadlock on full pipes.
        let feeder = scope.spawn(|| feed(stdin, entries));
        let patient = Patient::new(stdout, git.cancel(), SILENCE_MAX);
        let mut reader = BufReader::with_capacity(256 * 1024, patient);
        let mut blob = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            let read = read_blob(&mut reader, entry, &mut blob);
            git.cancel().check()?;
            read?;
            each(n, &blob)?;
        }
        // A failed write shows as a failed read above; the thread only has to end.
        drop(feeder.join());
        Ok(())
    })
}

fn feed(mut stdin: ChildStdin, entries: &[&Entry]) -> io::Result<()> {
    let mut lines = Vec::with_capacity(64 * 1024);
    for entry in entries {
        for byte in &entry.oid {
            write!(lines, "{byte:02x}")?;
        }
        lines.push(b'\n');
        if lines.len() > 60 * 1024 {
            stdin.write_all(&lines)?;
            lines.clear();
        }
    }
    stdin.write_all(&lines)
}

fn read_blob(
    reader: &mut impl BufRead,
    entry: &Entry,
    blob: &mut Vec<u8>,
) -> Result<(), CheckoutError> {
    let odd = |why: String| CheckoutError::NeedsGit(format!("git cat-file: {why}"));
    let mut header = Vec::new();
    reader.by_ref().take(256).read_until(b'\n', &mut header).map_err(|e| odd(e.to_string()))?;
    let text = String::from_utf8_lossy(&header);
    let mut words = text.split_ascii_whitespace().skip(1);
    let size = match (words.next(), words.next().and_then(|w| w.parse::<u64>().ok())) {
        (Some("blob"), Some(size)) if size <= BLOB_BYTES_MAX => size,
        _ => {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(odd(format!("{:?} for {path}", text.trim_end())));
        }
    };
    blob.resize(usize::try_from(size).unwrap_or(0), 0);
    reader.read_exact(blob).map_err(|e| odd(e.to_string()))?;
    let mut end = [0];
    reader.read_exact(&mut end).map_err(|e| odd(e.to_string()))
}
