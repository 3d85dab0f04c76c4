//! The files by which a service manager runs the daemon of a data directory, and the commands that
//! let it read them. Pure: it neither writes a file nor runs a command.

use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::format::hex;
use crate::world::fs::paths;

/// The words in the head of every file that this program writes.
const MARK: &str = "Written by groundskeeper;";

const SERVICE: &str = include_str!("units/groundskeeper.service");
const SOCKET: &str = include_str!("units/groundskeeper.socket");
const PROPERTY_LIST: &str = include_str!("units/launchd.plist");

/// What runs services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Manager {
    /// The systemd of a user.
    Systemd,
    /// The launchd of macOS.
    Launchd,
}

/// What the files are about.
#[derive(Debug)]
pub(in crate::cli) struct Wanted<'a> {
    /// The program, as an absolute path.
    pub(in crate::cli) program: &'a Path,
    /// The data directory.
    pub(in crate::cli) data: &'a Path,
    /// Whether that is the one which the program uses when none is named.
    pub(in crate::cli) is_default: bool,
    /// The socket at which clients connect.
    pub(in crate::cli) socket: &'a Path,
    /// The text log, for a service manager that has none of its own.
    pub(in crate::cli) log: &'a Path,
    /// The folder of the service manager's files.
    pub(in crate::cli) folder: &'a Path,
    /// Variables that the daemon gets.
    pub(in crate::cli) variables: &'a [(&'static str, String)],
}

/// A command: the program and its arguments.
pub(in crate::cli) type Words = Vec<String>;

/// The files, and the commands after they are written and before they are removed.
#[derive(Debug)]
pub(in crate::cli) struct Units {
    /// Paths and contents.
    pub(in crate::cli) files: Vec<(PathBuf, String)>,
    /// Fails where the service manager does not answer. Changes nothing.
    pub(in crate::cli) probe: Words,
    /// Run in this order when the files are there.
    pub(in crate::cli) start: Vec<Words>,
    /// Run in this order before the files go, and before others take their place where the service
    /// manager needs that.
    pub(in crate::cli) stop: Vec<Words>,
    /// Whether a service that is there already must end before it is started anew.
    pub(in crate::cli) stop_first: bool,
    /// Run when the files are gone.
    pub(in crate::cli) forget: Vec<Words>,
    /// Tells with exit code 0 that the service manager has it, and prints the state.
    pub(in crate::cli) state: Words,
}

/// Returns the name of a data directory's service.
fn name(wanted: &Wanted<'_>) -> String {
    if wanted.is_default {
        return "groundskeeper".to_owned();
    }
    let digest = sha2::Sha256::digest(paths::to_host(wanted.data).as_bytes());
    format!("groundskeeper-{}", hex(&digest[..4]))
}

/// Returns the files and commands of a service manager.
pub(in crate::cli) fn units(manager: Manager, wanted: &Wanted<'_>) -> Units {
    match manager {
        Manager::Systemd => systemd(wanted),
        Manager::Launchd => launchd(wanted),
    }
}

/// Returns a file without its variables, which are those of the shell that installed it.
pub(in crate::cli) fn without_variables(content: &str) -> Vec<&str> {
    content.lines().filter(|line| !line.starts_with("Environment=")).collect()
}

/// Returns whether this program wrote a file with this content.
pub(in crate::cli) fn is_ours(content: &str) -> bool {
    content.lines().take(3).any(|line| line.contains(MARK))
}

fn systemd(wanted: &Wanted<'_>) -> Units {
    let name = name(wanted);
    let mut command = systemd_word(wanted.program);
    if !wanted.is_default {
        command = format!("{command} --data-dir {}", systemd_word(wanted.data));
    }
    let variables: Vec<String> =
        wanted.variables.iter().map(|(name, value)| systemd_variable(name, value)).collect();
    let variables = variables.concat();
    let filled = |text: &str| {
        text.replace("@NAME@", &name)
            .replace("@COMMAND@", &format!("{command} daemon"))
            .replace("@SOCKET@", &percents(&wanted.socket.display().to_string()))
            .replace("@VARIABLES@\n", &variables)
    };
    let (socket, service) = (format!("{name}.socket"), format!("{name}.service"));
    let call = |more: &[&str]| words(&[&["systemctl", "--user"], more].concat());
    Units {
        files: vec![
            (wanted.folder.join(&socket), filled(SOCKET)),
            (wanted.folder.join(&service), filled(SERVICE)),
        ],
        probe: call(&["show-environment"]),
        start: vec![
            call(&["daemon-reload"]),
            call(&["enable", &socket, &service]),
            // A socket that listens already may be another one.
            call(&["restart", &socket, &service]),
        ],
        stop_first: false,
        stop: vec![call(&["disable", "--now", &socket, &service])],
        forget: vec![call(&["daemon-reload"])],
        state: call(&["--no-pager", "status", &socket, &service]),
    }
}

fn launchd(wanted: &Wanted<'_>) -> Units {
    let name = format!("dev.{}", name(wanted));
    let mut arguments = vec![wanted.program.display().to_string()];
    if !wanted.is_default {
        arguments.extend(["--data-dir".to_owned(), wanted.data.display().to_string()]);
    }
    arguments.push("daemon".to_owned());
    let arguments: Vec<String> =
        arguments.iter().map(|word| format!("        <string>{}</string>", xml(word))).collect();
    let content = PROPERTY_LIST
        .replace("@NAME@", &name)
        .replace("@ARGUMENTS@", &arguments.join("\n"))
        .replace("@LOG@", &xml(&wanted.log.display().to_string()));
    let content = content.replace("@VARIABLES@\n", &launchd_variables(wanted.variables));
    let file = wanted.folder.join(format!("{name}.plist"));
    let domain = format!("gui/{}", rustix::process::getuid().as_raw());
    let service = format!("{domain}/{name}");
    let path = file.display().to_string();
    Units {
        files: vec![(file, content)],
        probe: words(&["launchctl", "managername"]),
        start: vec![words(&["launchctl", "bootstrap", &domain, &path])],
        stop_first: true,
        stop: vec![words(&["launchctl", "bootout", &service])],
        forget: Vec::new(),
        state: words(&["launchctl", "print", &service]),
    }
}

fn launchd_variables(variables: &[(&str, String)]) -> String {
    let pairs = variables.iter().map(|(name, value)| {
        format!("        <key>{name}</key>\n        <string>{}</string>\n", xml(value))
    });
    pairs.collect()
}

fn words(of: &[&str]) -> Words {
    of.iter().map(|word| (*word).to_owned()).collect()
}

/// Quotes a word of a systemd command line, in which `%` begins something.
fn systemd_word(path: &Path) -> String {
    let text = quoted(&path.display().to_string());
    if text.contains([' ', '\t', '\'', '"', '\\', ';']) { format!("\"{text}\"") } else { text }
}

/// Returns the line that sets a variable.
fn systemd_variable(name: &str, value: &str) -> String {
    format!("Environment=\"{name}={}\"\n", quoted(value))
}

fn quoted(text: &str) -> String {
    percents(text).replace('\\', r"\\").replace('"', "\\\"")
}

fn percents(text: &str) -> String {
    text.replace('%', "%%")
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    static VARIABLES: OnceLock<Vec<(&str, String)>> = OnceLock::new();

    fn wanted(data: &Path, is_default: bool) -> Wanted<'_> {
        Wanted {
            program: Path::new("/opt/the tools/100%/groundskeeper"),
            data,
            is_default,
            socket: Path::new("/home/u/a%b/daemon.sock"),
            log: Path::new("/home/u/a&b/daemon.log"),
            folder: Path::new("/home/u/units"),
            variables: VARIABLES.get_or_init(|| vec![("PATH", "/bin:/a b/$x/100%".to_owned())]),
        }
    }

    #[test]
    fn words_survive_the_service_manager() {
        let found = units(Manager::Systemd, &wanted(Path::new("/data/$x"), false));
        let (path, service) = &found.files[1];
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("text");
        assert!(name.starts_with("groundskeeper-") && name.len() == 22, "{name}");
        let command =
            r#"ExecStart=:"/opt/the tools/100%%/groundskeeper" --data-dir /data/$x daemon"#;
        assert!(service.lines().any(|line| line == command), "{service}");
        let variable = r#"Environment="PATH=/bin:/a b/$x/100%%""#;
        assert!(service.lines().any(|line| line == variable), "{service}");
        assert!(found.files[0].1.contains("ListenStream=/home/u/a%%b/daemon.sock\n"));
        let found = units(Manager::Launchd, &wanted(Path::new("/data"), true));
        assert!(found.files[0].1.contains("<string>/home/u/a&amp;b/daemon.log</string>"));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for manager in [Manager::Systemd, Manager::Launchd] {
            for (path, content) in units(manager, &wanted(Path::new("/data"), true)).files {
                assert!(is_ours(&content), "{}", path.display());
                assert!(!content.contains('@'), "{content}");
            }
        }
        assert!(!is_ours("[Service]\nExecStart=/usr/bin/groundskeeper daemon\n"));
    }
}
