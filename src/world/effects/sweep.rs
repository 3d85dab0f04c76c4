//! The sweep: finds what no record explains, and removes what is proven to be ours.
//!
//! Proven means: a marker with this log's id, or a name that only this data directory gives, and a
//! log that knows the incarnation and records that it ended. Everything else is reported and left
//! alone. A log that lost its records therefore deletes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::event::{Finding, SweepFinished};
use crate::core::{Code, Environment, EnvironmentId, Fault, HostOutcome, State};
use crate::failpoint::guard;
use crate::failpoint::kill::point;
use crate::world::effects::context::World;
use crate::world::effects::{clean_output, foreign_worktrees};
use crate::world::fs::data_dir::CLEANED_PREFIX;
use crate::world::fs::{names, paths, removal, remove_tree};
use crate::world::git::command::Git;
use crate::world::git::marker::{Admin, Marker};
use crate::world::git::nested::{self, Limits};
use crate::world::git::ref_changes::Change;
use crate::world::git::{locks, registration};
use crate::world::process::cancel::Cancel;
use crate::world::process::cgroup::Cgroups;
use crate::world::process::scope::{Scope, Ties};
use crate::world::process::{subprocess, table, terminate};

/// Most findings that the log names; further ones are only counted.
const FINDINGS_MAX: usize = 256;
/// Number of items that a sweep under the default limit may settle in any case; with more, it
/// settles none if they exceed this percentage of all known incarnations.
const SHARE_FREE: u64 = 10;
const SHARE_MAX: u64 = 50;
/// Prefix of the trash folders in which an earlier version put cleaned output.
const CLEANED_BEFORE: &str = ".clean-";
/// Minimum age of a git lock before it is reported.
const LOCK_AGE: Duration = Duration::from_secs(10);
/// Kind of the finding for a lock that names a dead daemon.
const DEAD_LOCK: &str = "lock of a killed daemon";
/// Minimum age of a half-made administrative directory before it is removed.
const STAGING_AGE: Duration = Duration::from_secs(3_600);

/// One sweep over the whole data directory and its repositories.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) state: &'a State,
    pub(in crate::world) cancel: &'a Cancel,
}

/// The action that would settle a finding.
enum SettleAction {
    /// No action: it is not ours, or its owner is unknown.
    No,
    /// Remove a folder if it is still empty.
    RemoveEmpty(PathBuf),
    /// Unlink a file or folder of ours that holds no work, under the lock of this name.
    Unlink(PathBuf, String),
    /// End a process (pid, start time) that outlived its environment.
    End(EnvironmentId, (u32, u64)),
    /// Delete a ref of ours, the second, in a repository, the first.
    DropRef(PathBuf, PathBuf),
    /// Remove a lock file that names a dead daemon.
    DropLock(PathBuf),
    /// Remove git's registration of a worktree whose incarnation ended.
    Unregister(PathBuf),
}

impl Task<'_> {
    /// Performs [`HostStep::Sweep`](crate::core::HostStep::Sweep).
    pub(in crate::world) fn perform(&self) -> Result<HostOutcome, Fault> {
        let sweep = self.state.sweep();
        let (apply, limit) = sweep.map_or((false, 0), |s| (s.apply, s.limit));
        let found = self.find_all()?;
        // A lock that names a dead daemon proves its own owner: one observation is enough.
        let may = |f: &Finding| f.ours && (f.kind == DEAD_LOCK || self.was_named(f));
        let ours = found.iter().filter(|(f, _)| may(f)).count() as u64;
        let mut finished = SweepFinished { found: found.len() as u64, ..SweepFinished::default() };
        // Many items at once, relative to what exists, suggest that the log
        // is wrong, not the world.
        let known = self.state.environments().count() as u64 + self.state.remains().count() as u64;
        let share = ours > SHARE_FREE && ours * 100 > known * SHARE_MAX;
        let held = apply && (ours > limit || share && limit == crate::core::policy::SWEEP_LIMIT);
        if held && ours > limit {
            finished.held = format!("{ours} findings would be settled, and the limit is {limit}");
        } else if held {
            finished.held = format!(
                "{ours} findings would be settled, more than {SHARE_MAX} % of all {known} \
                 environments and archives"
            );
        }
        for (mut finding, settle) in found {
            self.cancel.check()?;
            if apply && !held && may(&finding) {
                match self.settle(&settle) {
                    Ok(()) => {
                        finding.settled = true;
                        finished.settled += 1;
                    }
                    Err(fault) => finding.detail = format!("{}: {fault}", finding.detail),
                }
                point("sweep.settled_one");
            }
            if finished.findings.len() < FINDINGS_MAX {
                finished.findings.push(finding);
            }
        }
        if apply {
            self.world.cgroups.remove_empty();
        }
        Ok(HostOutcome::Swept(finished))
    }

    /// An unattended sweep settles only what the previous sweep reported.
    fn was_named(&self, finding: &Finding) -> bool {
        let seen_only = self.state.sweep().is_some_and(|s| s.seen_only);
        let before = self.state.last_sweep().map(|(_, s)| s.findings.as_slice());
        let same = |f: &Finding| f.kind == finding.kind && f.path == finding.path;
        !seen_only || before.unwrap_or_default().iter().any(same)
    }

    fn settle(&self, settle: &SettleAction) -> Result<(), Fault> {
        match settle {
            SettleAction::No => Ok(()),
            // The finding may be stale by now: a folder that is in use again is not empty.
            SettleAction::RemoveEmpty(path) => {
                paths::remove_dir_if_empty(path).map_err(paths::failed("remove", path))
            }
            SettleAction::Unlink(path, lock) => {
                let _held = self.hold(lock)?;
                match path.symlink_metadata() {
                    Ok(found) if found.is_dir() => {
                        removal::no_mounts(path)?;
                        // Checked again under the lock: the finding may be stale, and
                        // a repository may be work.
                        let keep = is_of_clean(path).then(|| self.repository_in(path)).flatten();
                        if let Some(why) = keep {
                            let message = format!("{} {why}", path.display());
                            let hint = "inspect it, and delete it manually if it is not needed";
                            return Err(Fault::new(Code::NotOurs, message, hint));
                        }
                        remove_tree::tree(path, &mut |_| self.cancel.check()).map(drop)
                    }
                    Ok(_) => removal::remove_ours_file(path),
                    Err(_) => Ok(()),
                }
            }
            SettleAction::End(id, process) => self.end(id, *process),
            SettleAction::DropRef(common, path) => {
                let name = path.strip_prefix(common).unwrap_or(path).to_string_lossy();
                let git = Git::exact(common, None, None, self.cancel);
                Change::of(&git, common, &name).delete(None)
            }
            SettleAction::DropLock(lock) => {
                locks::drop_if_dead(lock);
                Ok(())
            }
            SettleAction::Unregister(admin) => {
                let marker = Marker::read(admin)?.map(|m| m.environment).unwrap_or_default();
                let _held = self.hold(&marker)?;
                registration::archive_stranded(admin)
            }
        }
    }

    /// Takes the lock of an environment, so that no running effect works on it while
    /// a part of it is settled.
    fn hold(&self, lock: &str) -> Result<File, Fault> {
        let path = self.world.layout.locks().join(lock);
        let there = path.exists();
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(paths::failed("open", &path))?;
        let made_for_this = !there;
        let locked = file.try_lock();
        if made_for_this {
            // A file that was created only for this lock is unlinked at once. The lock stays on the
            // open file; a later effect takes one on a file of its own.
            drop(paths::remove_file_if_any(&path));
        }
        locked.map(|()| file).map_err(|e| {
            let message = format!("{lock} is in use by another operation");
            let hint = "run `groundskeeper sweep` again when that operation has ended";
            Fault::new(Code::EnvironmentBusy, message, hint).because(e)
        })
    }

    /// Lists everything that is found, each with the action that would settle it.
    fn find_all(&self) -> Result<Vec<(Finding, SettleAction)>, Fault> {
        let mut found = Vec::new();
        self.managed_root(&mut found);
        self.cancel.check()?;
        self.trash(&mut found);
        self.copies(&mut found);
        self.locks_and_transcripts(&mut found);
        for common in self.repositories() {
            self.cancel.check()?;
            self.repository(&common, &mut found);
            locks_of_git(&common, &mut found);
            self.refs(&common, &mut found);
        }
        self.processes(&mut found);
        // Inspecting foreign worktrees takes long; a sweep at start does not wait for it.
        if !self.state.sweep().is_some_and(|s| s.seen_only) {
            let root = self.world.layout.root();
            let others = foreign_worktrees::find(&self.repositories(), root, self.cancel)?;
            let adopted = |f: &Finding| {
                let mut live = self.state.environments().filter(|e| e.is_live());
                live.any(|e| e.plan.path == f.path)
            };
            found.extend(others.into_iter().filter(|f| !adopted(f)).map(|f| (f, SettleAction::No)));
        }
        Ok(found)
    }

    /// Finds directories below the managed root that belong to no live environment.
    fn managed_root(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let adopted = |path: &Path| {
            let mut adopted = self.state.environments().filter(|e| e.adopted && e.is_live());
            adopted.any(|e| paths::borrowed(&e.plan.path).starts_with(path))
        };
        for (name, path) in entries(&layout.worktrees()) {
            if name == ".trash" || adopted(&path) {
                continue;
            }
            let env = EnvironmentId::parse(&name).ok().and_then(|id| self.state.environment(&id));
            if env.is_some_and(Environment::is_live) {
                continue;
            }
            let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
            let known = env.is_some();
            let detail = match (known, empty) {
                (true, true) => "the empty directory of a tombstoned environment".to_owned(),
                (true, false) => {
                    "beside a removed worktree; not created by groundskeeper".to_owned()
                }
                (false, _) => {
                    "no record of it; adopt the worktree in it with `groundskeeper adopt`, or \
                     remove it with `git worktree remove`"
                        .to_owned()
                }
            };
            let settle = if known && empty {
                SettleAction::RemoveEmpty(path.clone())
            } else {
                SettleAction::No
            };
            found.push((finding("directory", &path, known && empty, detail), settle));
        }
    }

    /// Finds trash entries that belong to no archive.
    fn trash(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let explained: BTreeSet<PathBuf> = self
            .state
            .remains()
            .filter_map(|r| paths::from_host(r.trash.as_ref()?).parent().map(Path::to_owned))
            .collect();
        for folder in layout.trashes() {
            for (name, path) in entries(&folder) {
                let working = self.state.environments().any(|e| {
                    e.owed.is_some()
                        && (name == names::folder(e.life())
                            || name == format!(".rollback-{}.{}", e.id, e.incarnation))
                });
                let mut outputs = self.state.outputs();
                let cleaned = outputs.any(|o| layout.cleaned_of(&o.id, o.clean).contains(&path));
                if explained.contains(&path) || working || cleaned {
                    continue;
                }
                let cleaned = is_of_clean(&path);
                let keep = cleaned.then(|| self.keeps(&name, &path)).flatten();
                let temporary = name.starts_with(".rollback-") || cleaned && keep.is_none();
                let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
                let ours = temporary || empty;
                let detail = if let Some(why) = keep {
                    format!("moved by a clean, but {why}: inspect it, and remove it manually")
                } else if ours {
                    "left by an interrupted removal".to_owned()
                } else {
                    "no record of it; it may hold work: inspect it, and remove it manually"
                        .to_owned()
                };
                let marks = [CLEANED_PREFIX, CLEANED_BEFORE, ".rollback-"];
                let owner = marks.iter().find_map(|mark| name.strip_prefix(mark)).unwrap_or(&name);
                let owner = owner.rsplit_once('.').map_or(owner, |(id, _)| id).to_owned();
                let settle = match (temporary, empty) {
                    (_, true) => SettleAction::RemoveEmpty(path.clone()),
                    (true, _) => SettleAction::Unlink(path.clone(), owner),
                    _ => SettleAction::No,
                };
                found.push((finding("trash", &path, ours, detail), settle));
            }
        }
    }

    /// Finds raw copies of a rescue that no record explains: they may be
    /// the last copy of some work.
    fn copies(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let remains = self.state.remains().map(|r| names::folder(r.life()));
        let live = self.state.environments().filter(|e| e.is_live());
        let explained: BTreeSet<String> =
            live.map(|e| names::folder(e.life())).chain(remains).collect();
        for (name, path) in entries(&layout.rescues()) {
            if explained.contains(&name) {
                continue;
            }
            let empty = std::fs::read_dir(&path).is_ok_and(|mut d| d.next().is_none());
            let (settle, detail) = if empty {
                (SettleAction::RemoveEmpty(path.clone()), "left by an interrupted rescue")
            } else {
                (
                    SettleAction::No,
                    "no record of it; it may hold work: inspect it, and remove it manually",
                )
            };
            found.push((finding("copies", &path, empty, detail.to_owned()), settle));
        }
    }

    /// Returns why a trash folder of a clean that no record explains must not be unlinked.
    fn keeps(&self, name: &str, path: &Path) -> Option<String> {
        if let Some(named) = name.strip_prefix(CLEANED_PREFIX) {
            let (id, clean) = named.rsplit_once('.')?;
            let id = EnvironmentId::parse(id).ok();
            let known = id.is_some_and(|id| self.state.environment(&id).is_some());
            // A log that was restored from a backup knows nothing of what
            // happened after the backup.
            let past = clean.parse().is_ok_and(|clean: u64| clean <= self.state.seq().0);
            if !known || !past {
                return Some("this log has no record of that clean".to_owned());
            }
        }
        self.repository_in(path)
    }

    fn repository_in(&self, path: &Path) -> Option<String> {
        let found = nested::find(path, Limits::ANY, &mut |_| self.cancel.check());
        found.map_or_else(|fault| Some(fault.to_string()), |f| clean_output::repository(&f, path))
    }

    /// Finds lock files that no process holds and no environment needs, and transcripts
    /// of unknown environments.
    fn locks_and_transcripts(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let layout = &self.world.layout;
        let needed = |id: &str| {
            EnvironmentId::parse(id).ok().is_some_and(|id| {
                self.state.environment(&id).is_some_and(Environment::is_live)
                    || self.state.remains().any(|r| r.id == id)
                    || self.state.outputs_of(&id).next().is_some()
            })
        };
        for (name, path) in entries(&layout.locks()) {
            let id = name.strip_prefix('.').and_then(|n| Some(n.rsplit_once('.')?.0));
            let id = id.unwrap_or(&name);
            let free = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            let shared = [".host", ".cleaned"].contains(&name.as_str());
            if !shared && !needed(id) && free() {
                let detail = "no process holds it".to_owned();
                found
                    .push((finding("lock", &path, true, detail), SettleAction::Unlink(path, name)));
            }
        }
        for (name, path) in entries(&layout.transcripts()) {
            let id = name.strip_suffix(".teardown").unwrap_or(&name);
            let id = id.rsplit_once('.').map_or(id, |(id, _)| id);
            let known = EnvironmentId::parse(id).ok();
            let recent = known.is_some_and(|id| self.state.environment(&id).is_some());
            if !recent {
                let detail = "of an unknown environment".to_owned();
                found.push((finding("transcript", &path, false, detail), SettleAction::No));
            }
        }
    }

    /// Returns every repository that any record names.
    fn repositories(&self) -> BTreeSet<PathBuf> {
        let live = self.state.environments().map(|e| &e.plan);
        let plans = live.chain(self.state.remains().map(|r| &r.plan));
        plans.map(|plan| paths::from_host(&plan.repository.common_dir)).collect()
    }

    /// Finds registrations and half-made administrative directories that carry our marker.
    fn repository(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        for (_, path) in entries(&common.join("worktrees")) {
            let Some(marker) = self.marker(&path) else { continue };
            let (env, over) = self.incarnation(&marker);
            let id = EnvironmentId::parse(&marker.environment).ok();
            let remains = id.and_then(|id| self.state.remains_of(&id, marker.incarnation));
            if remains.is_some_and(|r| r.owed.is_some() || r.restoring.is_some()) {
                // A step of its archive is owed, or a restore is using it.
                continue;
            }
            if env.is_none() {
                let detail = unknown_life(&path, &marker);
                found.push((finding("registration", &path, false, detail), SettleAction::No));
            } else if over {
                let detail =
                    format!("of {}.{}, which ended", marker.environment, marker.incarnation);
                let settle = SettleAction::Unregister(path.clone());
                found.push((finding("registration", &path, true, detail), settle));
            }
        }
        let kept = self.kept_for_restores();
        for (name, path) in entries(&common.join("groundskeeper")) {
            let Some(marker) = self.marker(&path) else { continue };
            let (env, over) = self.incarnation(&marker);
            let half = name.ends_with(".new") || name.ends_with(".gone");
            if name.ends_with(".removed") && over && is_old(&path) && !kept.contains(&path) {
                let id = &marker.environment;
                let detail = format!("kept for a restore of {id}, which is no longer possible");
                let settle = SettleAction::Unlink(path.clone(), marker.environment.clone());
                found.push((finding("staging", &path, true, detail), settle));
                continue;
            }
            let restored = self.state.remains().any(|r| r.restoring.is_some());
            if half && env.is_some() && over && !restored && is_old(&path) {
                let detail = format!("incomplete, of {}", marker.environment);
                let settle = SettleAction::Unlink(path.clone(), marker.environment.clone());
                found.push((finding("staging", &path, true, detail), settle));
            }
        }
    }

    /// Finds temporary refs of ours whose incarnation no longer needs them.
    fn refs(&self, common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
        for folder in names::PASSING {
            for (id, folder) in entries(&common.join(folder)) {
                for (tag, path) in entries(&folder) {
                    if self.is_left(&id, &tag) {
                        let detail = format!("left behind for {id}");
                        let settle = SettleAction::DropRef(common.to_owned(), path.clone());
                        found.push((finding("ref", &path, true, detail), settle));
                    }
                }
            }
        }
    }

    /// Returns whether a ref is named for an incarnation of this log that no longer needs it.
    fn is_left(&self, id: &str, tag: &str) -> bool {
        let mut parts = tag.splitn(3, '-');
        let number = parts.next().and_then(|n| n.parse::<u32>().ok());
        let log = parts.next().unwrap_or_default();
        let (Some(incarnation), Some(nonce)) = (number, parts.next()) else { return false };
        let Ok(id) = EnvironmentId::parse(id) else { return false };
        let busy = |e: &Environment| e.incarnation == incarnation && e.owed.is_some();
        !log.is_empty()
            && self.world.log_id.starts_with(log)
            && self.state.knows(&id, incarnation, nonce)
            && self.state.remains_of(&id, incarnation).is_none()
            && !self.state.environment(&id).is_some_and(busy)
    }

    /// Returns the put-away registrations that a restore may still need.
    fn kept_for_restores(&self) -> BTreeSet<PathBuf> {
        let kept = self.state.remains().filter(|r| r.trash.is_some() || r.restoring.is_some());
        let admin = |r: &crate::core::Remains| {
            let common = &r.plan.repository.common_dir;
            Admin::at(&self.world.log_id, common, r.life()).removed
        };
        kept.map(admin).collect()
    }

    /// Returns the marker of an administrative directory, if it is of this log.
    fn marker(&self, admin: &Path) -> Option<Marker> {
        let marker = Marker::read(admin).ok().flatten()?;
        (marker.log == self.world.log_id || !guard::stands("log")).then_some(marker)
    }

    /// Returns the environment that a marker names, and whether the marker's incarnation ended.
    fn incarnation(&self, marker: &Marker) -> (Option<&Environment>, bool) {
        let id = EnvironmentId::parse(&marker.environment).ok();
        let knows = |id: &EnvironmentId| {
            self.state.knows(id, marker.incarnation, &marker.nonce) || !guard::stands("life")
        };
        let env = id.filter(knows).and_then(|id| self.state.environment(&id));
        let over = env.is_some_and(|e| {
            e.incarnation > marker.incarnation
                || (e.incarnation == marker.incarnation && !e.is_live())
        });
        (env, over)
    }

    /// Finds processes with our marker in their environment variables, whose
    /// environment ended or is unknown.
    fn processes(&self, found: &mut Vec<(Finding, SettleAction)>) {
        let root = self.world.layout.worktrees();
        let mut prefix = b"GROUNDSKEEPER_PATH=".to_vec();
        prefix.extend(paths::to_host(&root).0);
        for process in table::all().into_values() {
            let Some(variable) = table::variable(process.pid, &prefix) else { continue };
            let path = variable.splitn(2, |b| *b == b'=').nth(1).unwrap_or_default();
            let of = self.state.environments().find(|e| e.plan.path.as_bytes() == path);
            if of.is_some_and(Environment::is_live) || process.pid == std::process::id() {
                continue;
            }
            let place = PathBuf::from(format!("/proc/{}", process.pid));
            let (settle, what) = match of {
                Some(env) => {
                    let id = (process.pid, process.started);
                    (SettleAction::End(env.id.clone(), id), "its environment is tombstoned")
                }
                None => (SettleAction::No, "of an environment that is not in the log"),
            };
            let detail = format!("{}: {what}", process.name);
            found.push((finding("process", &place, of.is_some(), detail), settle));
        }
    }

    /// Ends one process, identified by pid and start time, and the processes that it started.
    fn end(&self, id: &EnvironmentId, process: (u32, u64)) -> Result<(), Fault> {
        let scope = Scope {
            id,
            incarnation: 0,
            roots: Vec::new(),
            recorded: vec![process],
            requester: 0,
            with_bystanders: false,
            ties: Ties::Started,
            requests: Vec::new(),
            cgroups: &Cgroups::default(),
        };
        let ended = terminate::end(&scope, subprocess::TERM_GRACE, self.cancel)?;
        if ended.survivors.is_empty() {
            return Ok(());
        }
        let message = format!("process {} does not end", process.0);
        Err(Fault::new(Code::EnvironmentBusy, message, "end it manually"))
    }
}

/// Finds git's own lock files that are old enough to be reported, with their live holder if there
/// is one. Only a lock that names a dead daemon is ours to remove.
fn locks_of_git(common: &Path, found: &mut Vec<(Finding, SettleAction)>) {
    for standing in locks::in_repository(common) {
        if standing.is_ours_and_dead {
            let detail = "left by a daemon that was killed".to_owned();
            let settle = SettleAction::DropLock(standing.path.clone());
            found.push((finding(DEAD_LOCK, &standing.path, true, detail), settle));
        } else if standing.age >= LOCK_AGE {
            let detail = format!("{}; {}", standing.line(), standing.hint());
            found.push((finding("lock of git", &standing.path, false, detail), SettleAction::No));
        }
    }
}

/// Describes a worktree whose marker has this log's id, but an incarnation that the log does not
/// know: the log was restored from a backup, or is not the one that created it.
fn unknown_life(admin: &Path, marker: &Marker) -> String {
    let pointer = std::fs::read(admin.join("gitdir")).unwrap_or_default();
    let place = paths::from_bytes(pointer.trim_ascii_end());
    let place = place.parent().filter(|place| place.exists());
    let what = match place {
        Some(place) => format!("run `groundskeeper adopt '{}'` to adopt it", place.display()),
        None => "its directory does not exist".to_owned(),
    };
    format!("of {}.{}, which is not in the log; {what}", marker.environment, marker.incarnation)
}

/// Returns whether a trash folder belongs to a clean, of this version or an earlier one.
fn is_of_clean(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [CLEANED_PREFIX, CLEANED_BEFORE].iter().any(|prefix| name.starts_with(prefix))
}

/// Returns whether a file is so old that no effect can still be working on it.
fn is_old(path: &Path) -> bool {
    let age = path.symlink_metadata().and_then(|m| m.modified());
    age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > STAGING_AGE))
}

fn finding(kind: &str, path: &Path, ours: bool, detail: String) -> Finding {
    Finding { kind: kind.to_owned(), path: paths::to_host(path), ours, settled: false, detail }
}

/// Lists the names and paths in a folder, sorted; a missing folder is empty.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(String, PathBuf)> =
        entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect();
    all.sort();
    all
}
