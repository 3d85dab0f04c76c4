//! The user's file of settings: finds, reads and checks it, and shows what it says. It is never
//! written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use groundskeeper_system::own_file::{self, Links};

use crate::config::Config;
use crate::core::{Code, Fault};

/// Variable that names the file.
const VARIABLE: &str = "GROUNDSKEEPER_CONFIG";
/// Bound on the file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the settings of the user's file; returns the defaults if there is none.
///
/// # Errors
/// [`Code::InvalidConfig`] naming the file and what is wrong with it.
pub fn load() -> Result<Config, Fault> {
    Ok(Loaded::read()?.config)
}

/// The settings with where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// All of them.
    pub config: Config,
    /// The file that was looked for; none without a home directory.
    pub file: Option<PathBuf>,
    /// Whether that file exists.
    pub exists: bool,
    /// Names of the settings that it has; the others are defaults.
    pub set: BTreeSet<String>,
}

impl Loaded {
    /// Returns the path of the user's file, which need not exist.
    #[must_use]
    pub fn place() -> Option<PathBuf> {
        let named = std::env::var_os(VARIABLE).filter(|named| !named.is_empty());
        named.map(PathBuf::from).or_else(crate::default_dir::default_config_file)
    }

    /// Reads the user's file.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] naming the file and what is wrong with it, also when the variable
    /// names a file that does not exist.
    pub fn read() -> Result<Self, Fault> {
        if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
            let found = Self::read_from(Path::new(&named))?;
            if found.exists {
                return Ok(found);
            }
            let message = format!("{VARIABLE} names {}, which does not exist", named.display());
            let hint = format!("create the file, or unset {VARIABLE}");
            return Err(Fault::new(Code::InvalidConfig, message, hint));
        }
        crate::default_dir::default_config_file()
            .map_or_else(|| Ok(Self::default()), |file| Self::read_from(&file))
    }

    /// Reads a file; one that does not exist has no settings.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] naming the file and what is wrong with it.
    pub fn read_from(path: &Path) -> Result<Self, Fault> {
        let bad = |why: &dyn std::fmt::Display| {
            let message = format!("cannot use the configuration {}", path.display());
            let hint = "correct the file, or move it away to run with the defaults";
            Fault::new(Code::InvalidConfig, message, hint).because(why)
        };
        let file = Some(path.to_owned());
        // A link is followed: programs that keep the files of a home in a repository make links.
        let read = own_file::read(path, CONFIG_BYTES_MAX, Links::Followed);
        let Some(bytes) = read.map_err(|e| bad(&e))? else {
            return Ok(Self { file, ..Self::default() });
        };
        let text = String::from_utf8(bytes).map_err(|e| bad(&e))?;
        let config: Config = toml::from_str(&text).map_err(|e| bad(&e))?;
        config.check().map_err(|why| bad(&why))?;
        let table: toml::Table = text.parse().map_err(|e| bad(&e))?;
        Ok(Self { config, file, exists: true, set: table.keys().cloned().collect() })
    }

    /// Returns the settings as a file has them, one a line; with `origin` each with where it comes
    /// from.
    #[must_use]
    pub fn text(&self, origin: bool) -> String {
        let table = toml::Table::try_from(&self.config).unwrap_or_default();
        let file = self.file.as_deref().unwrap_or(Path::new("")).display().to_string();
        let mut text = String::new();
        for (name, value) in &table {
            let from = if self.set.contains(name) { &*file } else { "default" };
            let comment = if origin { format!("  # {from}") } else { String::new() };
            text.push_str(&format!("{name} = {value}{comment}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{LogArchive, Watching};

    fn load(text: &str) -> Result<Config, Fault> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Ok(Loaded::read_from(file.path())?.config)
    }

    #[test]
    fn config_file_overrides_named_fields_only() {
        let config = load("branch_prefix = \"agents/\"\n").expect("loaded");
        assert_eq!(config, Config { branch_prefix: "agents/".into(), ..Config::default() });
    }

    #[test]
    fn former_watch_value_is_accepted() {
        for value in ["interest", "subscription"] {
            let config = load(&format!("watch = \"{value}\"\n")).expect(value);
            assert_eq!(config.watch, Watching::Subscription);
        }
    }

    #[test]
    fn log_limits_are_numbers_or_never() {
        let config = load("log_days = \"never\"\nlog_megabytes = 3\nlog_archive = \"off\"\n");
        let config = config.expect("loaded");
        assert_eq!(config.log_limits(), (None, Some(3 << 20)));
        assert_eq!(config.log_archive, LogArchive::Off);
        let days = Duration::from_secs(90 * 86_400);
        assert_eq!(Config::default().log_limits(), (Some(days), Some(256 << 20)));
        for bad in ["log_days = 0", "log_days = \"no\"", "log_megabytes = 0"] {
            load(bad).expect_err(bad);
        }
    }

    /// A missing file yields the defaults.
    #[test]
    fn config_file_invalid_reports_cause() {
        for (text, why) in [
            ("branch_prefx = 1", "branch_prefx"),
            ("branch_prefix = [", "line 1"),
            ("setup_path = \"../x\"", "inside the worktree"),
            ("setup_limit_seconds = 0", "86400"),
        ] {
            let fault = load(text).expect_err(text);
            assert_eq!(fault.code, Code::InvalidConfig);
            assert!(fault.causes.concat().contains(why), "{text}: {fault}");
        }
        let missing = Loaded::read_from(Path::new("/no/such/file")).expect("the defaults");
        assert_eq!((missing.config, missing.exists), (Config::default(), false));
    }

    /// What is shown is a file that says the same.
    #[test]
    fn shown_settings_are_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "trash_days = 3\nlog_days = \"never\"\nrebuildable = [\"out\"]\n\
            [[databases]]\ndatabase = \"/a\"\nrecipe = \"executor\"\n";
        std::fs::write(file.path(), text).expect("written");
        let loaded = Loaded::read_from(file.path()).expect("loaded");
        let shown = loaded.text(true);
        assert!(shown.contains("trash_days = 3  # /"), "{shown}");
        assert!(shown.contains("trash_gigabytes = 50  # default"), "{shown}");
        assert_eq!(load(&loaded.text(false)), Ok(loaded.config.clone()));
        assert_eq!(load(&shown), Ok(loaded.config));
        assert_eq!(load(&Loaded::default().text(true)), Ok(Config::default()));
    }
}
