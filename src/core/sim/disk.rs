//! A fake disk for the laws: effects change it in small steps and read it for their outcomes.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::{Returned, RolledBackTo, Taken};
use crate::event::{
    Base, Included, NotMoved, ProcessSeen, ProcessesEnded, Rescue, SetupReport, Size,
    SweepFinished, Worktree,
};
use crate::{Environment, EnvironmentId, HostPath, Inspection, Outcome, Seq, State, Step, Subject};

/// The files and refs of one environment on the fake disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    pub(crate) branch: bool,
    pub(crate) registration: bool,
    pub(crate) directory: bool,
    /// Work written into the directory: each piece has a number of its own.
    pub(crate) work: BTreeSet<u32>,
    /// The work of earlier incarnations, in the trash and under rescue refs.
    pub(crate) trash: BTreeMap<u32, BTreeSet<u32>>,
    pub(crate) rescued: BTreeMap<u32, BTreeSet<u32>>,
    /// Output of tools in the directory, and of cleans in the trash, by requesting record.
    pub(crate) built: bool,
    pub(crate) cleaned: BTreeSet<Seq>,
}

impl Traces {
    fn take(&mut self) -> BTreeSet<u32> {
        self.directory = false;
        self.built = false;
        std::mem::take(&mut self.work)
    }
}

/// Returns whether a piece of work is one that no rescue can hold.
pub(crate) fn is_lacking(piece: u32) -> bool {
    piece.is_multiple_of(5)
}

fn rescue_of(work: &BTreeSet<u32>) -> Rescue {
    let lacks = work.iter().filter(|n| is_lacking(**n)).map(|n| format!("work {n}")).collect();
    Rescue { commit: "r".into(), lacks, ..Rescue::default() }
}

fn measured(traces: &Traces, subject: &Subject) -> Outcome {
    let work = match subject {
        Subject::Remains(_, life) => traces.trash.get(life),
        _ => None,
    };
    let late = work.filter(|work| !work.is_empty()).map(rescue_of);
    Outcome::Measured(Size { entries: 1, apparent: 1, allocated: 1 }, late)
}

/// Performs one of the small steps of an effect; a crash can fall between any two.
pub(crate) fn small_step(
    traces: &mut Traces,
    env: Option<&Environment>,
    (step, entered): (Step, Seq),
    small: u8,
) {
    let life = env.map_or(0, |e| e.incarnation);
    let from = env.and_then(|e| e.restore.clone()).unwrap_or_default();
    match (step, small) {
        (Step::AddWorktree, 0) => traces.branch = true,
        (Step::AddWorktree, 1) => traces.registration = true,
        (Step::AddWorktree, 2) => traces.directory = true,
        (Step::ApplyRescue, 0) => {
            traces.work.extend(traces.rescued.get(&from.incarnation).cloned().unwrap_or_default());
        }
        (Step::Restore, 0) => {
            if let Some(work) = traces.trash.remove(&from.incarnation) {
                traces.work.extend(work);
                traces.directory = true;
            }
        }
        (Step::Clean, 1) if traces.directory && traces.built => {
            traces.built = false;
            traces.cleaned.insert(entered);
        }
        (Step::UndoClean, 1) if traces.directory && !traces.built => {
            let clean = env.and_then(|e| e.undoing).unwrap_or_default();
            traces.built = traces.cleaned.remove(&clean);
        }
        (Step::Restore, 1) => traces.registration = true,
        (Step::Restore, 2) => traces.branch = true,
        (Step::RollBack | Step::MoveToTrash, 0) if !traces.directory => {}
        (Step::RollBack, 0) if from.trash.is_some() => {
            let work = traces.take();
            traces.trash.insert(from.incarnation, work);
        }
        (Step::Rescue, 0) if !traces.work.is_empty() => {
            let saved = traces.work.iter().copied().filter(|n| !is_lacking(*n)).collect();
            traces.rescued.insert(life, saved);
        }
        (Step::RollBack | Step::MoveToTrash, 0) => {
            let work = traces.take();
            traces.trash.insert(life, work);
        }
        (Step::MoveToTrash, 1 | 2) if env.is_none_or(|e| e.incarnation % 2 == 0) => {}
        (Step::RollBack | Step::MoveToTrash, 1) | (Step::Unregister, 0) => {
            traces.registration = false;
        }
        (Step::RollBack | Step::MoveToTrash, 2) | (Step::SettleBranch, 0) => traces.branch = false,
        _ => {}
    }
}

/// Returns the outcome of an effect that succeeds on the fake disk.
pub(crate) fn outcome(
    state: &State,
    disk: &BTreeMap<EnvironmentId, Traces>,
    subject: &Subject,
    step: Step,
) -> Outcome {
    let environment = match subject {
        Subject::Environment(who) | Subject::Remains(who, _) | Subject::Output(who, _) => {
            who.clone()
        }
        Subject::Host | Subject::Migration(_) => return Outcome::Swept(SweepFinished::default()),
    };
    let traces = disk.get(&environment).cloned().unwrap_or_default();
    let env = state.environment(&environment);
    let life = env.map_or(0, |e| e.incarnation);
    let worktree = Worktree {
        racy: environment.as_str() == "a",
        has_include: environment.as_str() != "c",
        has_setup: environment.as_str() != "b",
        ..Worktree::default()
    };
    // Covers both ways: registration and branch go with the directory, or in steps of their own.
    let at_once = !traces.registration && !traces.branch;
    let settled = at_once.then(|| (true, String::new()));
    let in_trash = traces.trash.contains_key(&life).then(|| HostPath::from("/trash"));
    match step {
        Step::ResolveBase => Outcome::Resolved(Base::default()),
        Step::AddWorktree => Outcome::Added(worktree),
        Step::ApplyRescue => Outcome::Applied,
        Step::Restore => Outcome::Restored(worktree, format!("gk/{environment}")),
        Step::CopyIncluded => Outcome::Included(Included::default()),
        Step::RunSetup => Outcome::SetUp(SetupReport::default()),
        Step::RollBack => {
            Outcome::RolledBack(RolledBackTo { trash: in_trash, ..RolledBackTo::default() })
        }
        Step::RefreshIndex => Outcome::Refreshed(true),
        Step::Clean => cleaned(env, &traces),
        Step::UndoClean => undone(env, &traces),
        Step::Inspect => Outcome::Inspected(Inspection {
            unsaved: traces.work.iter().map(|w| format!("untracked: {w}")).collect(),
            fingerprint: format!("{:?}", traces.work),
            head: "h".into(),
            rescue: !traces.work.is_empty(),
            has_hook: environment.as_str() == "b",
            quiet: environment.as_str() == "a",
            ..Inspection::default()
        }),
        Step::RunTeardown => Outcome::TornDown(1),
        Step::EndProcesses => Outcome::Ended(ProcessesEnded {
            environment: environment.clone(),
            ended: vec![ProcessSeen::default(); usize::from(environment.as_str() == "c")],
            spared: Vec::new(),
            survivors: Vec::new(),
        }),
        Step::Rescue => {
            Outcome::Rescued(traces.rescued.contains_key(&life).then(|| rescue_of(&traces.work)))
        }
        Step::MoveToTrash => Outcome::Trashed(in_trash, settled),
        Step::Unregister => Outcome::Unregistered,
        Step::SettleBranch => Outcome::BranchSettled(true, String::new(), Vec::new()),
        Step::Measure => measured(&traces, subject),
        Step::Purge => Outcome::Purged(1),
        Step::DropRescue => Outcome::RescueDropped,
        // A sweep; migrations have laws of their own.
        _ => Outcome::Swept(SweepFinished::default()),
    }
}

fn cleaned(env: Option<&Environment>, traces: &Traces) -> Outcome {
    let entered = env.and_then(|e| e.owed.as_ref()).map(|o| o.entered);
    if !entered.is_some_and(|clean| traces.cleaned.contains(&clean)) {
        return Outcome::Cleaned(Taken::default());
    }
    let size = Size { entries: 1, apparent: 1, allocated: 1 };
    let (paths, trash) = (vec!["target".into()], Some("/trash".into()));
    Outcome::Cleaned(Taken { paths, size, left: Vec::new(), trash })
}

fn undone(env: Option<&Environment>, traces: &Traces) -> Outcome {
    let clean = env.and_then(|e| e.undoing).unwrap_or_default();
    let left = NotMoved { path: "target".into(), why: "there again".into() };
    let left = if traces.cleaned.contains(&clean) { vec![left] } else { Vec::new() };
    Outcome::CleanUndone(Returned { left, ..Returned::default() })
}
