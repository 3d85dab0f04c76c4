//! The connection to the daemon. The data directory determines its socket; a daemon is started if
//! none runs. All waits are bounded.

use std::fs::File;
use std::io::BufRead as _;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::{BufReader, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use groundskeeper_system::own_file::{self, Links};
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::args::Global;
use super::error::CliError;
use super::render;

use crate::core::{Code, Fault};
use crate::daemon::info::{Info, read_info};
use crate::daemon::ready::READY;
use crate::daemon::running;
use crate::daemon::text_log::LOG_BYTES_MAX;
use crate::http::socket_file;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::process::{git_env, table};

/// Timeout for a starting daemon to become ready.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Most starts of a daemon for one command.
const STARTS_MAX: u32 = 3;
/// Limit of an answer in bytes, as it is read into memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Returns the data directory that the flags name, or the default one.
///
/// # Errors
/// If none is named and there is no home directory.
pub fn layout(global: &Global) -> Result<Layout, Fault> {
    let dir = match &global.data_dir {
        Some(dir) => std::path::absolute(dir).map_err(paths::failed("find", dir))?,
        None => crate::default_dir::default_data_dir()?,
    };
    // A directory that does not exist yet cannot be resolved; its absolute path is used.
    Ok(Layout::new(dir.canonicalize().unwrap_or(dir)))
}

/// One HTTP/1 connection to a daemon or control server.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// Returns the socket of the daemon of this data directory. The address in the daemon's info file
/// counts only if the socket lies outside the data directory, because the daemon may have had a
/// different runtime directory. Its file name must be that of this data directory: the info file in
/// a copied directory names the socket of the original's daemon.
fn address_of(layout: &Layout) -> PathBuf {
    let own = socket_file::address(layout);
    if own.starts_with(layout.root()) {
        return own;
    }
    let noted = read_info(layout).map(|info| info.socket);
    noted.filter(|noted| noted.file_name() == own.file_name()).unwrap_or(own)
}

impl Client {
    /// Connects to the daemon; starts one if none runs and the flags allow it. A daemon that runs
    /// and has no socket at the moment is waited for.
    ///
    /// # Errors
    /// If no daemon runs and none can be started, with its stderr; if one runs and cannot be
    /// reached.
    pub async fn connect(global: &Global) -> Result<Self, Fault> {
        let layout = layout(global)?;
        let until = Instant::now() + START_LIMIT;
        let mut starts = 0;
        loop {
            let failure = match Self::try_connect(&layout).await {
                Ok(client) => {
                    if !global.quiet && !global.json {
                        note_other_version(&layout);
                    }
                    return Ok(client);
                }
                Err(e) => e,
            };
            let running = running::find(&layout);
            if let Some(info) = &running
                && (info.unreachable.is_some() || Instant::now() > until)
            {
                return Err(hidden(info, &failure));
            }
            // Without its info file a daemon may be starting, or that file was removed as well.
            let is_owned = running.is_some() || running::is_locked(&layout);
            if !is_owned && global.no_autostart || Instant::now() > until {
                return Err(unreachable(&layout, &failure));
            }
            // Another command may start a daemon at the same time. Then the one started here ends
            // because the lock is taken, and this loop waits for the other one. That one may end,
            // too, so there is more than one start.
            if !is_owned && starts < STARTS_MAX {
                starts += 1;
                Starter::start(&layout)?.wait_ready().await?;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Connects to a running daemon; starts none.
    ///
    /// # Errors
    /// The I/O error of the connection, or an error if another process listens.
    pub async fn try_connect(layout: &Layout) -> std::io::Result<Self> {
        let stream = UnixStream::connect(&address_of(layout)).await?;
        // A process that cannot be seen from here has the pid 0, or another one.
        let listener = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        let daemon = read_info(layout)
            .filter(|info| info.started.is_some_and(|started| table::is_alive(info.pid, started)));
        if let (Some(listener), Some(daemon)) = (listener.filter(|pid| *pid != 0), daemon)
            && listener != daemon.pid
            && Some(listener) != daemon.listener
        {
            let message = format!("process {listener} listens there, and is not the daemon");
            return Err(std::io::Error::other(message));
        }
        Self::over(stream).await
    }

    /// Connects to a socket. The listening process must run as this user or as root.
    ///
    /// # Errors
    /// The I/O error of the connection, or an error if another user listens.
    pub async fn at(address: &Path) -> std::io::Result<Self> {
        Self::over(UnixStream::connect(address).await?).await
    }

    async fn over(stream: UnixStream) -> std::io::Result<Self> {
        let me = rustix::process::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0) {
            return Err(std::io::Error::other("another user listens at this address"));
        }
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Sends a request and returns the head of the answer; the caller reads the body.
    ///
    /// # Errors
    /// If the request is invalid or the connection breaks.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request = request.map_err(|e| {
            let hint = "check the ids and paths in the arguments";
            Fault::new(Code::InvalidRequest, "cannot build the request", hint).because(e)
        })?;
        let broken = |e: hyper::Error| connection_lost(&e);
        self.sender.ready().await.map_err(broken)?;
        self.sender.send_request(request).await.map_err(broken)
    }

    /// Sends a request and parses the JSON answer. An empty body is parsed as `null`.
    ///
    /// # Errors
    /// The problem that the daemon answered, a broken connection, or an answer that does not parse.
    pub async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        let body = body.map(|b| serde_json::to_vec(b).unwrap_or_default());
        // Boxed and of one type: else every kind of answer would have this code once more.
        let bytes = Box::pin(self.exchange(method, path, body)).await?;
        let text = if bytes.is_empty() { &b"null"[..] } else { &bytes };
        serde_json::from_slice(text).map_err(|e| unparsable(&e))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, CliError> {
        let headers = [("content-type", "application/json")];
        read(self.send(method, path, &headers, body).await?).await
    }
}

/// Says that the daemon was started from a program of another version: it answers as that did.
fn note_other_version(layout: &Layout) {
    let Some(daemon) = read_info(layout).filter(|info| info.version != crate::VERSION) else {
        return;
    };
    render::note(&format!(
        "the daemon is version {}, this program {}: `groundskeeper stop` ends it, and the next \
         command starts the new one",
        render::printable(&daemon.version),
        crate::VERSION
    ));
}

/// Reads the body of an answer; turns the body of an unsuccessful one into an error.
///
/// # Errors
/// The problem in the body, a broken connection, or a body above `ANSWER_BYTES_MAX`.
pub async fn read(answer: Response<Incoming>) -> Result<Bytes, CliError> {
    let ok = answer.status().is_success();
    let limited = http_body_util::Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let bytes = limited.collect().await.map(http_body_util::Collected::to_bytes).map_err(|e| {
        let hint = "check the daemon with `groundskeeper doctor`, then retry";
        Fault::new(Code::DaemonUnreachable, "cannot read the daemon's answer", hint).because(e)
    })?;
    if ok {
        return Ok(bytes);
    }
    Err(serde_json::from_slice(&bytes).map_or_else(
        |_| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let message = "cannot parse the error that the daemon answered";
            let hint = "check the daemon's version with `groundskeeper doctor`";
            Fault::new(Code::DaemonUnreachable, message, hint).because(text).into()
        },
        |problem| CliError(Box::new(problem)),
    ))
}

fn unparsable(error: &serde_json::Error) -> CliError {
    let message = "cannot parse the daemon's answer";
    let hint = "if it is of another version, run `groundskeeper stop` and retry";
    Fault::new(Code::DaemonUnreachable, message, hint).because(error).into()
}

fn connection_lost(error: &hyper::Error) -> Fault {
    let message = "the connection to the daemon broke";
    let hint = "check with `groundskeeper ls`; acknowledged requests are done or continue";
    Fault::new(Code::DaemonUnreachable, message, hint).caused_by(error)
}

fn unreachable(layout: &Layout, error: &std::io::Error) -> Fault {
    let message = format!("cannot reach a daemon for {}", layout.root().display());
    let hint = "start one with `groundskeeper daemon`, or omit --no-autostart";
    Fault::new(Code::DaemonUnreachable, message, hint).because(error)
}

/// Returns the fault for a daemon that runs and cannot be reached.
pub(in crate::cli) fn hidden(info: &Info, error: &std::io::Error) -> Fault {
    let socket = info.socket.display();
    let why = info.unreachable.clone().unwrap_or_else(|| error.to_string());
    let message = format!("the daemon (pid {}) cannot be reached at {socket}: {why}", info.pid);
    let hint = "run `groundskeeper stop`, then repeat the command";
    Fault::new(Code::DaemonUnreachable, message, hint)
}

/// A daemon that starts in the background; `log_from` is where its part of the text log begins.
struct Starter {
    child: std::process::Child,
    log: PathBuf,
    log_from: u64,
}

impl Starter {
    fn start(layout: &Layout) -> Result<Self, Fault> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let root = layout.root();
        own_file::make_folder(root).map_err(paths::failed("create the data directory", root))?;
        let log = layout.daemon_log();
        let found = own_file::check(&log, Links::Refused).map_err(paths::failed("open", &log))?;
        if found.is_some_and(|found| found.len() > LOG_BYTES_MAX) {
            // Two files bound the space; the older one keeps enough history for a diagnosis.
            drop(std::fs::rename(&log, log.with_extension("log.old")));
        }
        let mut options = File::options();
        options.create(true).append(true).mode(0o600);
        let open = own_file::open(&log, &options, Links::Refused);
        let file = open.map_err(paths::failed("open", &log))?;
        let log_from = file.metadata().map_or(0, |m| m.len());
        let program =
            std::env::current_exe().map_err(paths::failed("find", Path::new("groundskeeper")))?;
        let mut command = Command::new(&program);
        git_env::isolate(&mut command);
        // In `/`, so that the daemon does not keep the caller's directory in use.
        command.arg("--data-dir").arg(root).args(["daemon", "--detach"]).current_dir("/");
        // A daemon started from inside an environment must not count as its process: a removal
        // finds processes by `GROUNDSKEEPER_PATH`.
        for name in ["ENV", "INCARNATION", "PATH", "BRANCH", "SOURCE", "CD_FILE"] {
            command.env_remove(format!("GROUNDSKEEPER_{name}"));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(paths::failed("start", &program))?;
        Ok(Self { child, log, log_from })
    }

    /// Waits for the ready line or the end of the process. Success if the daemon is ready, or ended
    /// because another one runs already; else the fault carries its stderr.
    async fn wait_ready(mut self) -> Result<(), Fault> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(()) };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Own thread: a blocking read from a pipe cannot be cancelled, but the thread can be left
        // behind after the timeout.
        let reader = std::thread::Builder::new().spawn(move || {
            let mut line = String::new();
            drop(BufReader::new(stdout).take(4_096).read_line(&mut line));
            drop(sender.send(line));
        });
        reader.map_err(|e| {
            let message = "cannot start a thread that waits for the daemon";
            Fault::new(Code::Io, message, "free some memory").because(e)
        })?;
        match tokio::time::timeout(START_LIMIT, receiver).await {
            Ok(line) if line.as_ref().is_ok_and(|l| l.starts_with(READY)) => return Ok(()),
            Ok(_) => {}
            Err(_) => {
                let message = format!("the daemon is not ready after {} s", START_LIMIT.as_secs());
                let hint = format!("read its log {}", self.log.display());
                return Err(Fault::new(Code::Timeout, message, hint));
            }
        }
        let status = self.child.wait().ok();
        let taken = i32::from(Code::AlreadyRunning.kind().exit_code());
        if status.is_some_and(|s| s.code() == Some(taken)) {
            return Ok(());
        }
        let mut output = String::new();
        let open = own_file::open(&self.log, File::options().read(true), Links::Refused);
        if let Ok(mut file) = open {
            drop(file.seek(SeekFrom::Start(self.log_from)));
            drop(file.take(64 * 1024).read_to_string(&mut output));
        }
        let message = "the daemon did not start";
        let hint = "read its log with `groundskeeper daemon logs`";
        let lines = output.lines().filter(|l| !l.is_empty()).map(str::to_owned);
        let unusable = i32::from(Code::InvalidConfig.kind().exit_code());
        let code = match status.and_then(|status| status.code()) {
            Some(code) if code == unusable => Code::InvalidConfig,
            _ => Code::DaemonUnreachable,
        };
        Err(Fault::new(code, message, hint).with_evidence(lines))
    }
}
