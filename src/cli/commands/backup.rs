//! `backup`: writes a consistent copy of the log while the daemon runs. Worktrees and trash are not
//! part of it.
//!
//! The copy has another name until it is whole, checked and on disk, and never replaces a file.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use groundskeeper_system::portable::{self, Existing};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::json;

use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::error::CliError;
use crate::cli::output::{CommandResult, show_one};
use crate::core::{Code, Fault};
use crate::format::hex;
use crate::journal::forensic::Range;
use crate::journal::{Damage, ReadOnlyLog};
use crate::world::fs::paths;

pub(in crate::cli) async fn backup(global: &Global, file: &Path) -> CommandResult {
    let path = std::path::absolute(file).map_err(paths::failed("find", file))?;
    if paths::exists(&path).map_err(paths::failed("inspect", &path))? {
        return Err(taken(&path).into());
    }
    let mut client = Client::connect(global).await?;
    let mut name = path.clone().into_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = Unfinished(name.into());
    let made = portable::open_private(&fresh.0, Existing::Refused);
    let mut out = made.map_err(paths::failed("create", &fresh.0))?;
    copy(&mut client, &mut out, &fresh.0).await?;
    let checked = check(&fresh.0)?;
    out.sync_all().map_err(paths::failed("sync", &fresh.0))?;
    // A link fails if the name is taken by now; a rename would replace the file.
    std::fs::hard_link(&fresh.0, &path).map_err(paths::failed("create", &path))?;
    drop(fresh);
    let dir = path.parent().unwrap_or(Path::new("/"));
    portable::sync_dir(dir).map_err(paths::failed("sync", dir))?;
    let bytes = path.metadata().map_err(paths::failed("read", &path))?.len();
    let shown = path.display();
    let value = json!({
        "file": shown.to_string(), "records": checked.records, "first": checked.first,
        "seq": checked.last,
        "log_id": checked.log_id, "bytes": bytes,
    });
    let text = format!(
        "records {} to {} are in {shown}\nput them back with `replay restore {} DIR`; worktrees and \
         trash are not part of it\n",
        checked.first,
        checked.last,
        paths::as_argument(&path)
    );
    show_one(global, &value, &text)
}

/// Writes the daemon's stream of its log to a file.
async fn copy(client: &mut Client, out: &mut File, path: &Path) -> Result<(), CliError> {
    let answer = client.send(Method::GET, "/v1/log", &[], None).await?;
    if !answer.status().is_success() {
        // Always an error then.
        return client::read(answer).await.map(drop);
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken().caused_by(&e))?;
        let bytes = frame.data_ref().map_or(&[][..], |data| data);
        out.write_all(bytes).map_err(paths::failed("write", path))?;
    }
    Ok(())
}

/// What a whole copy holds.
struct Checked {
    records: u64,
    first: u64,
    last: u64,
    log_id: String,
}

/// Reads the copy back: each checksum, the chain, and the end that the daemon wrote last.
fn check(path: &Path) -> Result<Checked, Fault> {
    let log = ReadOnlyLog::open(path).map_err(|e| e.to_fault())?;
    let (mut chain, mut records, mut damage) = (log.chain(), 0, None::<Damage>);
    let walked = log.walk(Range::up_to(u64::MAX), &mut |key, bytes| match chain.next(key, bytes) {
        Ok(_) => {
            records += 1;
            ControlFlow::Continue(())
        }
        Err(found) => {
            damage = Some(found);
            ControlFlow::Break(())
        }
    });
    walked.map_err(|e| e.to_fault())?;
    let last = chain.last();
    match (damage, log.head()) {
        (Some(damage), _) => Err(broken().because(damage)),
        // Without its end the stream broke off.
        (None, Some(head)) if head == last => {
            let (first, log_id) = (log.first(), hex(&log.log_id()));
            Ok(Checked { records, first, last: last.seq, log_id })
        }
        (None, _) => Err(broken().because("the copy has no end")),
    }
}

fn broken() -> Fault {
    let hint = "run the command again; `replay verify` checks the log itself";
    Fault::new(Code::DaemonUnreachable, "the copy of the log is not whole", hint).transient()
}

fn taken(path: &Path) -> Fault {
    let message = format!("{} exists already", path.display());
    Fault::new(Code::InvalidRequest, message, "give a path where nothing is")
}

/// A file that is removed when the copy ends before it is whole.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(paths::remove_file_if_any(&self.0));
    }
}
