//! Keychains: the system's own, one in a file for tests and for machines without one, and none.
//!
//! A value is never printed, logged or put into a fault.
//!
//! The system's keychain is accessed through `keyring` 3 because the original application uses the
//! same library: each finds what the other wrote. On Linux it reaches the Secret Service through
//! `libdbus`, which is compiled from its own source without a C library at hand and without
//! optimisation, in about ten seconds. The pure Rust alternative (`zbus`) would add over a hundred
//! crates and an async runtime. The session is unencrypted: its socket belongs to the user.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::recipe::Keychain;
use groundskeeper_core::{Code, Fault};
use groundskeeper_system::portable::{self, Existing};

/// Timeout for the system's keychain, long enough for a user who has to enter a password.
const LIMIT: Duration = Duration::from_secs(120);
/// Largest file that is read as a keychain, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// Content of the file: for each service its accounts, for each account its value.
type Entries = BTreeMap<String, BTreeMap<String, String>>;

/// A keychain in a JSON file: an object of services, each an object of accounts.
#[derive(Debug, Clone)]
pub struct FileKeychain {
    path: PathBuf,
}

/// The absence of a keychain: every read finds nothing, every write and removal fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeychain;

/// The keychain of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemKeychain;

impl Keychain for SystemKeychain {
    fn get(&self, service: &str, account: &str) -> Result<Option<String>, Fault> {
        match ask(LIMIT, service, account, |entry| entry.get_password())? {
            Ok(value) => Ok(Some(value)),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unanswered("read", &error)),
        }
    }

    fn set(&self, service: &str, account: &str, value: &str) -> Result<(), Fault> {
        let value = value.to_owned();
        let set = ask(LIMIT, service, account, move |entry| entry.set_password(&value))?;
        set.map_err(|error| unanswered("write to", &error))
    }

    fn delete(&self, service: &str, account: &str) -> Result<(), Fault> {
        match ask(LIMIT, service, account, |entry| entry.delete_credential())? {
            Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
            // Also without a keychain: the entry may have been written in a session that had one.
            Err(error) => Err(unanswered("remove an entry from", &error)),
        }
    }

    fn is_reachable(&self) -> Result<bool, Fault> {
        match ask(LIMIT, "groundskeeper", "no such entry", |entry| entry.get_password())? {
            Ok(_) | Err(keyring::Error::NoEntry) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(unanswered("read", &error)),
        }
    }
}

/// Performs one call to the keychain, which may ask the user to unlock it, and waits at most
/// `limit`. The outer error is the timeout, the inner one the keychain's.
fn ask<T: Send + 'static>(
    limit: Duration,
    service: &str,
    account: &str,
    act: impl FnOnce(keyring::Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<keyring::Result<T>, Fault> {
    let (service, account) = (service.to_owned(), account.to_owned());
    let (sender, receiver) = mpsc::sync_channel(1);
    // A thread of its own, because the library's call has no timeout. The channel holds one result,
    // so that a thread that is late can end.
    let work = move || drop(sender.send(keyring::Entry::new(&service, &account).and_then(act)));
    let asked = std::thread::Builder::new().name("gk-keychain".to_owned()).spawn(work);
    asked.map_err(|e| silent(limit).because(e))?;
    receiver.recv_timeout(limit).map_err(|e| silent(limit).because(e))
}

fn silent(limit: Duration) -> Fault {
    let message = format!("the system's keychain did not answer within {} s", limit.as_secs());
    let hint = "unlock it, or answer its prompt, then retry";
    Fault::new(Code::KeychainFailed, message, hint)
}

/// Returns whether this machine has no keychain at all, as opposed to one that does not answer. On
/// Linux these D-Bus errors mean that no service exists; the original reads them the same way.
fn is_absent(error: &keyring::Error) -> bool {
    let platform =
        matches!(error, keyring::Error::PlatformFailure(_) | keyring::Error::NoStorageAccess(_));
    let absent = [
        "org.freedesktop.DBus.Error.NotSupported",
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.FileNotFound",
        "org.freedesktop.DBus.Error.NoServer",
        "org.freedesktop.DBus.Error.Spawn.",
    ];
    let text = error.to_string();
    cfg!(target_os = "linux") && platform && absent.iter().any(|name| text.contains(name))
}

/// Returns the fault for an error of the keychain. The error's text contains services and accounts
/// at most, except for a value that is not text: for that one only the kind is reported.
fn unanswered(what: &str, error: &keyring::Error) -> Fault {
    let why = match error {
        keyring::Error::BadEncoding(_) => "the entry is not text".to_owned(),
        keyring::Error::Ambiguous(_) => "more than one entry has this name".to_owned(),
        other => other.to_string(),
    };
    let hint = "unlock or start the system's keychain (on Linux a Secret Service), then retry";
    let message = format!("cannot {what} the system's keychain");
    Fault::new(Code::KeychainFailed, message, hint).because(why)
}

impl FileKeychain {
    /// Creates a keychain in a file. A missing file holds nothing.
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

    /// Writes only a real change: a file that stays the same may be read-only.
    fn change(&self, with: impl FnOnce(&mut Entries)) -> Result<(), Fault> {
        let before = self.load()?;
        let mut entries = before.clone();
        with(&mut entries);
        if entries == before { Ok(()) } else { self.store(&entries) }
    }

    fn fault(&self, why: &str) -> Fault {
        let message = format!("the keychain file {} {why}", self.path.display());
        let hint = "repair the file, or set GROUNDSKEEPER_KEYCHAIN_FILE to another one";
        Fault::new(Code::KeychainFailed, message, hint)
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
        Err(absent("write a secret"))
    }

    fn delete(&self, _service: &str, _account: &str) -> Result<(), Fault> {
        Err(absent("remove a secret"))
    }

    fn is_reachable(&self) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// Returns the fault for an operation that needs a keychain where there is none now.
pub(super) fn absent(what: &str) -> Fault {
    let hint = "start the system's keychain (on Linux a Secret Service), then retry";
    Fault::new(Code::KeychainFailed, format!("cannot {what}: there is no keychain now"), hint)
}

/// Writes a file that no other user may read, and syncs it.
fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = portable::open_private(path, Existing::Emptied)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unresponsive_keychain_times_out() {
        let (release, wait) = mpsc::sync_channel::<()>(0);
        let act = move |_: keyring::Entry| {
            let _ended = wait.recv();
            Ok(())
        };
        let fault = ask(Duration::from_millis(20), "service", "account", act);
        let fault = fault.expect_err("a timeout");
        assert_eq!(fault.code, Code::KeychainFailed);
        assert!(fault.message.contains("did not answer"), "{fault}");
        drop(release);
    }

    /// The test also covers set, replace, get and delete.
    #[test]
    fn file_keychain_hides_values_in_errors() {
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
    fn no_keychain_reads_none_refuses_writes() {
        assert_eq!(NoKeychain.get("s", "a").expect("no keychain"), None);
        assert!(NoKeychain.set("s", "a", "v").is_err());
        assert!(NoKeychain.delete("s", "a").is_err(), "it may exist where there is a keychain");
        assert!(!NoKeychain.is_reachable().expect("told"));
    }
}
