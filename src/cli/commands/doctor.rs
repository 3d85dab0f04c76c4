//! `doctor`: checks what the daemon needs, item by item, with the next step for each failure.

use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use hyper::Method;

use crate::api::archives::ArchivedIncarnationView;
use crate::api::locks::LockView;
use crate::api::types::{DaemonView, EnvironmentView, LastSweepView, WatchingView};
use crate::cli::args::Global;
use crate::cli::client::{self, Client};
use crate::cli::commands::check::Check;
use crate::cli::commands::daemon;
use crate::cli::commands::doctor_checks::{hooks_check, others_check};
use crate::cli::error::CliError;
use crate::cli::render;
use crate::config_file;
use crate::core::Kind;
use crate::daemon::running;
use crate::format::{bytes, count};
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::command;
use crate::world::process::cancel::Cancel;

/// Age in seconds at which a lock file of git is reported; git holds one for less.
const LOCK_SECONDS: u64 = 10;
/// Most environments that one check names.
const NAMED_MAX: usize = 20;

/// Runs all checks and prints them; fails if one failed. Starts no daemon.
pub(crate) async fn run(global: &Global) -> ExitCode {
    let mut checks = vec![git_check(), config_check()];
    match client::layout(global) {
        Ok(layout) => {
            checks.push(directory_check(&layout));
            checks.push(space_check(&layout));
            daemon_checks(&layout, &mut checks).await;
            checks.push(others_check(&layout));
        }
        Err(fault) => checks.push(Check::fail("data directory", &fault)),
    }
    checks.push(files_check());
    if global.json {
        render::out(&format!("{}\n", serde_json::to_string(&checks).unwrap_or_default()));
    } else {
        for c in &checks {
            render::out(&format!("{:<5} {:<16} {}\n", c.status, c.name, c.detail));
            if !c.hint.is_empty() {
                render::out(&format!("      {:<16} hint: {}\n", "", c.hint));
            }
        }
    }
    let failed = checks.iter().any(|c| c.status == "fail");
    if failed { ExitCode::from(Kind::Fault.exit_code()) } else { ExitCode::SUCCESS }
}

fn git_check() -> Check {
    let checked = Cancel::new()
        .map_err(|e| paths::fault("run", std::path::Path::new("git"), &e))
        .and_then(|cancel| Ok(command::check_version(&cancel)?));
    match checked {
        Ok(version) => Check::ok("git", version),
        Err(fault) => Check::fail("git", &fault),
    }
}

fn config_check() -> Check {
    match config_file::load() {
        Ok(_) => Check::ok("configuration", "readable"),
        Err(fault) => Check::fail("configuration", &fault),
    }
}

fn directory_check(layout: &Layout) -> Check {
    let name = "data directory";
    let root = layout.root();
    match root.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(name, format!("{} does not exist yet and will be created", root.display()))
        }
        Err(e) => Check::fail(name, &paths::fault("inspect", root, &e)),
        Ok(found) if found.mode() & 0o077 != 0 => Check::warn(
            name,
            format!("{} is accessible to other users", root.display()),
            format!("`chmod 700 {}`", root.display()),
        ),
        Ok(_) => Check::ok(name, root.display().to_string()),
    }
}

fn space_check(layout: &Layout) -> Check {
    let name = "disk";
    let there = layout.root().ancestors().find(|p| p.exists()).unwrap_or(layout.root());
    match rustix::fs::statvfs(there) {
        Ok(s) => {
            let free = s.f_bavail.saturating_mul(s.f_frsize);
            if free < 1 << 30 {
                Check::warn(name, format!("only {} free", bytes(free)), "free some space")
            } else {
                Check::ok(name, format!("{} free", bytes(free)))
            }
        }
        Err(e) => Check::fail(name, &paths::fault("read the free space of", there, &e.into())),
    }
}

async fn daemon_checks(layout: &Layout, checks: &mut Vec<Check>) {
    // With a service manager a connection starts the daemon.
    if !daemon::may_run(layout) {
        checks.push(Check::ok("daemon", "not running; started when needed"));
        return;
    }
    let mut client = match Client::try_connect(layout).await {
        Ok(client) => client,
        Err(error) => {
            checks.push(match running::find(layout) {
                Some(info) => Check::fail("daemon", &client::hidden(&info, &error)),
                None => Check::ok("daemon", "not running; started when needed"),
            });
            return;
        }
    };
    let asked: Result<DaemonView, _> = client.call(Method::GET, "/v1/daemon", None::<&()>).await;
    match asked {
        Ok(d) => {
            let detail =
                format!("version {}, pid {}, boot {}, seq {}", d.version, d.pid, d.boot, d.seq);
            checks.push(if d.version == crate::VERSION {
                Check::ok("daemon", detail)
            } else {
                Check::warn("daemon", detail, "stop this other version: `groundskeeper stop`")
            });
            if let Some(had) = d.log_had {
                let detail = format!("the log is an older copy: it once had {had} records");
                let hint = "run `groundskeeper sweep` to list what the log no longer records";
                checks.push(Check::warn("log", detail, hint));
            }
            checks.push(worktrees_check(&mut client).await);
            checks.push(hooks_check(&mut client).await);
            checks.push(watching_check(&d.watching));
            checks.push(trash_check(&mut client).await);
            checks.push(rescues_check(&mut client).await);
            checks.push(locks_check(&mut client).await);
            checks.push(sweep_check(d.sweep.as_ref()));
            checks.push(if d.priority == "ordinary" {
                let hint = "allow real-time priority (RLIMIT_RTPRIO) for quick commits under load";
                Check::warn("log writer", "ordinary scheduling", hint)
            } else {
                Check::ok("log writer", d.priority)
            });
        }
        Err(CliError(p)) => checks.push(Check {
            name: "daemon",
            status: "fail",
            detail: p.message.clone(),
            hint: p.hint.clone(),
            metrics: None,
        }),
    }
}

async fn trash_check(client: &mut Client) -> Check {
    let name = "trash";
    let list: Result<Vec<ArchivedIncarnationView>, _> =
        client.call(Method::GET, "/v1/trash", None::<&()>).await;
    let list = match list {
        Ok(list) => list,
        Err(CliError(p)) => return Check::warn(name, p.message, p.hint),
    };
    let pinned: Vec<&ArchivedIncarnationView> =
        list.iter().filter(|r| !r.only_copy_of.is_empty()).collect();
    if pinned.is_empty() {
        return Check::ok(
            name,
            format!("{}, all also saved elsewhere", count(list.len() as u64, "entry", "entries")),
        );
    }
    let bytes: u64 = pinned.iter().map(|r| r.pinned_bytes).sum();
    let names: Vec<&str> = pinned.iter().map(|r| r.id.as_str()).collect();
    let detail = format!(
        "{} entries ({}) are the only copy of work: {}",
        pinned.len(),
        crate::format::bytes(bytes),
        names.join(", ")
    );
    Check::warn(name, detail, "run `groundskeeper trash ls` to list the work")
}

/// Names the rescues that are about to be dropped because of their age.
async fn rescues_check(client: &mut Client) -> Check {
    let name = "rescues";
    let list: Result<Vec<ArchivedIncarnationView>, _> =
        client.call(Method::GET, "/v1/rescues", None::<&()>).await;
    let list = match list {
        Ok(list) => list,
        Err(CliError(p)) => return Check::warn(name, p.message, p.hint),
    };
    let ending: Vec<&ArchivedIncarnationView> =
        list.iter().filter(|r| r.rescue_expires_soon).collect();
    let Some(first) = ending.iter().filter_map(|r| r.rescue_expires_at.as_deref()).min() else {
        return Check::ok(name, format!("{}, none of them about to be dropped", list.len()));
    };
    let named: Vec<&str> = ending.iter().take(NAMED_MAX).map(|r| r.id.as_str()).collect();
    let more = ending.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let (count, named) = (ending.len(), named.join(", "));
    let detail = format!("{count} are dropped for their age from {first} on: {named}{more}");
    let hint = "restore what you need (`groundskeeper restore ID`), or write `rescue_days = \"never\"` \
                in the configuration and run `groundskeeper stop`";
    Check::warn(name, detail, hint)
}

/// Checks whether the worktree of each environment is in its place.
async fn worktrees_check(client: &mut Client) -> Check {
    let name = "worktrees";
    let list: Result<Vec<EnvironmentView>, _> =
        client.call(Method::GET, "/v1/environments", None::<&()>).await;
    let list = match list {
        Ok(list) => list,
        Err(CliError(p)) => return Check::warn(name, p.message, p.hint),
    };
    let ids = |those: &dyn Fn(&EnvironmentView) -> bool| -> Vec<String> {
        list.iter().filter(|e| those(e)).map(|e| e.id.clone()).collect()
    };
    let missing = ids(&|e| e.missing);
    if let Some(first) = missing.first() {
        let detail = format!("missing: {}", missing.join(", "));
        let hint = format!(
            "move it back, or run `groundskeeper rm {first} --force` to record that it is gone"
        );
        return Check::warn(name, detail, hint);
    }
    let unseen = ids(&|e| e.unseen);
    if !unseen.is_empty() {
        let hint = "check the file systems that hold them, such as network mounts";
        return Check::warn(name, format!("do not answer: {}", unseen.join(", ")), hint);
    }
    Check::ok(
        name,
        format!("{}, none missing", count(list.len() as u64, "environment", "environments")),
    )
}

/// Checks for lock files that are older than git holds one.
async fn locks_check(client: &mut Client) -> Check {
    let name = "locks of git";
    let list: Result<Vec<LockView>, _> = client.call(Method::GET, "/v1/locks", None::<&()>).await;
    let list = match list {
        Ok(list) => list,
        // A daemon of an earlier version does not have this request.
        Err(CliError(p)) => return Check::warn(name, p.message, p.hint),
    };
    let standing = list.iter().filter(|lock| lock.age_seconds >= LOCK_SECONDS);
    let Some(oldest) = standing.clone().next() else {
        return Check::ok(name, "no lock is left behind");
    };
    let lines: Vec<String> = standing.map(lock_line).collect();
    Check::warn(name, lines.join("; "), oldest.hint.clone())
}

fn lock_line(lock: &LockView) -> String {
    let holder = match (&lock.process, lock.pid) {
        (Some(process), Some(pid)) => format!("held by {process} (pid {pid})"),
        _ => "no process is known to hold it".to_owned(),
    };
    format!("{} exists for {} s, {holder}", lock.path, lock.age_seconds)
}

/// Checks whether the last sweep left anything that is proven to be managed.
fn sweep_check(last: Option<&LastSweepView>) -> Check {
    let name = "sweep";
    let Some(last) = last else { return Check::ok(name, "none has ended yet") };
    let detail = format!("at {}: {} found, {} settled", last.at, last.found, last.settled);
    if !last.held.is_empty() {
        return Check::warn(
            name,
            format!("{detail}; held back: {}", last.held),
            "run `groundskeeper sweep` to list what would be settled",
        );
    }
    if last.unsettled > 0 {
        let detail = format!("{detail}; {} of groundskeeper's own are left", last.unsettled);
        return Check::warn(name, detail, "run `groundskeeper sweep --apply` to settle them");
    }
    Check::ok(name, detail)
}

fn watching_check(w: &WatchingView) -> Check {
    let name = "watching";
    let stage = |stage: &str| w.stages.get(stage).copied().unwrap_or(0);
    let detail = format!(
        "{}, {} of {} watches, by {}",
        count(w.worktrees as u64, "worktree", "worktrees"),
        w.watches,
        w.budget,
        w.backend
    );
    let (polled, given_up) = (stage("polling"), stage("gave_up"));
    let check = if polled > 0 {
        let hint = "raise fs.inotify.max_user_watches and max_user_instances (sysctl)";
        Check::warn(name, format!("{detail}; {polled} are polled instead"), hint)
    } else if given_up > 0 {
        let hint =
            "find the reason in `groundskeeper events`; retry with `groundskeeper status --watch`";
        Check::warn(name, format!("{detail}; watching of {given_up} was given up"), hint)
    } else {
        Check::ok(name, detail)
    };
    Check { metrics: Some(w.clone()), ..check }
}

fn files_check() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.maximum {
        Some(max) if max < 4_096 => {
            let hint = "raise the hard limit (ulimit -Hn) to 4096 or more";
            Check::warn("open files", format!("at most {max}"), hint)
        }
        Some(max) => Check::ok("open files", format!("at most {max}")),
        None => Check::ok("open files", "no limit"),
    }
}
