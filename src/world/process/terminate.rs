//! Ends the processes of an environment: TERM, grace period, KILL, another scan, in bounded rounds.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use groundskeeper_system::linux_calls;
use rustix::process::{Pid, Signal};

use crate::core::event::{ProcessSeen, ProcessesEnded};
use crate::world::process::cancel::Cancel;
use crate::world::process::error::Error;
use crate::world::process::scope::Scope;
use crate::world::process::{subprocess, table};

/// Bound on the rounds: processes may start while others are being ended.
const ROUNDS_MAX: u32 = 5;
/// Time that the kernel gets to end a process after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(3);
/// Bound on the processes of each kind that the log records.
const NAMED_MAX: usize = 64;

/// A process with an open pidfd: a signal through it cannot reach another process
/// that reuses the pid.
struct OpenProcess {
    seen: ProcessSeen,
    fd: OwnedFd,
}

/// Ends the processes that belong to an environment. Without any, it costs one scan and no signal.
///
/// # Errors
/// When it is cancelled, and when `/proc` does not show the processes. Processes that do not end
/// are no error; they are reported as survivors.
pub fn end(scope: &Scope<'_>, grace: Duration, cancel: &Cancel) -> Result<ProcessesEnded, Error> {
    let mut ended = BTreeMap::new();
    let mut found = scope.scan()?;
    for round in 0..ROUNDS_MAX {
        if found.inside.is_empty() {
            break;
        }
        let held: Vec<OpenProcess> = found.inside.iter().filter_map(hold).collect();
        // A process that was restarted at once already had its grace period in the first round.
        let grace = if round == 0 { grace } else { Duration::from_millis(200) };
        signal(&held, Signal::TERM);
        // A stopped process handles TERM only after it continues.
        signal(&held, Signal::CONT);
        let rest = wait(held, grace, cancel, &mut ended)?;
        if !rest.is_empty() {
            // `cgroup.kill` ends all members at once, unless a spared process is among them.
            let members = scope.cgroups.members(scope.id, scope.incarnation);
            let spared = found.bystanders.iter().any(|p| members.contains(&p.pid));
            if scope.has_whole_group() && !spared {
                scope.cgroups.kill(scope.id, scope.incarnation);
            }
            signal(&rest, Signal::KILL);
            drop(wait(rest, KILL_LIMIT, cancel, &mut ended)?);
        }
        // Orphans are children of this process, which must reap them.
        crate::world::process::orphans::collect()?;
        found = scope.scan()?;
    }
    if scope.has_whole_group() {
        scope.cgroups.remove(scope.id, scope.incarnation);
    }
    let bounded = |list: Vec<ProcessSeen>| list.into_iter().take(NAMED_MAX).collect();
    Ok(ProcessesEnded {
        environment: scope.id.clone(),
        ended: bounded(ended.into_values().collect()),
        spared: bounded(found.bystanders),
        survivors: bounded(found.inside),
    })
}

/// Opens a pidfd of exactly the process that was seen; `None` when it has ended.
fn hold(seen: &ProcessSeen) -> Option<OpenProcess> {
    let pid = Pid::from_raw(i32::try_from(seen.pid).ok()?)?;
    let fd = linux_calls::pidfd_open(pid).ok()?;
    // Compared after the pidfd is open: from here on the descriptor refers to this process.
    table::is_alive(seen.pid, seen.started).then(|| OpenProcess { seen: seen.clone(), fd })
}

fn signal(held: &[OpenProcess], signal: Signal) {
    for process in held {
        // A process that has ended, or that may not be signalled, is seen by the next scan.
        let _sent = linux_calls::pidfd_send_signal(&process.fd, signal);
    }
}

/// Waits until all have ended or the limit has passed; returns those that have not.
fn wait(
    mut held: Vec<OpenProcess>,
    limit: Duration,
    cancel: &Cancel,
    ended: &mut BTreeMap<(u32, u64), ProcessSeen>,
) -> Result<Vec<OpenProcess>, Error> {
    let until = Instant::now() + limit;
    while !held.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds: Vec<_> = held.iter().map(|h| h.fd.as_fd()).collect();
        fds.push(cancel.as_fd());
        let ready = subprocess::poll_all(&fds, left).unwrap_or_default();
        cancel.check()?;
        let mut gone = ready.iter();
        held.retain(|process| {
            let over = gone.next() == Some(&true);
            if over {
                let seen = process.seen.clone();
                ended.insert((seen.pid, seen.started), seen);
            }
            !over
        });
        if left.is_zero() {
            break;
        }
    }
    Ok(held)
}
