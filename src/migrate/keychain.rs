//! Keychains: a file for tests and for machines without one, and none at all.
//!
//! A value is never printed, logged or put into a fault.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::recipe::Keychain;
use crate::core::{Code, Fault};

/// Most bytes of a file that holds a keychain.
const FILE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// What a file holds: services, and the accounts of each with their values.
type Entries = BTreeMap<String, BTreeMap<String, String>>;

/// A keychain in a file: JSON, an object of services, each an object of accounts.
#[derive(Debug, Clone)]
pub struct FileKeychain {
    path: PathBuf,
}

/// No keychain: nothing is found, and nothing can be kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeychain;

impl FileKeychain {
    /// The keychain in a file; a file that is not there holds nothing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn load(&self) -> Result<Entries, Fault> {
        match std::fs::metadata(&self.path) {
            Ok(file) if file.len() > FILE_BYTES_MAX => return Err(self.fault("is too large")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Entries::new());
            }
            Err(error) => return Err(self.fault("cannot be read").because(error)),
        }
        let text =
            std::fs::read(&self.path).map_err(|e| self.fault("cannot be read").because(e))?;
        serde_json::from_slice(&text).map_err(|_| self.fault("is not a keychain"))
    }

    fn store(&self, entries: &Entries) -> Result<(), Fault> {
        let failed = |error: std::io::Error| self.fault("cannot be written").because(error);
        let text = serde_json::to_vec_pretty(entries)
            .map_err(|error| self.fault("cannot be written").because(error))?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temp = self.path.with_file_name(name);
        write_private(&temp, &text).map_err(failed)?;
        std::fs::rename(&temp, &self.path).map_err(failed)
    }

    fn change(&self, with: impl FnOnce(&mut Entries)) -> Result<(), Fault> {
        let mut entries = self.load()?;
        with(&mut entries);
        self.store(&entries)
    }

    fn fault(&self, why: &str) -> Fault {
        let message = format!("the keychain file {} {why}", self.path.display());
        Fault::new(Code::KeychainFailed, message, "mend the file, or name another one")
    }
}

impl Keychain for FileKeychain {
    fn get(&self, service: &str, account: &str) -> Result<Option<String>, Fault> {
        Ok(self.load()?.get(service).and_then(|accounts| accounts.get(account)).cloned())
    }

    fn set(&self, service: &str, account: &str, value: &str) -> Result<(), Fault> {
        self.change(|entries| {
            let accounts = entries.entry(service.to_owned()).or_default();
            accounts.insert(account.to_owned(), value.to_owned());
        })
    }

    fn delete(&self, service: &str, account: &str) -> Result<(), Fault> {
        self.change(|entries| {
            if let Some(accounts) = entries.get_mut(service) {
                accounts.remove(account);
            }
        })
    }
}

impl Keychain for NoKeychain {
    fn get(&self, _service: &str, _account: &str) -> Result<Option<String>, Fault> {
        Ok(None)
    }

    fn set(&self, _service: &str, _account: &str, _value: &str) -> Result<(), Fault> {
        let hint = "start the system's keychain (on Linux a Secret Service), then try again";
        Err(Fault::new(Code::KeychainFailed, "this machine has no keychain to write to", hint))
    }

    fn delete(&self, _service: &str, _account: &str) -> Result<(), Fault> {
        Ok(())
    }
}

/// Writes a file that nobody else may read, and sees it onto the disk.
fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_entries_and_shows_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let keychain = FileKeychain::new(dir.path().join("keyring.json"));
        assert_eq!(keychain.get("s", "a").expect("no file"), None);
        keychain.set("s", "a", "v1").expect("set");
        keychain.set("s", "a", "v2").expect("replace");
        keychain.delete("s", "none").expect("nothing to delete");
        assert_eq!(keychain.get("s", "a").expect("get").as_deref(), Some("v2"));
        keychain.delete("s", "a").expect("delete");
        assert_eq!(keychain.get("s", "a").expect("get"), None);
        std::fs::write(dir.path().join("keyring.json"), "{\"s\":{\"a\":\"hidden\", oops")
            .expect("write");
        let fault = keychain.get("s", "a").expect_err("not JSON");
        assert_eq!(fault.code, Code::KeychainFailed);
        assert!(!format!("{fault:?}").contains("hidden"));
    }

    #[test]
    fn without_a_keychain_nothing_is_found_and_nothing_kept() {
        assert_eq!(NoKeychain.get("s", "a").expect("no keychain"), None);
        assert!(NoKeychain.set("s", "a", "v").is_err());
        assert!(NoKeychain.delete("s", "a").is_ok());
    }
}
