//! Keeps the text log of a daemon in the background small: it is renamed when it has become large,
//! and a new one is begun. Only the file that this process writes to is touched.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};
use rustix::fs::{FileType, fstat};

use crate::world::fs::data_dir::Layout;

/// Size in bytes from which the log is renamed. With the renamed one that bounds both.
pub const LOG_BYTES_MAX: u64 = 4 << 20;
/// Interval at which its size is checked.
const EVERY: Duration = Duration::from_secs(30);

/// Checks the size as long as the daemon runs.
pub(super) async fn keep_small(layout: Layout) {
    loop {
        tokio::time::sleep(EVERY).await;
        let replace = |file| Ok(rustix::stdio::dup2_stderr(file)?);
        if let Err(error) = renew(&layout, LOG_BYTES_MAX, std::io::stderr(), replace) {
            tracing::warn!(%error, "cannot begin a new text log");
        }
    }
}

/// Begins a new log if `log` is larger than `most`, and has `replace` write to it from then on.
fn renew(
    layout: &Layout,
    most: u64,
    log: impl AsFd,
    replace: impl FnOnce(File) -> io::Result<()>,
) -> io::Result<()> {
    let path = layout.daemon_log();
    let written = fstat(log)?;
    let is_file = FileType::from_raw_mode(written.st_mode) == FileType::RegularFile;
    if !is_file || u64::try_from(written.st_size).unwrap_or(0) <= most {
        return Ok(());
    }
    // It may be any file: a redirection of the user's, or a log that was renamed already.
    let named = own_file::check(&path, Links::Refused)?;
    if named.is_none_or(|named| (named.dev(), named.ino()) != (written.st_dev, written.st_ino)) {
        return Ok(());
    }
    let mut options = File::options();
    options.create(true).append(true).mode(0o600);
    // Whatever fails, the process writes to a file that has a name and is looked for here.
    let fresh = path.with_extension("log.new");
    let file = own_file::open(&fresh, &options, Links::Refused)?;
    std::fs::rename(&path, path.with_extension("log.old"))?;
    std::fs::rename(&fresh, &path)?;
    replace(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_log_is_renamed_and_other_files_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(dir.path().to_owned());
        let path = layout.daemon_log();
        let old = path.with_extension("log.old");
        std::fs::write(&path, "0123456789").expect("written");
        let log = || File::open(&path).expect("opened");
        let never = |_| panic!("nothing is replaced");
        renew(&layout, 10, log(), never).expect("small enough");
        let other = dir.path().join("other");
        std::fs::write(&other, "more than ten bytes").expect("written");
        renew(&layout, 10, File::open(&other).expect("opened"), never).expect("not the log");
        assert!(!old.exists());
        let mut new = None;
        let replace = |file| {
            new = Some(file);
            Ok(())
        };
        renew(&layout, 9, log(), replace).expect("renewed");
        assert_eq!(std::fs::read(&old).expect("read"), b"0123456789");
        let new = new.expect("replaced").metadata().expect("there");
        assert_eq!((new.len(), new.ino()), (0, path.metadata().expect("there").ino()));
    }
}
