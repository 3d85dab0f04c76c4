//! One life of a daemon: begun, killed, told to end. It is never left running.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::ground::Ground;
use crate::time;
use crate::trouble::{Trouble, failed};

/// Most time until a daemon is ready or has said why not.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Most time for an orderly end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// One that was started.
pub(crate) struct Daemon {
    child: Child,
    /// It said that it can be used.
    pub(crate) ready: bool,
    /// Its first line: the door, or why there is none.
    pub(crate) printed: String,
}

impl Daemon {
    /// Starts one and waits until it is ready or gone.
    pub(crate) fn start(ground: &Ground, env: &[(String, String)]) -> Result<Self, Trouble> {
        let mut command = ground.command(&["daemon"]);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        Self::begin(command, &ground.path("daemon.err"))
    }

    /// Starts the first one in a data directory that has content, which a daemon without a log
    /// refuses to take for its own.
    pub(crate) fn start_over(ground: &Ground) -> Result<Self, Trouble> {
        Self::begin(ground.command(&["daemon", "--start-over"]), &ground.path("daemon.err"))
    }

    /// Starts one by a command; what it has to say is added to a file.
    pub(crate) fn begin(mut command: Command, printed: &Path) -> Result<Self, Trouble> {
        let log = std::fs::File::options().create(true).append(true).open(printed);
        let log = log.map_err(failed("open", printed))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(failed("run", &program))?;
        let (sender, receiver) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                drop(BufReader::new(stdout).read_line(&mut line));
                drop(sender.send(line));
            });
        }
        let line = receiver.recv_timeout(START_LIMIT).unwrap_or_default();
        let ready = line.starts_with("GROUNDSKEEPER_READY:");
        Ok(Self { child, ready, printed: line })
    }

    pub(crate) fn is_dead(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Bytes of memory that it has in use.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        kilobytes.unwrap_or(0_u64) * 1_024
    }

    /// As a power switch would; true when it still lived.
    pub(crate) fn kill(&mut self) -> bool {
        let lived = !self.is_dead();
        drop(self.child.kill());
        drop(self.child.wait());
        lived
    }

    /// Tells it to end; says so when it does not, or not well.
    pub(crate) fn end(mut self) -> Result<(), String> {
        if let Some(pid) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // One that has ended meanwhile is fine.
            let _sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if !time::until(END_LIMIT, || self.is_dead()) {
            return Err(format!("it does not end within {END_LIMIT:?} of SIGTERM"));
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("it was told to end and ended with {status}")),
            Err(e) => Err(format!("its end cannot be known: {e}")),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
