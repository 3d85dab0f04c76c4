//! Reads of files that a user or another program may have replaced by something else. Opening a
//! FIFO waits for its other end, and a device has no end, so both are refused at once.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use groundskeeper_core::{Code, Fault};
use groundskeeper_system::misplaced::kind;
use groundskeeper_system::own_file::{self, Links};
use groundskeeper_system::paths;

/// Checks that a plain file, or a link to one, is at this path. Returns `None` when there is
/// nothing, or a link without a target.
///
/// # Errors
/// `code` when something else is there; the error of the system.
pub(super) fn check(path: &Path, code: Code) -> Result<Option<Metadata>, Fault> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match path.metadata() {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) => Err(refused(path, found.file_type(), code)),
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => Ok(None),
        Err(e) => Err(paths::fault("inspect", path, &e)),
    }
}

/// Reads a whole plain file as text. Returns `None` when there is nothing at this path.
///
/// # Errors
/// `code` when something other than a plain file with text is there; `request_too_large` beyond
/// `max` bytes; the error of the system.
pub(super) fn read_text(path: &Path, max: u64, code: Code) -> Result<Option<String>, Fault> {
    let Some(bytes) = read(path, max, code)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let message = format!("{} is not text in UTF-8", path.display());
        Fault::new(code, message, "save it in the encoding UTF-8").caused_by(&error)
    })
}

/// Reads a whole plain file. Returns `None` when there is nothing at this path.
///
/// # Errors
/// `code` when something other than a plain file is there; `request_too_large` beyond `max` bytes;
/// the error of the system.
pub(super) fn read(path: &Path, max: u64, code: Code) -> Result<Option<Vec<u8>>, Fault> {
    if check(path, code)?.is_none() {
        return Ok(None);
    }
    let failed = paths::failed("read", path);
    // Checked again there: it may have been replaced since.
    let file = own_file::open(path, File::options().read(true), Links::Followed);
    let file = file.map_err(&failed)?;
    let found = file.metadata().map_err(&failed)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(&failed)?;
    if bytes.len() as u64 > max {
        let size = found.len().max(bytes.len() as u64);
        let message = format!("{} has {size} bytes", path.display());
        let hint = format!("shorten it to at most {max} bytes");
        return Err(Fault::new(Code::RequestTooLarge, message, hint));
    }
    Ok(Some(bytes))
}

fn refused(path: &Path, found: FileType, code: Code) -> Fault {
    let message = format!("{} is {}, not a plain file", path.display(), kind(found));
    Fault::new(code, message, "move it away, then migrate again; nothing was changed")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A FIFO would keep a plain open waiting, and `/dev/zero` a plain read.
    #[test]
    fn special_files_are_refused_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (fifo, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        let _listener = UnixListener::bind(&socket).expect("a socket");
        let cases = [
            (fifo.as_path(), "a FIFO"),
            (socket.as_path(), "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (dir.path(), "a directory"),
        ];
        for (path, what) in cases {
            for result in [check(path, Code::Io).map(drop), read_text(path, 9, Code::Io).map(drop)]
            {
                let fault = result.expect_err(what);
                assert!(fault.message.contains(what), "{fault}");
            }
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).expect("linked");
        assert!(read_text(&link, 9, Code::Io).is_err(), "a link to a FIFO");
    }

    #[test]
    fn text_has_size_limit_and_encoding() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("text");
        assert_eq!(read_text(&path, 9, Code::Io).expect("nothing"), None);
        std::fs::write(&path, "123456789").expect("written");
        assert_eq!(read_text(&path, 9, Code::Io).expect("read").as_deref(), Some("123456789"));
        std::fs::write(&path, "1234567890").expect("written");
        let fault = read_text(&path, 9, Code::Io).expect_err("too long");
        assert_eq!(fault.code, Code::RequestTooLarge);
        std::fs::write(&path, b"\xff\xfea").expect("written");
        let fault = read_text(&path, 9, Code::Io).expect_err("not UTF-8");
        assert!(fault.hint.contains("UTF-8"), "{fault}");
    }
}
