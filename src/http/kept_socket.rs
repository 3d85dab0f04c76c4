//! Keeps a Unix socket reachable under its name for as long as its process runs: a log-out or a
//! program that cleans `/tmp` or `/run` may remove the name under the listener.
//!
//! It unlinks no file but its own socket. Where something else has got the name, it waits until the
//! name is free again, and says so meanwhile. It accepts no connection.

use std::os::unix::net::UnixListener as Passed;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::net::UnixListener;

use crate::http::error::Error;
use crate::http::socket_file::{Found, adopt, bind, find, touch};
use crate::sync::lock_unpoisoned;
use crate::world::fs::file_id::FileId;

/// Interval of the look at the name: a removed socket is to be there again within 2 s. An event of
/// the kernel would take an inotify instance, of which a user has few; a look costs two wake-ups.
pub(super) const EVERY: Duration = Duration::from_millis(1_250);
/// Interval at which the times of the socket are renewed. Programs that clean up go by days.
const RENEWED_EVERY: Duration = Duration::from_secs(3_600);

/// Called after each look with the reason why the socket cannot be reached, or none when it can,
/// and whether that is new.
pub type Report = Box<dyn Fn(Option<&str>, bool) + Send + Sync>;

/// A socket that keeps its name.
pub struct KeptSocket {
    address: PathBuf,
    /// A directory that is not made again: without it the process has nothing to serve.
    home: PathBuf,
    report: Report,
    state: Mutex<State>,
}

struct State {
    own: FileId,
    /// Whether the name is another process's to remove.
    stays: bool,
    renewed: Instant,
    /// Why it cannot be reached.
    problem: Option<String>,
    closed: bool,
}

impl std::fmt::Debug for KeptSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptSocket").field("address", &self.address).finish_non_exhaustive()
    }
}

impl KeptSocket {
    /// Binds the socket. `home` is the directory that the process serves.
    ///
    /// # Errors
    /// If the directory is not this user's, something else has the name, or binding fails.
    pub fn open(
        address: &Path,
        home: &Path,
        report: Report,
    ) -> Result<(Self, UnixListener), Error> {
        let (listener, own) = bind(address)?;
        let state =
            State { own, stays: false, renewed: Instant::now(), problem: None, closed: false };
        let (address, home) = (address.to_owned(), home.to_owned());
        Ok((Self { address, home, report, state: Mutex::new(state) }, listener))
    }

    /// Takes a socket on which a service manager listens already. Its name stays when this process
    /// ends, for the next one. A name that is gone or leads nowhere is made anew.
    ///
    /// # Errors
    /// If another process listens at `address`, or the directory is not this user's.
    pub fn adopt(
        passed: &Passed,
        address: &Path,
        home: &Path,
        report: Report,
    ) -> Result<(Self, UnixListener), Error> {
        let (listener, own, stays) = adopt(passed, address)?;
        let state = State { own, stays, renewed: Instant::now(), problem: None, closed: false };
        let (address, home) = (address.to_owned(), home.to_owned());
        Ok((Self { address, home, report, state: Mutex::new(state) }, listener))
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Looks at the name once. Returns a new listener where the socket had to be made again.
    pub(super) fn keep(&self) -> Option<UnixListener> {
        let mut state = lock_unpoisoned(&self.state);
        if state.closed {
            return None;
        }
        let (listener, problem) = match self.look(&mut state) {
            Ok(listener) => (listener, None),
            Err(problem) => (None, Some(problem)),
        };
        let address = self.address.display();
        match &problem {
            _ if listener.is_some() => {
                tracing::warn!(%address, "the socket was removed; made anew");
            }
            Some(why) if state.problem.as_ref() != Some(why) => {
                tracing::warn!(%address, why, "no client can connect");
            }
            None if state.problem.is_some() => {
                tracing::info!(%address, "clients can connect again");
            }
            _ => {}
        }
        let is_new = problem != state.problem || listener.is_some();
        (self.report)(problem.as_deref(), is_new);
        state.problem = problem;
        listener
    }

    fn look(&self, state: &mut State) -> Result<Option<UnixListener>, String> {
        match find(&self.address, state.own).map_err(text)? {
            Found::Own => {
                if state.renewed.elapsed() >= RENEWED_EVERY {
                    state.renewed = Instant::now();
                    touch(&self.address).map_err(|e| e.to_string())?;
                }
                Ok(None)
            }
            Found::Other(what) => Err(format!("{what} has its name")),
            Found::Nothing if !self.home.is_dir() => {
                Err(format!("{} is gone", self.home.display()))
            }
            Found::Nothing => {
                let (listener, own) = bind(&self.address).map_err(text)?;
                (state.own, state.stays, state.renewed) = (own, false, Instant::now());
                Ok(Some(listener))
            }
        }
    }

    /// Removes the name if it is still that of the socket. Called while the listener is open, since
    /// its inode number may become another file's afterwards. The socket is not made again.
    pub fn close(&self) {
        let mut state = lock_unpoisoned(&self.state);
        if !std::mem::replace(&mut state.closed, true)
            && !state.stays
            && matches!(find(&self.address, state.own), Ok(Found::Own))
        {
            drop(std::fs::remove_file(&self.address));
        }
    }
}

impl Drop for KeptSocket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns an error in one line, with its cause.
fn text(error: Error) -> String {
    let fault = crate::core::Fault::from(error);
    let causes = fault.causes.iter().map(String::as_str);
    std::iter::once(fault.message.as_str()).chain(causes).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        socket: KeptSocket,
        listener: UnixListener,
        reports: Arc<Mutex<Vec<Option<String>>>>,
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().canonicalize().expect("real").join("home");
        let reports: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let kept = Arc::clone(&reports);
        let report = move |why: Option<&str>, is_new: bool| {
            let mut kept = kept.lock().expect("kept");
            kept.extend(is_new.then(|| why.map(str::to_owned)));
        };
        let opened = KeptSocket::open(&home.join("a.sock"), &home, Box::new(report));
        let (socket, listener) = opened.expect("bound");
        Scene { dir, socket, listener, reports }
    }

    #[tokio::test]
    async fn removed_socket_is_made_again() {
        let scene = scene();
        assert!(scene.socket.keep().is_none(), "it is there");
        std::fs::remove_file(scene.socket.address()).expect("removed");
        let again = scene.socket.keep().expect("a listener");
        assert!(std::os::unix::net::UnixStream::connect(scene.socket.address()).is_ok());
        assert_eq!(*scene.reports.lock().expect("kept"), [None]);
        scene.socket.close();
        assert!(!scene.socket.address().exists());
        assert!(scene.socket.keep().is_none(), "it is closed");
        drop((again, scene.listener));
    }

    #[tokio::test]
    async fn foreign_file_is_left_alone_and_reported() {
        let scene = scene();
        let address = scene.socket.address();
        std::fs::remove_file(address).expect("removed");
        std::fs::write(address, "theirs").expect("written");
        for _ in 0..3 {
            assert!(scene.socket.keep().is_none());
        }
        assert_eq!(std::fs::read(address).expect("there"), b"theirs");
        std::fs::remove_file(address).expect("removed");
        let _again = scene.socket.keep().expect("a listener");
        let said = Some("a plain file has its name".to_owned());
        assert_eq!(*scene.reports.lock().expect("kept"), [said, None]);
        let _foreign = {
            std::fs::remove_file(address).expect("removed");
            std::os::unix::net::UnixListener::bind(address).expect("bound")
        };
        scene.socket.close();
        assert!(address.exists(), "it is not ours");
    }

    #[tokio::test]
    async fn removed_directory_is_not_made_again() {
        let scene = scene();
        std::fs::remove_dir_all(scene.dir.path().join("home")).expect("removed");
        assert!(scene.socket.keep().is_none());
        assert!(!scene.dir.path().join("home").exists());
        assert_eq!(scene.reports.lock().expect("kept").len(), 1);
    }
}
