//! The daemon that has a log, asked over its socket: the records as a flat stream, the hash of its
//! state.
//!
//! One short request a connection, in HTTP/1.0, whose answers end with the connection. Every wait
//! has a limit. Nothing here changes anything at the daemon.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};
use serde::Deserialize;

use crate::socket::UnixStream;

/// How long the daemon may take to begin its answer, or to go on with it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest head of an answer in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Longest answer that is not a stream.
const ANSWER_MAX: u64 = 1 << 20;

/// A daemon that answers.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Its data directory.
    pub(crate) dir: PathBuf,
    socket: PathBuf,
}

/// The state of a daemon, as one number.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Digest {
    /// The record that it is the state after.
    pub(crate) seq: u64,
    /// SHA-256 in hex.
    pub(crate) sha256: String,
    /// The identity of its log.
    pub(crate) log_id: String,
}

#[derive(Deserialize)]
struct Info {
    socket: PathBuf,
}

impl Live {
    /// The daemon of a data directory, when one answers.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let info = own_file::read(&dir.join("daemon.json"), ANSWER_MAX, Links::Refused);
        let info = info.ok().flatten();
        let info: Option<Info> = info.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let socket = info.map_or_else(|| dir.join("daemon.sock"), |info| info.socket);
        UnixStream::connect(&socket).ok()?;
        Some(Self { dir: dir.to_owned(), socket })
    }

    /// The records after one, as a flat log that ends at what is the last one now; with `follow`
    /// without an end.
    pub(crate) fn records(&self, after: u64, follow: bool) -> io::Result<impl Read + use<>> {
        let target = format!("/v1/log?since={after}&follow={follow}");
        // A stream that is silent because nothing happens is not late.
        self.get(&target, (!follow).then_some(PATIENCE))
    }

    /// The hash of its state.
    pub(crate) fn digest(&self) -> io::Result<Digest> {
        let mut text = Vec::new();
        self.get("/v1/log/state", Some(PATIENCE))?.take(ANSWER_MAX).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    fn get(&self, target: &str, timeout: Option<Duration>) -> io::Result<impl Read + use<>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {target} HTTP/1.0\r\nHost: groundskeeper\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::with_capacity(1 << 16, stream);
        let head = head(&mut stream)?;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head).map_err(io::Error::other)?;
        if response.code != Some(200) {
            let mut text = String::new();
            stream.take(ANSWER_MAX).read_to_string(&mut text)?;
            let code = response.code.unwrap_or_default();
            let old = code == 404;
            let why = if old { "the daemon is too old to stream its log" } else { text.trim() };
            return Err(io::Error::other(format!("it answered {code}: {why}")));
        }
        stream.get_ref().set_read_timeout(timeout)?;
        Ok(stream)
    }
}

/// Reads up to the empty line.
fn head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other("the head of its response is too long"));
        }
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// Returns whether a process has locked a file, as the kernel lists it. The file is not touched: to
/// try a lock would keep a daemon from starting that comes at that moment.
#[cfg(target_os = "linux")]
pub(crate) fn is_locked(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(about) = path.metadata() else { return false };
    let mut text = String::new();
    let listed = File::open("/proc/locks").and_then(|mut locks| locks.read_to_string(&mut text));
    if listed.is_err() {
        return cannot_be_locked(path);
    }
    // `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`
    let inode = format!(":{}", about.ino());
    text.lines().any(|line| line.split_whitespace().nth(5).is_some_and(|at| at.ends_with(&inode)))
}

/// Returns whether a process has locked a file.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_locked(path: &Path) -> bool {
    cannot_be_locked(path)
}

/// Returns whether a process has locked a file, where no list of locks can be read: one is tried
/// for a moment.
fn cannot_be_locked(path: &Path) -> bool {
    let open = own_file::open(path, File::options().read(true), Links::Refused);
    let Ok(file) = open else { return false };
    matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}
