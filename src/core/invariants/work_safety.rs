//! The user's work: inspected, agreed to, rescued, moved, kept; in this order and no other.

use crate::event::{
    BranchSettled, CleanPurgeDecided, DestroyRequested, Event, LeftoverArchived, Origin,
    PurgeDecided, PurgeReason, Record, RescueDropRequested, RescueExpiryAnnounced, SweepFinished,
    TeardownReason,
};
use crate::id::{EnvironmentId, Time};
use crate::invariants::checker::Audit;
use crate::invariants::list::{
    ANNOUNCED, BRANCH, KEPT, LEASED, LOOKED, MOVED, OURS, RESCUED, Violations,
};
use crate::model::cleaned_output::OutputPhase;
use crate::model::environment::{Environment, Phase};
use crate::model::step::EnvironmentStep as Step;
use crate::policy::{BranchPolicy, EXPIRY_NOTICE};
use crate::state::State;

/// Reasons for which the content of the trash may be unlinked.
const REASONS: [PurgeReason; 6] = [
    PurgeReason::Age,
    PurgeReason::Bytes,
    PurgeReason::Count,
    PurgeReason::Disk,
    PurgeReason::Request,
    PurgeReason::Lose,
];

impl Audit {
    pub(super) fn check_work(&self, state: &State, record: &Record, found: &mut Violations) {
        match &record.event {
            Event::DirectoryTrashed(e) => {
                if let Some(env) = state.environment(&e.environment) {
                    self.moves(env, found);
                }
            }
            Event::Tombstoned(e) => {
                if let Some(env) = state.environment(&e.environment).filter(|env| too_early(env)) {
                    let what = env.owed.as_ref().map_or("nothing is owed", |o| o.step.as_str());
                    found.push((MOVED, format!("{} is {}: {what}", env.id, env.phase.as_str())));
                }
            }
            Event::BranchSettled(e) => branch(state, e, found),
            Event::PurgeDecided(e) => purge(state, record.at, e, found),
            Event::RescueExpiryAnnounced(e) => announced(state, record.at, e, found),
            Event::RescueDropRequested(e) => dropped(state, record.at, e, found),
            Event::CleanPurgeDecided(e) => purge_of_clean(state, record.at, e, found),
            Event::DestroyRequested(e) => leased(state, record.at, e, found),
            Event::SweepFinished(e) => sweep(state, e, found),
            Event::LeftoverArchived(e) => self.leftover(state, e, found),
            _ => {}
        }
    }

    fn leftover(&self, state: &State, e: &LeftoverArchived, found: &mut Violations) {
        let env = state.environment(&e.environment);
        let live = env.filter(|env| env.incarnation == e.incarnation && env.is_live());
        let is_known =
            env.is_some() || self.former.contains_key(&e.environment) || self.begins_late;
        if live.is_some() || !is_known {
            let (id, life) = (&e.environment, e.incarnation);
            found.push((OURS, format!("incarnation {life} of {id} has not ended")));
        }
        if !state.sweep().is_some_and(|sweep| sweep.apply) {
            found.push((OURS, format!("{} was moved without --apply", e.trash)));
        }
    }

    fn moves(&self, env: &Environment, found: &mut Violations) {
        let step = env.owed.as_ref().map(|o| o.step);
        let torn = env.phase == Phase::TearingDown && !env.adopted;
        if !torn || step != Some(Step::MoveToTrash) {
            let owed = step.map_or("nothing", Step::as_str);
            let phase = env.phase.as_str();
            found.push((
                LOOKED,
                format!("{} was moved while it was {phase} and owed {owed}", env.id),
            ));
        }
        let wanted = env.teardown.as_ref().is_some_and(|t| t.rescue_wanted && t.rescue.is_none());
        if wanted && !self.rescued.contains(&env.id) {
            let id: &EnvironmentId = &env.id;
            found.push((RESCUED, format!("{id} had work at risk and no rescue")));
        }
    }
}

/// Returns whether a tombstone comes before the directory was moved out of its place.
fn too_early(env: &Environment) -> bool {
    if env.adopted {
        return false;
    }
    match env.phase {
        Phase::TearingDown => env.owed.is_some() && env.worktree.is_some(),
        Phase::Failed => env.worktree.is_some(),
        Phase::Tombstoned => false,
        Phase::Provisioning | Phase::Ready | Phase::Retiring => true,
    }
}

fn branch(state: &State, e: &BranchSettled, found: &mut Violations) {
    let Some(env) = state.environment(&e.environment).filter(|_| e.deleted) else { return };
    let keep = env.teardown.as_ref().is_some_and(|t| t.options.branch == BranchPolicy::Keep);
    if keep {
        found.push((BRANCH, format!("the policy keeps {}", env.plan.branch)));
    }
    if env.plan.reuse_branch {
        found.push((BRANCH, format!("{} existed before the environment", env.plan.branch)));
    }
}

fn purge(state: &State, at: Time, e: &PurgeDecided, found: &mut Violations) {
    let Some(archive) = state.archive_of(&e.environment, e.incarnation) else { return };
    let who = || format!("incarnation {} of {}", e.incarnation, e.environment);
    if !REASONS.contains(&e.reason) {
        found.push((
            KEPT,
            format!("{} is purged for {:?}, which is not a known reason", who(), e.reason.as_str()),
        ));
    }
    let last = archive.is_last_copy_of();
    // A request may only start another inspection; a last copy that it finds is kept.
    let is_requested = matches!(e.reason, PurgeReason::Request | PurgeReason::Lose);
    if !is_requested && !last.is_empty() {
        let last = last.join(", ");
        found.push((
            KEPT,
            format!("{} is purged for its {}, but it is the last copy: {last}", who(), e.reason),
        ));
    }
    if is_requested && e.actor.is_none() {
        found.push((KEPT, format!("{} is purged by a request without an actor", who())));
    }
    let expires = archive.expires(state.retention().trash_seconds);
    if e.reason == PurgeReason::Age && at < expires {
        let early = expires.since(at).as_secs();
        found.push((KEPT, format!("{} is purged {early} s before its time", who())));
    }
    if archive.restoring.is_some() || archive.trash.is_none() {
        found.push((KEPT, format!("{} is not in the trash, or is being restored", who())));
    }
}

fn announced(state: &State, at: Time, e: &RescueExpiryAnnounced, found: &mut Violations) {
    let Some(archive) = state.archive_of(&e.environment, e.incarnation) else { return };
    let due = state.rescue_due(archive);
    if due.is_none_or(|due| e.at < due) || e.at < at.after(EXPIRY_NOTICE) {
        let (id, life) = (&e.environment, e.incarnation);
        found.push((ANNOUNCED, format!("the rescue of incarnation {life} of {id} ends too early")));
    }
}

fn dropped(state: &State, at: Time, e: &RescueDropRequested, found: &mut Violations) {
    let Some(archive) = state.archive_of(&e.environment, e.incarnation) else { return };
    let is_over = archive.rescue_ends.is_some_and(|ends| ends <= at) && archive.trash.is_none();
    if e.actor.origin == Origin::Daemon && !is_over {
        let (id, life) = (&e.environment, e.incarnation);
        let what = format!("the rescue of incarnation {life} of {id} is dropped without a request");
        found.push((ANNOUNCED, what));
    }
}

fn purge_of_clean(state: &State, at: Time, e: &CleanPurgeDecided, found: &mut Violations) {
    let Some(output) = state.output(&e.environment, e.clean) else { return };
    let who = || format!("the output of clean {} of {}", e.clean, e.environment);
    if !REASONS.contains(&e.reason) {
        found.push((
            KEPT,
            format!("{} is purged for {:?}, which is not a known reason", who(), e.reason.as_str()),
        ));
    }
    if e.reason == PurgeReason::Request && e.actor.is_none() {
        found.push((KEPT, format!("{} is purged by a request without an actor", who())));
    }
    if e.reason == PurgeReason::Age && at < output.expires(state.retention().clean_seconds) {
        found.push((KEPT, format!("{} is purged before its time", who())));
    }
    if output.phase != OutputPhase::Kept {
        found.push((KEPT, format!("{} is not in the trash, or is being put back", who())));
    }
}

fn leased(state: &State, at: Time, e: &DestroyRequested, found: &mut Violations) {
    if e.options.reason != TeardownReason::Reconcile {
        return;
    }
    if let Some((lease, _)) = state.leases_of(&e.environment, at).next() {
        found.push((LEASED, format!("{} is held by lease {lease}", e.environment)));
    }
}

fn sweep(state: &State, e: &SweepFinished, found: &mut Violations) {
    if let Some(finding) = e.findings.iter().find(|f| f.settled && !f.ours) {
        found.push((OURS, format!("{} was settled but is not proven to be managed", finding.path)));
    }
    let Some(sweep) = state.sweep() else { return };
    if e.settled > 0 && !sweep.apply {
        found.push((OURS, format!("{} were settled without --apply", e.settled)));
    }
    // Lock files, staging names and the like hold nothing and are not limited.
    let limited = e.findings.iter().filter(|f| f.settled && f.is_limited()).count() as u64;
    if limited > sweep.limit {
        found.push((OURS, format!("{limited} were settled; at most {} are allowed", sweep.limit)));
    }
}
