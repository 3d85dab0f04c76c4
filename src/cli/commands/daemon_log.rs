//! `daemon logs`: prints the end of the text log of a daemon in the background, and follows it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};
use serde_json::json;

use crate::cli::args::Global;
use crate::cli::output::{CommandResult, print_json};
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Most bytes of the file that are read at once, from its end.
const BYTES_MAX: u64 = 8 << 20;
/// Interval at which a followed file is read again: no event tells of a write by another process
/// on every file system.
const EVERY: Duration = Duration::from_millis(200);

pub(in crate::cli) async fn print(
    global: &Global,
    layout: &Layout,
    lines: usize,
    follow: bool,
) -> CommandResult {
    let path = layout.daemon_log();
    let Some(mut file) = open(&path)? else {
        let message = format!("there is no log {}", path.display());
        let hint = "a daemon in the foreground writes to its stderr; the journal of its service \
                    manager has that";
        return Err(Fault::new(Code::PathNotFound, message, hint).into());
    };
    let text = read(&mut file, &path)?;
    let all: Vec<&str> = text.lines().collect();
    show(global, &all[all.len().saturating_sub(lines)..]);
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(EVERY).await;
        // It is renamed when it has become large, and begun anew.
        let renewed = open(&path)?.filter(|now| !is_same(now, &file));
        let text = read(&mut file, &path)?;
        show(global, &text.lines().collect::<Vec<_>>());
        file = renewed.unwrap_or(file);
    }
}

fn open(path: &Path) -> Result<Option<File>, Fault> {
    if own_file::check(path, Links::Refused).map_err(paths::failed("open", path))?.is_none() {
        return Ok(None);
    }
    let file = own_file::open(path, File::options().read(true), Links::Refused);
    file.map(Some).map_err(paths::failed("open", path))
}

fn is_same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let of = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    of(one) == of(other)
}

/// Reads from where the file was read to, at most its last [`BYTES_MAX`].
fn read(file: &mut File, path: &Path) -> Result<String, Fault> {
    let failed = paths::failed("read", path);
    let length = file.metadata().map(|found| found.len()).map_err(&failed)?;
    let at = file.stream_position().map_err(&failed)?.max(length.saturating_sub(BYTES_MAX));
    file.seek(SeekFrom::Start(at)).map_err(&failed)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(&failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn show(global: &Global, lines: &[&str]) {
    for line in lines {
        if global.json {
            print_json(&json!({ "line": line }));
        } else {
            render::out(&(render::printable(line) + "\n"));
        }
    }
}
