//! What must never happen, looked for from the outside: by files, by git, by `/proc`, by the API
//! and by `replay verify`. Each part only looks; none repairs or decides anything.

pub(crate) mod canary;
pub(crate) mod disk;
pub(crate) mod log;
pub(crate) mod running;
pub(crate) mod work;

use std::time::Duration;

use groundskeeper::journal::inspect;
use groundskeeper::journal::inspect::Depth;
use serde_json::Value;

use crate::child;
use crate::client::NAMES;
use crate::ground::{ADOPTED, Ground};
use crate::time;
use crate::trouble::Trouble;

/// Most time until a daemon that nobody disturbs owes nothing: the lock that a killed git leaves on
/// a ref is somebody's for a minute, and what is repeated has doubled its waits by then.
pub(crate) const REST_LIMIT: Duration = Duration::from_secs(150);

/// A broken promise.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// Which check saw it.
    pub(crate) check: &'static str,
    pub(crate) what: String,
}

/// Collects findings of one check.
pub(crate) struct Findings<'a> {
    pub(crate) check: &'static str,
    pub(crate) all: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    pub(crate) fn add(&mut self, what: impl Into<String>) {
        self.all.push(Finding { check: self.check, what: what.into() });
    }

    pub(crate) fn unless(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.add(what());
        }
    }
}

/// Every environment, as the API shows it. After years, those that live and those of the clients.
pub(crate) fn environments(ground: &Ground) -> Result<Vec<Value>, Trouble> {
    if !ground.is_old() {
        return listed(ground, &["ls", "--all"]);
    }
    let mut all = listed(ground, &["ls"])?;
    for id in NAMES.into_iter().chain(ADOPTED) {
        if !all.iter().any(|env| env["id"] == id) {
            let shown = ground.gk(&["show", id])?;
            all.extend(shown.ok().then(|| shown.json()));
        }
    }
    Ok(all)
}

fn listed(ground: &Ground, verb: &[&str]) -> Result<Vec<Value>, Trouble> {
    let shown = ground.gk(verb)?;
    if let Value::Array(all) = shown.json() {
        return Ok(all);
    }
    let (out, err) = (shown.out.trim(), shown.err.trim());
    Err(Trouble::new(format!("{} said {out} {err}", verb.join(" "))))
}

/// Waits until the daemon owes nothing to anybody.
pub(crate) fn drain(ground: &Ground, findings: &mut Vec<Finding>) {
    let quiet = time::until(REST_LIMIT, || {
        let shown = environments(ground).unwrap_or_default();
        let still = shown.iter().all(|e| e["step"].is_null());
        // While it is being written the file may be read torn; then it is read again.
        let found = inspect(&ground.log(), Depth::FromSnapshot, &mut |_, _| {});
        still && found.is_ok_and(|found| found.state.is_quiet())
    });
    if !quiet {
        let found = inspect(&ground.log(), Depth::FromSnapshot, &mut |_, _| {});
        let owed = found.map_or_else(
            |e| format!("the log cannot be read: {e}"),
            |found| {
                let never = groundskeeper::core::Time(u64::MAX);
                let all =
                    found.state.owed(never).map(|o| format!("{} of {:?}", o.step.as_str(), o.id));
                all.collect::<Vec<_>>().join(", ")
            },
        );
        let what = format!("after {REST_LIMIT:?} without trouble it still owes: {owed}");
        findings.push(Finding { check: "rest", what });
    }
}

/// The post-mortem tool's verdict on the log of a daemon that has ended.
pub(crate) fn replay(ground: &Ground, findings: &mut Vec<Finding>) -> Result<(), Trouble> {
    let mut command = std::process::Command::new(&ground.programs.replay);
    ground.isolate(&mut command);
    let done = child::run(command.args(["--json", "verify"]).arg(ground.log()))?;
    if !done.ok() {
        let what = format!("replay verify ends with {:?}: {} {}", done.code, done.out, done.err);
        findings.push(Finding { check: "replay", what });
    }
    Ok(())
}
