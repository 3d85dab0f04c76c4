//! What a record says, in a few words for one line.
//!
//! The words say what a person asks a log for: who wanted it, what was decided, where things went.
//! They are for reading; scripts take `--json`.

use groundskeeper_core::event::{Actor, Base, NotMoved, ProcessSeen, Rescue};
use groundskeeper_core::{Event, Label};

use crate::format::{bytes, count, rfc3339, span};

/// Returns who asked, in words.
#[must_use]
pub fn actor(actor: &Actor) -> String {
    if actor.origin == groundskeeper_core::event::Origin::Daemon {
        return "the daemon".to_owned();
    }
    let pid = if actor.pid == 0 { String::new() } else { format!(", pid {}", actor.pid) };
    format!("{} (uid {}{pid})", actor.origin, actor.uid)
}

/// Returns what a record says, on one line.
#[must_use]
pub fn event(event: &Event) -> String {
    let text = daemon(event).or_else(|| provision(event)).or_else(|| teardown(event));
    let text = text.or_else(|| archive(event)).or_else(|| cleans(event));
    let text = text.or_else(|| others(event));
    text.or_else(|| migration(event)).unwrap_or_default()
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn short_or_empty(commit: Option<&str>) -> &str {
    commit.map_or("", short)
}

fn daemon(event: &Event) -> Option<String> {
    Some(match event {
        Event::DaemonStarted(e) => format!("daemon {} started, pid {}", e.version, e.pid),
        Event::DaemonStopped(e) => format!("daemon stopped: {}", e.reason),
        Event::RetentionChanged(e) => {
            let days = span(e.retention.trash_seconds.saturating_mul(1_000_000_000));
            let clean = span(e.retention.clean_seconds.saturating_mul(1_000_000_000));
            let most = bytes(e.retention.trash_bytes);
            format!("the trash is kept for {days}, at most {most}; cleaned output for {clean}")
        }
        Event::DataDirectoryMoved(e) => {
            format!("the data directory moved from {} to {}", e.from, e.to)
        }
        Event::DataDirectoryCopied(e) => {
            let of = &e.original;
            format!("this data directory is a copy of {of} and manages nothing of the original")
        }
        Event::LogFoundOlder(e) => format!("the log was restored; there was record {}", e.had),
        Event::LivesForgotten(e) => {
            format!("lives that are over and are found by the index: {}", e.lives.len())
        }
        Event::LogTrimmed(e) => {
            let kept = e.segment.as_ref().map_or("nowhere", |segment| &segment.name);
            let (last, reason) = (e.last, &e.reason);
            format!("the records up to {last} were trimmed for their {reason}; kept: {kept}")
        }
        Event::RepositoryMoved(e) => format!("{} moved to {}", e.from, e.to),
        Event::SweepRequested(e) => format!("requested by {}, apply {}", actor(&e.actor), e.apply),
        Event::SweepFinished(e) => {
            let held = e.held.as_ref().map_or_else(String::new, |why| format!("; {why}"));
            format!("{} found, {} settled{held}", e.found, e.settled)
        }
        Event::RepositoryTrusted(e) => format!("{} by {}", e.repository, actor(&e.actor)),
        Event::RepositoryDistrusted(e) => format!("{} by {}", e.repository, actor(&e.actor)),
        _ => return None,
    })
}

fn provision(event: &Event) -> Option<String> {
    Some(match event {
        Event::ProvisionRequested(e) => {
            let base = e.plan.base.as_deref().unwrap_or("the default branch");
            let repo = &e.plan.repository.name;
            let (n, who) = (e.incarnation, actor(&e.actor));
            format!("incarnation {n} of {repo} from {base}, requested by {who}")
        }
        Event::RestoreRequested(e) => {
            let place = if e.from.trash.is_some() { "the trash" } else { "its rescue ref" };
            let (from, who) = (e.from.incarnation, actor(&e.actor));
            format!(
                "incarnation {} from incarnation {from} in {place}, requested by {who}",
                e.incarnation
            )
        }
        Event::EnvironmentAdopted(e) => format!("{} by {}", e.plan.path, actor(&e.actor)),
        Event::BaseResolved(e) => base(&e.base),
        Event::WorktreeAdded(e) => {
            format!("{} by {}", count(e.worktree.files, "file", "files"), e.worktree.checkout)
        }
        Event::FilesIncluded(e) => {
            let skipped = e.included.skipped.len();
            format!("{} files, {}, {skipped} skipped", e.included.files, bytes(e.included.bytes))
        }
        Event::SetupStarted(e) => format!("pid {}, hook {}", e.pid, short(&e.hash)),
        Event::SetupFinished(e) => {
            let took = span(e.report.millis.saturating_mul(1_000_000));
            let printed = bytes(e.report.output_bytes);
            format!("took {took}, printed {printed}: {}", e.report.transcript)
        }
        Event::EnvironmentReady(_) => "ready for use".to_owned(),
        Event::ProvisionFailed(e) => {
            let kept = if e.kept { ", its worktree was kept" } else { "" };
            format!("in {}: {}{kept}", e.step, e.fault)
        }
        Event::CancelRequested(e) => format!("requested by {}", actor(&e.actor)),
        Event::RolledBack(e) => match &e.trash {
            Some(trash) => format!("its content is in {trash}{}", left(&e.leftovers)),
            None => format!("nothing of it is left{}", left(&e.leftovers)),
        },
        Event::AttemptFailed(e) => {
            let (n, step, again) = (e.attempts, &e.step, rfc3339(e.retry_at));
            format!("attempt {n} at {step}: {}; retry at {again}", e.fault)
        }
        Event::IndexRefreshed(e) if e.done => "the index is refreshed".to_owned(),
        Event::IndexRefreshed(_) => "not refreshed: another process holds the index".to_owned(),
        Event::Restored(e) => format!("restored on branch {}", e.branch),
        Event::RescueApplied(_) => "the rescued files were applied".to_owned(),
        _ => return None,
    })
}

fn base(base: &Base) -> String {
    let behind = if base.behind > 0 {
        format!(", {} behind its upstream", base.behind)
    } else {
        String::new()
    };
    format!("{} of {}{behind}", short(&base.commit), base.reference.as_deref().unwrap_or_default())
}

/// Returns the ref of a rescue; empty where it has none.
fn rescue_ref(rescue: &Rescue) -> &str {
    rescue.reference.as_deref().unwrap_or_default()
}

fn left(leftovers: &[String]) -> String {
    if leftovers.is_empty() {
        String::new()
    } else {
        format!("; leftovers: {}", leftovers.join("; "))
    }
}

fn teardown(event: &Event) -> Option<String> {
    Some(match event {
        Event::DestroyRequested(e) => {
            let force = if e.force { ", forced" } else { "" };
            let (why, who) = (&e.options.reason, actor(&e.actor));
            let branch = e.options.branch.as_str();
            format!("requested by {who}, reason {why}{force}, branch: {branch}")
        }
        Event::DestroyRefused(e) => format!("{}", e.fault),
        Event::TeardownInspected(e) if e.unsaved.is_empty() => {
            format!("nothing would be lost, HEAD {}", short_or_empty(e.head.as_deref()))
        }
        Event::TeardownInspected(e) => {
            let (head, what) = (short_or_empty(e.head.as_deref()), e.unsaved.join("; "));
            format!("removal accepted with work at risk, HEAD {head}: {what}")
        }
        Event::InspectionOutdated(_) => "the tree changed; it is inspected again".to_owned(),
        Event::TeardownHookStarted(e) => format!("pid {}, hook {}", e.pid, short(&e.hash)),
        Event::TeardownHookFinished(e) => {
            let took = span(e.millis.saturating_mul(1_000_000));
            let fault = e.fault.as_ref().map(|f| format!("; {f}")).unwrap_or_default();
            format!("took {took}{fault}")
        }
        Event::ProcessesEnded(e) => {
            let all = [("ended", &e.ended), ("spared", &e.spared), ("survived", &e.survivors)];
            let said = all.into_iter().filter(|(_, list)| !list.is_empty());
            let said: Vec<String> = said.map(|(w, list)| format!("{w}: {}", names(list))).collect();
            if said.is_empty() { "no process was in it".to_owned() } else { said.join("; ") }
        }
        Event::WorkRescued(e) => match &e.rescue {
            None => "there was no work to rescue".to_owned(),
            Some(r) => {
                let commit = short_or_empty(r.commit.as_deref());
                format!("{} at {commit}: {}", rescue_ref(r), r.holds.join(", "))
            }
        },
        Event::DirectoryTrashed(e) => match &e.trash {
            Some(trash) => format!("moved to {trash}"),
            None => "the directory did not exist".to_owned(),
        },
        Event::RegistrationRemoved(_) => "git no longer lists the worktree".to_owned(),
        Event::BranchSettled(e) => {
            let what = if e.deleted { "branch deleted" } else { "branch kept" };
            format!("{what}: {}", e.reason)
        }
        Event::Tombstoned(e) => format!("ended{}", left(&e.leftovers)),
        Event::TeardownGaveUp(e) => {
            format!("in {}: {}; the environment is in service again", e.step, e.fault)
        }
        Event::TeardownPostponed(e) => {
            format!("in {}: {}; retry at {}", e.step, e.fault, rfc3339(e.retry_at))
        }
        _ => return None,
    })
}

fn names(list: &[ProcessSeen]) -> String {
    let some = list.iter().take(5).map(|p| format!("{} ({}, {})", p.name, p.pid, p.why));
    let some: Vec<String> = some.collect();
    let more = list.len().saturating_sub(5);
    if more > 0 { format!("{} and {more} more", some.join(", ")) } else { some.join(", ") }
}

fn archive(event: &Event) -> Option<String> {
    Some(match event {
        Event::TrashMeasured(e) => {
            let (n, size) = (e.size.entries, bytes(e.size.allocated));
            format!("incarnation {}: {n} entries, {size}", e.incarnation)
        }
        Event::PurgeDecided(e) => {
            let who = e.actor.as_ref().map(|a| format!(", requested by {}", actor(a)));
            format!("incarnation {}: {}{}", e.incarnation, e.reason, who.unwrap_or_default())
        }
        Event::TrashPurged(e) => {
            let (n, left) = (e.entries, left(&e.leftovers));
            format!("incarnation {}: {n} entries unlinked{left}", e.incarnation)
        }
        Event::RemainsAttemptFailed(e) => {
            let (life, step, again) = (e.incarnation, &e.step, rfc3339(e.retry_at));
            format!("incarnation {life}, {step}: {}; retry at {again}", e.fault)
        }
        Event::RescueDropRequested(e) => {
            format!("incarnation {}, requested by {}", e.incarnation, actor(&e.actor))
        }
        Event::LateWorkRescued(e) => {
            let (life, holds) = (e.incarnation, e.rescue.holds.join(", "));
            format!("incarnation {life}: {} holds {holds}", rescue_ref(&e.rescue))
        }
        Event::LeftoverArchived(e) => {
            format!("incarnation {}: a sweep moved its directory to {}", e.incarnation, e.trash)
        }
        Event::TrashLookFailed(e) => {
            format!("incarnation {} is kept, it could not be inspected: {}", e.incarnation, e.fault)
        }
        Event::RescueExpiryAnnounced(e) => {
            format!("incarnation {}: its rescue is dropped at {}", e.incarnation, rfc3339(e.at))
        }
        Event::RescueFoldDecided(e) => format!(
            "incarnation {}: its repository has many rescue refs, the older ones are to be folded",
            e.incarnation
        ),
        Event::RescuesFolded(e) => match (&e.reference, &e.leftover) {
            (Some(reference), _) => format!("{} rescues are held by {reference}", e.folded.len()),
            (None, why) => why.clone().unwrap_or_default(),
        },
        Event::RescueDropped(e) => {
            let end = e.leftover.as_deref().unwrap_or("its rescue ref was deleted");
            format!("incarnation {}: {end}", e.incarnation)
        }
        _ => return None,
    })
}

fn cleans(event: &Event) -> Option<String> {
    let stays = |left: &[NotMoved]| match left {
        [] => String::new(),
        [first, ..] => format!("; {} not moved: {} {}", left.len(), first.path, first.why),
    };
    Some(match event {
        Event::CleanRequested(e) => {
            format!("requested by {}{}", actor(&e.actor), if e.now { ", at once" } else { "" })
        }
        Event::Cleaned(e) => {
            let (size, n) = (bytes(e.size.allocated), e.paths.len());
            let done = || format!("{size} from {n} paths{}", stays(&e.left));
            e.fault.as_ref().map_or_else(done, ToString::to_string)
        }
        Event::CleanUndoRequested(e) => {
            format!("clean {}, requested by {}", e.clean, actor(&e.actor))
        }
        Event::CleanUndone(e) => {
            let done = || format!("{} put back{}", e.returned.len(), stays(&e.left));
            format!(
                "clean {}: {}",
                e.clean,
                e.fault.as_ref().map_or_else(done, ToString::to_string)
            )
        }
        Event::CleanPurgeDecided(e) => {
            let who = e.actor.as_ref().map(|a| format!(", requested by {}", actor(a)));
            format!("clean {}: {}{}", e.clean, e.reason, who.unwrap_or_default())
        }
        Event::CleanPurged(e) => match &e.fault {
            Some(fault) => format!("clean {} is kept: {fault}", e.clean),
            None => format!("clean {}: {} entries unlinked", e.clean, e.entries),
        },
        Event::CleanAttemptFailed(e) => {
            let (clean, step, again) = (e.clean, &e.step, rfc3339(e.retry_at));
            format!("clean {clean}, {step}: {}; retry at {again}", e.fault)
        }
        _ => return None,
    })
}

fn others(event: &Event) -> Option<String> {
    Some(match event {
        Event::LeaseGranted(e) => {
            let (until, who) = (rfc3339(e.until), actor(&e.actor));
            format!("{} until {until} for {:?}, requested by {who}", e.lease, e.purpose)
        }
        Event::LeaseReleased(e) => e.lease.to_string(),
        Event::LeaseExpired(e) => e.lease.to_string(),
        Event::EnvironmentLabeled(e) => {
            let label = e.label.as_ref().map_or("no label", Label::as_str);
            format!("{label}, requested by {}", actor(&e.actor))
        }
        Event::ProcessStarted(e) => format!("{} ({}) by {}", e.name, e.pid, actor(&e.actor)),
        Event::ProcessExited(e) => format!("pid {}", e.pid),
        Event::WatcherGaveUp(e) => format!("after {} failures: {}", e.attempts, e.reason),
        Event::WatcherResumed(_) => "watching is retried".to_owned(),
        Event::LiveSetTaken(e) => format!(
            "epoch {} of {}: {} retired, {} kept, {} missing, {} healed",
            e.epoch,
            e.server,
            e.retired.len(),
            e.kept.len(),
            e.missing.len(),
            e.healed.len()
        ),
        Event::LiveSetContinued(e) => format!(
            "epoch {} of {}, further: {} kept, {} missing, {} healed",
            e.epoch,
            e.server,
            e.kept.len(),
            e.missing.len(),
            e.healed.len()
        ),
        Event::LiveSetHeld(e) => {
            let (n, of) = (e.would_retire.len(), e.of);
            format!("epoch {} of {} would retire {n} of {of}", e.epoch, e.server)
        }
        Event::RunRequested(e) => format!("{} for {} by {}", e.name, e.request, actor(&e.actor)),
        Event::RunFinished(e) => match e.code {
            Some(code) => format!("{} ended with {code}", e.request),
            None => format!("{}: {}", e.request, e.why.as_deref().unwrap_or_default()),
        },
        Event::Opaque(e) if e.kind == crate::salvage::LOST_KIND => {
            "placeholder: this record was lost".to_owned()
        }
        Event::Opaque(e) => {
            format!("kind {} version {}, {} bytes", e.kind, e.version, e.payload.len())
        }
        _ => return None,
    })
}

fn migration(event: &Event) -> Option<String> {
    let id = event.migration()?;
    let rest = match event {
        Event::MigrationRequested(e) => {
            let how = e.plan.recipe.as_deref().unwrap_or("a folder");
            let dry = if e.plan.dry_run { ", a dry run" } else { "" };
            format!("{} by {how}{dry}, requested by {}", e.plan.database, actor(&e.actor))
        }
        Event::SourceInspected(e) if e.found.old => "an old database".to_owned(),
        Event::SourceInspected(_) => "there is nothing to migrate".to_owned(),
        Event::SourceCopied(e) => format!("{} copied", bytes(e.copy.bytes)),
        Event::SourceNormalised(e) => count(e.warnings.len() as u64, "warning", "warnings"),
        Event::StagingBuilt(e) => {
            let rows: u64 = e.staging.rows.iter().map(|(_, n)| n).sum();
            format!(
                "{rows} rows, {}",
                count(e.staging.warnings.len() as u64, "warning", "warnings")
            )
        }
        Event::SecretsWritten(e) => count(e.entries, "secret", "secrets"),
        Event::StagingVerified(e) => format!("{} verified", bytes(e.bytes)),
        Event::FlipBegun(_) => "the new database may be installed".to_owned(),
        Event::Flipped(e) => format!("installed; the backup is {}", e.backup),
        Event::MigrationFinished(e) => format!("finished{}", left(&e.leftovers)),
        Event::MigrationFailed(e) => format!("in {}: {}", e.step, e.fault),
        Event::MigrationRolledBack(e) => {
            format!("the old database is unchanged{}", left(&e.leftovers))
        }
        Event::MigrationAttemptFailed(e) => {
            format!("attempt {} at {}: {}", e.attempts, e.step, e.fault)
        }
        Event::MigrationUndoRequested(e) => {
            let kept = if e.keep_new { ", the new database is put aside" } else { "" };
            format!("requested by {}{kept}", actor(&e.actor))
        }
        Event::MigrationUndone(e) => format!("the old database is back; the new one is {}", e.kept),
        Event::MigrationUndoRefused(e) => e.fault.to_string(),
        _ => String::new(),
    };
    Some(format!("{id}: {rest}"))
}
