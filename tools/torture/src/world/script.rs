//! Draws the script of a history: verbs, acts of users and agents, and what happens at the same
//! time. Plain data that can be printed. What a step needs and is not there when its turn comes is
//! passed over, so that the same seed always plays the same script.

use std::collections::BTreeSet;

use super::draw::World;
use super::phrases;
use super::step::{Act, Call, Lock, Step, UserAction, Verb};
use super::tokens::Form;
use crate::random::Random;

const STEPS: u64 = 12;
/// One in so many steps is a phrase.
const PHRASES: u64 = 8;

/// The same seed draws the same script.
pub(crate) fn draw(world: &World, random: &mut Random) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut live = BTreeSet::new();
    let datas: u64 = if world.second { 2 } else { 1 };
    // Something must be there before anything can happen to it.
    for data in 0..usize::try_from(datas).unwrap_or(1) {
        for name in 0..2 {
            let verb = Verb::New { base: None, branch: None };
            steps.push(Step::Verb(Call { data, name, verb }));
            live.insert((data, name));
            for _ in 0..=random.below(3) {
                let act = Act::Work(form(world, random));
                steps.push(Step::Act(UserAction { data, name, act }));
            }
        }
    }
    let more = STEPS + random.below(8);
    for _ in 0..more {
        if random.one_in(PHRASES) {
            let data = usize::try_from(random.below(datas)).unwrap_or(0);
            steps.extend(phrases::draw(world, data, random));
        } else {
            steps.push(step(world, datas, &mut live, random));
        }
    }
    steps
}

/// What is expected to live decides what is mostly asked for; whether it does, the script never
/// knows.
fn step(
    world: &World,
    datas: u64,
    live: &mut BTreeSet<(usize, usize)>,
    random: &mut Random,
) -> Step {
    let mut call = |data: usize, random: &mut Random| likely(call(data, random), live, random);
    let data = usize::try_from(random.below(datas)).unwrap_or(0);
    match random.below(40) {
        0..=13 => Step::Verb(call(data, random)),
        14..=24 => Step::Act(action(world, datas, random)),
        25..=31 => {
            let call = weighty(call(data, random), random);
            let mut action = action(world, datas, random);
            if random.below(3) > 0 {
                // Mostly to the very one that the verb is about.
                (action.data, action.name) = (call.data, call.name);
            }
            Step::During { call, action, at: 1 + random.below(5), after: random.one_in(2) }
        }
        32 | 33 => {
            let call = weighty(call(data, random), random);
            Step::Killed { call, at: 1 + random.below(6) }
        }
        34 => {
            let other = usize::try_from(random.below(datas)).unwrap_or(0);
            Step::Both(call(data, random), call(other, random))
        }
        35 => Step::Restart(data),
        36 => Step::SaveLog(data),
        37 => Step::PutLogBack(data),
        38 => Step::MoveData(data),
        _ if random.one_in(2) => Step::CopyData,
        _ => Step::Verb(call(data, random)),
    }
}

/// Mostly something that can be granted: the removal of what lives, the return of what does not.
fn likely(mut call: Call, live: &mut BTreeSet<(usize, usize)>, random: &mut Random) -> Call {
    let key = (call.data, call.name);
    let unlikely = match call.verb {
        Verb::New { .. } | Verb::Restore => live.contains(&key),
        Verb::Remove { .. } => !live.contains(&key),
        _ => false,
    };
    if unlikely && random.below(6) > 0 {
        call.verb = if live.contains(&key) {
            Verb::Remove { force: true, rescue: true, branch: "delete" }
        } else {
            Verb::Restore
        };
    }
    match call.verb {
        Verb::New { .. } | Verb::Restore => drop(live.insert(key)),
        Verb::Remove { force: true, .. } => drop(live.remove(&key)),
        _ => {}
    }
    call
}

/// Verbs that ask git for little are mostly none to do anything during.
fn weighty(mut call: Call, random: &mut Random) -> Call {
    let light = matches!(call.verb, Verb::List | Verb::Clean | Verb::Gc | Verb::DropRescue);
    if light && random.one_in(2) {
        call.verb = Verb::Sweep;
    } else if light {
        call.verb = Verb::EmptyTrash { only: false, lose: false };
    }
    call
}

/// Mostly one of those that are made at the beginning.
fn name(random: &mut Random) -> usize {
    random.pick(&[0, 0, 0, 1, 1, 1, 2]).copied().unwrap_or(0)
}

fn call(data: usize, random: &mut Random) -> Call {
    let name = name(random);
    let verb = match random.below(36) {
        0..=6 => new(random),
        7..=15 => {
            let branches = ["keep", "delete", "delete-if-merged"];
            let branch = random.pick(&branches).copied().unwrap_or("keep");
            let force = random.below(4) > 0;
            Verb::Remove { force, rescue: !(force && random.one_in(10)), branch }
        }
        16..=21 => Verb::Restore,
        22..=25 => {
            let only = random.one_in(2);
            Verb::EmptyTrash { only, lose: only && random.one_in(5) }
        }
        26 => Verb::DropRescue,
        27 => Verb::Gc,
        28 => Verb::Clean,
        29 | 30 => Verb::Sweep,
        31 => Verb::Status,
        32 => Verb::Diff,
        33 | 34 => Verb::Commit,
        _ => Verb::List,
    };
    Call { data, name, verb }
}

fn new(random: &mut Random) -> Verb {
    let (mut base, mut branch) = (None, None);
    match random.below(9) {
        0 => base = Some("v1"),
        1 => base = Some("HEAD"),
        2 => base = Some("main"),
        3 => branch = Some("topic"),
        4 => branch = Some("main"),
        5 => base = Some("linked"),
        _ => {}
    }
    Verb::New { base, branch }
}

fn action(world: &World, datas: u64, random: &mut Random) -> UserAction {
    let data = usize::try_from(random.below(datas)).unwrap_or(0);
    let name = name(random);
    let act = match random.below(10) {
        0..=3 => Act::Work(form(world, random)),
        4..=6 => random.pick(&ON_WORKTREE).cloned().unwrap_or(Act::Prune),
        _ => in_repository(random),
    };
    UserAction { data, name, act }
}

const ON_WORKTREE: [Act; 27] = [
    Act::RemoveTree,
    Act::RemoveFolder,
    Act::RemoveFile,
    Act::RemovePointer,
    Act::RemoveAdmin,
    Act::RemoveByGit,
    Act::MoveByGit,
    Act::Rename,
    Act::RenameBack,
    Act::RenameBack,
    Act::Unreadable,
    Act::FolderToLink,
    Act::CheckoutDetach,
    Act::CheckoutDetach,
    Act::SwitchMain,
    Act::ResetHard,
    Act::CleanFiles,
    Act::DamageIndex,
    Act::CutIndex,
    Act::DamageHead,
    Act::LockWorktree,
    Act::UnlockWorktree,
    Act::RenameBranch,
    Act::DeleteBranch,
    Act::MoveBranch,
    Act::AbortOperation,
    Act::StashDrop,
];

fn in_repository(random: &mut Random) -> Act {
    let locks = [
        Lock::Index,
        Lock::Head,
        Lock::PackedRefs,
        Lock::Branch,
        Lock::Config,
        Lock::MainIndex,
        Lock::Shallow,
        Lock::Stash,
    ];
    match random.below(36) {
        0..=3 => Act::Prune,
        4 | 5 => Act::Repair,
        6 | 7 => Act::Gc,
        8 | 9 => Act::GcHard,
        10 => Act::Repack,
        11 | 12 => Act::PackRefs,
        13 => Act::Fetch,
        14..=16 => Act::CommitInMain,
        17 => Act::StashInMain,
        18 => Act::AddForeign,
        19 => Act::BreakFilter,
        20 => Act::MendFilter,
        21 => Act::SetSetting("core.autocrlf", "true"),
        22 => Act::SetSetting("core.logAllRefUpdates", "false"),
        23..=25 => Act::LeaveLock(random.pick(&locks).copied().unwrap_or(Lock::Index)),
        26..=28 => Act::RemoveLocks,
        29 => Act::RepositoryAway,
        30 | 31 => Act::RepositoryBack,
        32 => Act::SubmoduleUpdate,
        33 | 34 => Act::DropRescueRefs,
        _ => Act::SubmoduleDeinit,
    }
}

const FORMS: [Form; 35] = [
    Form::Untracked,
    Form::Untracked,
    Form::Staged,
    Form::Committed,
    Form::Committed,
    Form::Edited,
    Form::StagedOnly,
    Form::Stashed,
    Form::Ignored,
    Form::LeftBehind,
    Form::Detached,
    Form::Rebasing,
    Form::Merging,
    Form::Bisecting,
    Form::OtherBranch,
    Form::Orphan,
    Form::InnerFile,
    Form::InnerCommit,
    Form::InnerBranch,
    Form::InnerBare,
    Form::InnerRebuildable,
    Form::OddName,
    Form::BadName,
    Form::Unreadable,
    Form::Link,
    Form::HardLink,
    Form::SkipWorktree,
    Form::AssumeUnchanged,
    Form::OutsideCone,
    Form::IntentToAdd,
    Form::Renamed,
    Form::Submodule,
    Form::Deep,
    Form::HiddenByFilter,
    Form::TrackedIgnored,
];

fn form(world: &World, random: &mut Random) -> Form {
    if !world.conversions.is_empty() && random.one_in(4) {
        return Form::Converted;
    }
    random.pick(&FORMS).copied().unwrap_or(Form::Untracked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_same_script() {
        for seed in 0..50 {
            let script = || {
                let mut random = Random::new(seed);
                let world = World::draw(&mut random);
                draw(&world, &mut random)
            };
            assert_eq!(script(), script(), "seed {seed}");
        }
    }

    #[test]
    fn every_step_kind_is_drawn() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let world = World::draw(&mut random);
            for step in draw(&world, &mut random) {
                let text = format!("{step:?}");
                kinds.insert(text.split([' ', '(']).next().unwrap_or_default().to_owned());
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
