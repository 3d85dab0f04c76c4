//! Settings: compiled defaults, overridden by the user's one file, which `config_file` reads.
//!
//! The file is `$GROUNDSKEEPER_CONFIG`, which must be there, else
//! `$XDG_CONFIG_HOME/groundskeeper/config.toml`; without that one the defaults hold. A file that
//! cannot be read or understood is an error that names the line, because a daemon must never
//! silently run with other settings than those in the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::event::Retention;
use crate::core::policy::{BranchPolicy, CLEAN_RETENTION};
use crate::migrate::request::MigrationRequest;
use crate::world::effects::hook;

/// All settings; an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Prefix of a branch name; the environment's id follows.
    pub branch_prefix: String,
    /// Path of the setup hook, relative to the worktree.
    pub setup_path: String,
    /// Time limit of a setup hook in seconds, 1 to 86,400.
    pub setup_limit_seconds: u64,
    /// Time limit of a fetch in seconds, 1 to 3,600.
    pub fetch_limit_seconds: u64,
    /// Path of the teardown hook, relative to the worktree.
    pub teardown_path: String,
    /// Time limit of a teardown hook in seconds, 1 to 86,400.
    pub teardown_limit_seconds: u64,
    /// Policy for the branch of a removed environment: `keep`, `delete-if-merged` or `delete`.
    pub branch_policy: BranchPolicy,
    /// Milliseconds that processes get to end after their environment is removed; at most 60,000.
    pub grace_milliseconds: u64,
    /// Days until a removed environment's trash entry is unlinked; at most 3,650.
    pub trash_days: u64,
    /// Hours until the files that `clean` moved away are unlinked; at most 87,600.
    pub clean_hours: u64,
    /// Days until a rescue is dropped, 1 to 36,500, or `"never"`. Counted from the end of the life,
    /// or from when this is set if that is later; never less than `trash_days`.
    pub rescue_days: Limit,
    /// Size limit of the trash in units of 2^30 bytes; at most 1,048,576.
    pub trash_gigabytes: u64,
    /// Names of directories that tools rebuild, in addition to the built-in ones.
    pub rebuildable: Vec<String>,
    /// When worktrees are watched for changes: `subscription` (while a client follows them, or a
    /// lease is on them), or `always`.
    pub watch: Watching,
    /// Source of file changes: `native`, or `portable` where that fails.
    pub watch_backend: WatchBackend,
    /// Control server that this host has a session with: `unix:/path` or `ws://host:port`.
    pub server: Option<String>,
    /// File with this host's key for the control server, readable by its owner only. Required with
    /// `server`, and only with it.
    pub server_key_file: Option<PathBuf>,
    /// Absolute directories whose repositories the server may use; empty means all of this user's.
    pub server_repositories: Vec<PathBuf>,
    /// Databases that the daemon migrates before it is ready.
    pub databases: Vec<MigrationRequest>,
    /// Days until records are trimmed from the log, 1 to 36,500, or `"never"`. Many go at once, so
    /// that a record may stay for an eighth longer.
    pub log_days: Limit,
    /// Size of all records in units of 2^20 bytes, 1 to 1,048,576, above which the oldest quarter
    /// is trimmed, or `"never"`.
    pub log_megabytes: Limit,
    /// Whether trimmed records are kept in `log-archive`.
    pub log_archive: LogArchive,
    /// Free space, in units of 2^30 bytes, below which the trash is emptied early, the oldest
    /// first.
    pub low_disk_gigabytes: u64,
}

/// When worktrees are watched for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watching {
    /// While a client follows their changes, or a lease is on them. `interest` is the name that
    /// earlier settings files use.
    #[serde(alias = "interest")]
    Subscription,
    /// As long as their environment is served and has a worktree.
    Always,
}

/// A limit that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    /// The most that stays.
    Most(u64),
    /// None.
    Never(Never),
}

/// The word for a limit that is never reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Never {
    /// `never`
    Never,
}

/// What happens to trimmed records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogArchive {
    /// They are kept in files beside the log.
    On,
    /// They are gone.
    Off,
}

impl Limit {
    fn within(self, most: u64) -> bool {
        match self {
            Self::Most(n) => (1..=most).contains(&n),
            Self::Never(Never::Never) => true,
        }
    }

    fn most(self) -> Option<u64> {
        match self {
            Self::Most(n) => Some(n),
            Self::Never(Never::Never) => None,
        }
    }
}

/// Source of file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchBackend {
    /// The best mechanism of this system.
    Native,
    /// A mechanism that works on every system.
    Portable,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            branch_prefix: "gk/".to_owned(),
            setup_path: hook::SETUP.to_owned(),
            setup_limit_seconds: hook::SETUP_LIMIT.as_secs(),
            fetch_limit_seconds: 30,
            teardown_path: hook::TEARDOWN.to_owned(),
            teardown_limit_seconds: 300,
            branch_policy: BranchPolicy::DeleteIfMerged,
            grace_milliseconds: 3_000,
            trash_days: 7,
            clean_hours: CLEAN_RETENTION.as_secs() / 3_600,
            rescue_days: Limit::Never(Never::Never),
            trash_gigabytes: 50,
            rebuildable: Vec::new(),
            low_disk_gigabytes: 2,
            databases: Vec::new(),
            log_days: Limit::Most(90),
            log_megabytes: Limit::Most(256),
            log_archive: LogArchive::On,
            server: None,
            server_key_file: None,
            server_repositories: Vec::new(),
            watch: Watching::Subscription,
            watch_backend: WatchBackend::Native,
        }
    }
}

impl Config {
    /// Returns the limits of time and size for the trash, and of time for files that `clean` moved.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            trash_seconds: self.trash_days.saturating_mul(86_400),
            trash_bytes: self.trash_gigabytes.saturating_mul(1 << 30),
            clean_seconds: self.clean_hours.saturating_mul(3_600),
            rescue_seconds: self.rescue_days.most().map(|days| days.saturating_mul(86_400)),
        }
    }

    /// Returns the age of the records that are trimmed from the log, and the bytes of all records
    /// above which the oldest are.
    #[must_use]
    pub fn log_limits(&self) -> (Option<Duration>, Option<u64>) {
        let days = self.log_days.most();
        let age = days.map(|days| Duration::from_secs(days.saturating_mul(86_400)));
        (age, self.log_megabytes.most().map(|n| n.saturating_mul(1 << 20)))
    }

    /// Returns what is wrong with a setting, if one is out of its bounds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let prefix = &self.branch_prefix;
        // Characters that git refuses in the name of a ref.
        let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if prefix.len() > 64 || prefix.starts_with(['/', '-']) || prefix.contains(odd) {
            return Err(format!("branch_prefix {prefix:?} cannot start a branch name"));
        }
        // Neither `..` nor an absolute path: a hook must lie inside the worktree.
        let plain = |c: std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
        for (name, path) in
            [("setup_path", &self.setup_path), ("teardown_path", &self.teardown_path)]
        {
            if path.is_empty() || !Path::new(path).components().all(plain) {
                return Err(format!("{name} {path:?} must lie inside the worktree"));
            }
        }
        if self.teardown_limit_seconds == 0 || self.teardown_limit_seconds > 24 * 3600 {
            return Err("teardown_limit_seconds must be between 1 and 86400".to_owned());
        }
        if self.server.is_some() != self.server_key_file.is_some() {
            return Err("server and server_key_file must be set together".to_owned());
        }
        if let Some(dir) = self.server_repositories.iter().find(|dir| !dir.is_absolute()) {
            return Err(format!("server_repositories: {} must be an absolute path", dir.display()));
        }
        let odd = |name: &&String| name.is_empty() || name.contains('/');
        if let Some(name) = self.rebuildable.iter().find(odd) {
            return Err(format!("rebuildable {name:?} must be a directory name without '/'"));
        }
        if self.grace_milliseconds > 60_000 {
            return Err("grace_milliseconds must be at most 60000".to_owned());
        }
        if self.trash_days > 3_650 || self.trash_gigabytes > 1 << 20 {
            return Err("trash_days must be at most 3650, trash_gigabytes at most 1048576".into());
        }
        if !self.rescue_days.within(36_500) {
            return Err("rescue_days must be between 1 and 36500, or \"never\"".to_owned());
        }
        if !self.log_days.within(36_500) {
            return Err("log_days must be between 1 and 36500, or \"never\"".to_owned());
        }
        if !self.log_megabytes.within(1 << 20) {
            return Err("log_megabytes must be between 1 and 1048576, or \"never\"".to_owned());
        }
        if self.clean_hours > 3_650 * 24 {
            return Err("clean_hours must be at most 87600".to_owned());
        }
        if self.setup_limit_seconds == 0 || self.setup_limit_seconds > 24 * 3600 {
            return Err("setup_limit_seconds must be between 1 and 86400".to_owned());
        }
        if self.fetch_limit_seconds == 0 || self.fetch_limit_seconds > 3600 {
            return Err("fetch_limit_seconds must be between 1 and 3600".to_owned());
        }
        Ok(())
    }
}
