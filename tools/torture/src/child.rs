//! Child processes with a bound on their time and nothing left of them: every command that the
//! torture runs, it waits for.

use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::time;
use crate::trouble::Trouble;

/// Most time for one verb or one git call; longer is a finding.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// How a child ended.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// It took too long and was killed.
    pub(crate) late: bool,
}

impl Finished {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// What stdout says, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.out.trim()).unwrap_or(Value::Null)
    }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Result<Finished, Trouble> {
    run_within(command, LIMIT)
}

/// Runs to the end or for so long.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<Finished, Trouble> {
    let mut started = Started::new(command)?;
    let late = !time::until(limit, || started.is_over());
    started.end(late)
}

/// One that runs.
pub(crate) struct Started {
    child: Child,
    out: std::fs::File,
    err: std::fs::File,
}

impl Started {
    pub(crate) fn new(command: &mut Command) -> Result<Self, Trouble> {
        let program = command.get_program().to_string_lossy().into_owned();
        let cannot = |e: std::io::Error| Trouble::new(format!("cannot run {program}")).because(&e);
        let out = tempfile::tempfile().map_err(cannot)?;
        let err = tempfile::tempfile().map_err(cannot)?;
        command.stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(cannot)?);
        command.stderr(err.try_clone().map_err(cannot)?);
        let child = command.spawn().map_err(cannot)?;
        Ok(Self { child, out, err })
    }

    pub(crate) fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
    }

    /// Waits for the end, or brings it about, and takes what was said.
    pub(crate) fn end(mut self, late: bool) -> Result<Finished, Trouble> {
        if late {
            self.kill();
        }
        let status = self.child.wait();
        let status = status.map_err(|e| Trouble::new("cannot wait for a child").because(&e))?;
        let (out, err) = (text(&mut self.out), text(&mut self.err));
        Ok(Finished { code: status.code(), out, err, late })
    }
}

fn text(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    drop(file.rewind().and_then(|()| file.read_to_end(&mut bytes)));
    String::from_utf8_lossy(&bytes).into_owned()
}
