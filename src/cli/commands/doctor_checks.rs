//! Checks of `doctor` that look beyond the daemon of this data directory: the hooks of the
//! repositories in use, and the other daemons of this user. They change nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hyper::Method;

use crate::api::types::{EnvironmentView, TrustView};
use crate::cli::client::Client;
use crate::cli::commands::check::Check;
use crate::cli::error::CliError;
use crate::cli::output::{NOTHING, encode};
use crate::daemon::running;
use crate::default_dir::default_data_dir;
use crate::format::count;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::process::table;

/// Most repositories that are asked about, and most findings that are named.
const NAMED_MAX: usize = 20;

/// Checks whether the setup hook of each repository in use would run.
pub(super) async fn hooks_check(client: &mut Client) -> Check {
    let name = "hooks";
    match broken_hooks(client).await {
        Ok((hooks, broken)) if broken.is_empty() => {
            let trusted = || format!("{}, all trusted", count(hooks, "hook", "hooks"));
            Check::ok(name, if hooks == 0 { "none".to_owned() } else { trusted() })
        }
        Ok((_, broken)) => {
            let (details, hints): (Vec<String>, Vec<String>) = broken.into_iter().unzip();
            Check::warn(name, details.join("; "), hints.first().cloned().unwrap_or_default())
        }
        Err(CliError(p)) => Check::warn(name, p.message, p.hint),
    }
}

/// Returns the number of hooks, and for each that would not run why, and what to do.
async fn broken_hooks(client: &mut Client) -> Result<(u64, Vec<(String, String)>), CliError> {
    let list: Vec<EnvironmentView> = client.call(Method::GET, "/v1/environments", NOTHING).await?;
    let repositories: BTreeSet<&str> = list.iter().map(|e| e.repo.as_str()).collect();
    let (mut hooks, mut broken) = (0, Vec::new());
    for common in repositories.into_iter().take(NAMED_MAX) {
        let repo = common.strip_suffix("/.git").unwrap_or(common);
        // A repository that is gone is the business of another check.
        let path = format!("/v1/trust?repo={}", encode(repo));
        let Ok(view) = client.call::<TrustView>(Method::GET, &path, NOTHING).await else {
            continue;
        };
        let (Some(hook), Some(hash)) = (&view.hook, &view.hash) else { continue };
        hooks += 1;
        let file = Path::new(repo).join(hook);
        let at = paths::as_argument(&file);
        if file.metadata().is_ok_and(|found| found.mode() & 0o111 == 0) {
            broken.push((format!("{at} is not executable"), format!("`chmod +x {at}`")));
        } else if !view.trusted.contains(hash) {
            let repo = paths::as_argument(Path::new(repo));
            let hint = format!("read it, then run `groundskeeper trust --repo {repo}`");
            broken.push((format!("{at} is not trusted as it is now"), hint));
        }
    }
    Ok((hooks, broken))
}

/// Names the daemons of other data directories, which share the limits of this user.
pub(super) fn others_check(layout: &Layout) -> Check {
    let name = "other daemons";
    let own = running::find(layout).map(|info| info.pid);
    let Ok(pids) = table::pids() else {
        return Check::ok(name, "not visible here");
    };
    let mut others: Vec<String> =
        pids.into_iter().filter(|pid| Some(*pid) != own).filter_map(other).collect();
    let more = others.len().saturating_sub(NAMED_MAX);
    others.truncate(NAMED_MAX);
    if more > 0 {
        others.push(format!("{more} more"));
    }
    Check::ok(name, if others.is_empty() { "none".to_owned() } else { others.join(", ") })
}

/// Returns what a process is, if it is a daemon of this user: the one that its data directory
/// names.
fn other(pid: u32) -> Option<String> {
    let owner = Path::new("/proc").join(pid.to_string()).metadata().ok()?.uid();
    let words = table::arguments(pid);
    let words: Vec<&OsStr> = words.iter().map(|word| OsStr::from_bytes(word)).collect();
    let (program, rest) = words.split_first()?;
    let ours = Path::new(program).file_name() == Some(OsStr::new("groundskeeper"))
        && owner == rustix::process::geteuid().as_raw();
    if !ours {
        return None;
    }
    let named = rest.iter().position(|word| *word == "--data-dir");
    let place = match named.and_then(|at| rest.get(at + 1)) {
        Some(place) => PathBuf::from(place),
        None => default_data_dir().ok()?,
    };
    let info = running::find(&Layout::new(place.clone()))?;
    (info.pid == pid).then(|| format!("pid {pid} of {}", place.display()))
}
