//! `service`: lets the service manager of the user run the daemon, shows whether it does, and takes
//! that back. The files and commands are shown before anything is written or run.
//!
//! It replaces and removes only files that this program wrote.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use groundskeeper_system::own_file::{self, Links};
use serde_json::json;

use crate::cli::args::{Global, ServiceVerb};
use crate::cli::commands::daemon;
use crate::cli::output::{CommandResult, show_one};
use crate::cli::units::{self, Manager, Units, Wanted, Words};
use crate::cli::{ask, client, render};
use crate::core::{Code, Fault};
use crate::daemon::running;
use crate::http::socket_file;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::process::cancel::Cancel;
use crate::world::process::subprocess::{Bounds, Finished, run};

/// Longest time that a command of the service manager takes: it waits for the daemon's start or
/// end.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Bound on what such a command prints.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Hints for a command of the service manager that failed.
const INSTALL_AGAIN: &str = "mend what it says, then run `groundskeeper service install` again";
const UNINSTALL_AGAIN: &str = "mend what it says; the files of the service are removed already";
/// A longer file is not one of these.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(in crate::cli) async fn service(global: &Global, what: ServiceVerb) -> CommandResult {
    let layout = client::layout(global)?;
    let units = units_of(&layout)?;
    match what {
        ServiceVerb::Install { dry_run: true, .. } => preview(global, &units),
        ServiceVerb::Install { yes, .. } => install(global, &layout, &units, yes).await,
        ServiceVerb::Uninstall { yes } => uninstall(global, &units, yes),
        ServiceVerb::Status => status(global, &units),
    }
}

/// Returns the files and commands for a data directory on this machine.
fn units_of(layout: &Layout) -> Result<Units, Fault> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| {
        let message = "cannot find a home directory for the service";
        Fault::new(Code::InvalidConfig, message, "set HOME")
    })?;
    let (manager, folder) = match manager() {
        Some(Manager::Systemd) => {
            let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
            let settings = set.filter(|set| set.is_absolute()).unwrap_or(home.join(".config"));
            (Manager::Systemd, settings.join("systemd/user"))
        }
        Some(Manager::Launchd) => (Manager::Launchd, home.join("Library/LaunchAgents")),
        None => {
            let message = "neither systemd nor launchd was found";
            let hint = "have `groundskeeper daemon` run by what starts services here";
            return Err(Fault::new(Code::UnsupportedCommand, message, hint));
        }
    };
    let program =
        std::env::current_exe().map_err(paths::failed("find", Path::new("groundskeeper")))?;
    // The service manager has other variables than this shell.
    let usual = home.join(".local/share/groundskeeper");
    let usual = usual.canonicalize().unwrap_or(usual);
    let socket = socket_file::address(layout);
    let variables = variables(layout, &socket)?;
    for path in [&program, &socket, &folder, layout.root()] {
        fits(path)?;
    }
    let wanted = Wanted {
        program: &program,
        data: layout.root(),
        is_default: usual == layout.root(),
        socket: &socket,
        log: &layout.daemon_log(),
        folder: &folder,
        variables: &variables,
    };
    Ok(units::units(manager, &wanted))
}

/// Returns what the daemon needs of this shell: where programs for hooks are, and its settings.
fn variables(layout: &Layout, socket: &Path) -> Result<Vec<(&'static str, String)>, Fault> {
    let mut names = vec!["PATH", "GROUNDSKEEPER_CONFIG", "XDG_CONFIG_HOME"];
    if !socket.starts_with(layout.root()) {
        // The path of the data directory is too long for a socket; its place depends on this.
        names.push("XDG_RUNTIME_DIR");
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            let message = "XDG_RUNTIME_DIR is not set, and tells where the socket is";
            let hint = "run this in a session of yours, or choose a shorter --data-dir";
            return Err(Fault::new(Code::InvalidConfig, message, hint));
        }
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let set = names.into_iter().filter_map(|name| Some((name, set(name)?)));
    set.map(|(name, value)| {
        fits(Path::new(&value))?;
        Ok((name, value.to_string_lossy().into_owned()))
    })
    .collect()
}

/// Refuses what a file of a service manager cannot hold: a line break in it would begin a line of
/// its own.
fn fits(text: &Path) -> Result<(), Fault> {
    if text.to_str().is_some_and(|text| !text.chars().any(char::is_control)) {
        return Ok(());
    }
    let message = format!("a service cannot have {} in it", text.display());
    let hint = "choose a path of plain text, or run `groundskeeper daemon` in another way";
    Err(Fault::new(Code::InvalidConfig, message, hint))
}

fn manager() -> Option<Manager> {
    if cfg!(target_os = "macos") {
        return Some(Manager::Launchd);
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).any(|folder| folder.join("systemctl").is_file());
    found.then_some(Manager::Systemd)
}

fn preview(global: &Global, units: &Units) -> CommandResult {
    show_one(global, &described(units), &plan(units, &units.start))
}

/// Returns the files and the commands as text for people.
fn plan(units: &Units, commands: &[Words]) -> String {
    let mut text = String::new();
    for (path, content) in &units.files {
        let _fits = writeln!(text, "{}:", path.display());
        for line in content.lines() {
            let _fits = writeln!(text, "  {line}");
        }
        text.push('\n');
    }
    for command in commands {
        let _fits = writeln!(text, "then: {}", command.join(" "));
    }
    text
}

fn described(units: &Units) -> serde_json::Value {
    let files =
        units.files.iter().map(|(path, content)| json!({ "path": path, "content": content }));
    json!({ "files": files.collect::<Vec<_>>(), "commands": units.start })
}

async fn install(global: &Global, layout: &Layout, units: &Units, yes: bool) -> CommandResult {
    for (path, _) in &units.files {
        found(path)?;
    }
    if ask::is_due(global, yes) {
        render::out(&plan(units, &units.start));
        let ends = running::is_locked(layout);
        let ends = if ends { " The daemon that runs is stopped first." } else { "" };
        ask::consent(&format!("Write these files and run these commands?{ends}"))?;
    }
    // Before anything is changed.
    must(&units.probe, INSTALL_AGAIN)?;
    if units.stop_first && units.files.iter().any(|(path, _)| path.exists()) {
        for command in &units.stop {
            drop(call(command));
        }
    }
    if running::is_locked(layout) {
        // Its socket would be in the way of the service manager's.
        daemon::end(layout).await?;
    }
    for (path, content) in &units.files {
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(paths::failed("create", folder))?;
        own_file::replace(path, content.as_bytes()).map_err(paths::failed("write", path))?;
    }
    for command in &units.start {
        must(command, INSTALL_AGAIN)?;
    }
    let text = "installed: the daemon starts with your session, and when a command needs it\n";
    show_one(global, &described(units), text)
}

fn uninstall(global: &Global, units: &Units, yes: bool) -> CommandResult {
    let mut ours = Vec::new();
    for (path, _) in &units.files {
        ours.extend(found(path)?.then_some(path));
    }
    if ours.is_empty() {
        return Err(match package_of(units) {
            Some(path) => of_package(units, &path).into(),
            None => not_installed(units).into(),
        });
    }
    if ask::is_due(global, yes) {
        for path in &ours {
            render::out(&format!("{}\n", path.display()));
        }
        ask::consent("Stop the service and remove these files?")?;
    }
    // A service manager that does not answer keeps no file here.
    let stopped = units.stop.iter().try_for_each(|command| must(command, UNINSTALL_AGAIN));
    for path in &ours {
        std::fs::remove_file(path).map_err(paths::failed("remove", path))?;
    }
    stopped?;
    units.forget.iter().try_for_each(|command| must(command, UNINSTALL_AGAIN))?;
    show_one(global, &json!({ "removed": ours }), "removed: commands start the daemon as before\n")
}

fn status(global: &Global, units: &Units) -> CommandResult {
    let by_package = package_of(units).is_some();
    if !by_package && !units.files.iter().any(|(path, _)| path.exists()) {
        return Err(not_installed(units).into());
    }
    let state = call(&units.state)?;
    let text = String::from_utf8_lossy(&state.stdout).into_owned();
    let is_current = |(path, content): &(PathBuf, String)| {
        let written = std::fs::read_to_string(path).unwrap_or_default();
        units::without_variables(&written) == units::without_variables(content)
    };
    let differs = !by_package && !units.files.iter().all(is_current);
    let value = json!({
        "running": state.status.success(),
        "current": !differs,
        "text": text,
    });
    show_one(global, &value, &text)?;
    if differs && !global.json {
        render::note("its files are not those of this program: `groundskeeper service install`");
    }
    Ok(if state.status.success() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// Returns the unit that a package brought, where there is one and none of the user's.
fn package_of(units: &Units) -> Option<PathBuf> {
    if units.files.iter().any(|(path, _)| path.exists()) {
        return None;
    }
    let name = units.files.first()?.0.file_name()?;
    let folders = ["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn of_package(units: &Units, path: &Path) -> Fault {
    let message = format!("{} belongs to a package", path.display());
    let commands: Vec<String> = units.stop.iter().map(|command| command.join(" ")).collect();
    let hint = format!("turn it off with `{}`", commands.join(" && "));
    Fault::new(Code::NotOurs, message, hint)
}

fn not_installed(units: &Units) -> Fault {
    let path = units.files.first().map(|(path, _)| path.display().to_string()).unwrap_or_default();
    let message = format!("no service is installed: {path} does not exist");
    Fault::new(Code::NotFound, message, "`groundskeeper service install` makes it")
}

/// Returns whether a file of ours is there.
///
/// # Errors
/// If there is one that this program did not write.
fn found(path: &Path) -> Result<bool, Fault> {
    let read = own_file::read(path, FILE_BYTES_MAX, Links::Refused);
    let Some(content) = read.map_err(paths::failed("read", path))? else { return Ok(false) };
    if units::is_ours(&String::from_utf8_lossy(&content)) {
        return Ok(true);
    }
    let message = format!("{} was not written by groundskeeper", path.display());
    let (from, to) = (paths::as_argument(path), paths::as_argument(&path.with_extension("aside")));
    let hint = format!("move it away with `mv {from} {to}`, then try again");
    Err(Fault::new(Code::PathExists, message, hint))
}

/// Runs a command that has to succeed.
fn must(command: &Words, hint: &str) -> Result<(), Fault> {
    let done = call(command)?;
    if done.status.success() {
        return Ok(());
    }
    let message = format!("`{}` failed ({})", command.join(" "), done.status);
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Fault::new(Code::Io, message, hint).because(said))
}

fn call(command: &Words) -> Result<Finished, Fault> {
    let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    let mut child = Command::new(program);
    child.args(arguments);
    let cancel = Cancel::new().map_err(paths::failed("watch a process in", Path::new("/")))?;
    let bounds = Bounds {
        time: COMMAND_LIMIT,
        output_bytes: OUTPUT_BYTES_MAX,
        cancel: &cancel,
        cancel_grace: Duration::ZERO,
    };
    Ok(run(child, None, bounds)?)
}
