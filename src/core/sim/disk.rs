//! A fake disk for the laws: effects change it in small steps and read it for their outcomes.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::{BranchOutcome, Returned, RolledBackTo, Taken};
use crate::event::{
    Base, FOLDED, Included, NotMoved, ProcessSeen, ProcessesEnded, Rescue, SetupReport, Size,
    SweepFinished, Worktree,
};
use crate::{
    ArchiveOutcome, ArchiveStep, EffectId, Ended, Environment, EnvironmentId,
    EnvironmentOutcome as Outcome, EnvironmentStep as Of, HostOutcome, HostPath, Inspection,
    MigrationOutcome, OutputOutcome, Seq, Settlement, State, Step, Subject,
};

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
    Rescue { commit: Some("r".into()), lacks, ..Rescue::default() }
}

fn archived(traces: &Traces, life: u32, step: Step) -> ArchiveOutcome {
    match ArchiveStep::try_from(step).expect("a step of an archive") {
        ArchiveStep::Measure => {
            let work = traces.trash.get(&life).filter(|work| !work.is_empty());
            let size = Size { entries: 1, apparent: 1, allocated: 1 };
            ArchiveOutcome::Measured(size, work.map(rescue_of))
        }
        ArchiveStep::Purge => ArchiveOutcome::Purged(1),
        ArchiveStep::DropRescue => ArchiveOutcome::RescueDropped,
        ArchiveStep::FoldRescues => ArchiveOutcome::Folded(FOLDED.to_owned(), Vec::new()),
    }
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

/// Returns the settlement of an effect that succeeds on the fake disk.
pub(crate) fn settlement(
    state: &State,
    disk: &BTreeMap<EnvironmentId, Traces>,
    effect: &EffectId,
    step: Step,
) -> Settlement {
    let entered = effect.entered;
    match effect.subject.clone() {
        Subject::Environment(id) => {
            let step = Of::try_from(step).expect("a step of an environment");
            let result = Ok(outcome(state, disk, &id, step));
            Settlement::Environment(id, Ended { entered, result })
        }
        Subject::Archive(id, life) => {
            let traces = disk.get(&id).cloned().unwrap_or_default();
            let result = Ok(archived(&traces, life, step));
            Settlement::Archive(id, life, Ended { entered, result })
        }
        Subject::Output(id, clean) => {
            let result = Ok(OutputOutcome::Purged(1));
            Settlement::Output(id, clean, Ended { entered, result })
        }
        // Migrations have laws of their own.
        Subject::Migration(id) => {
            let result = Ok(MigrationOutcome::CleanedUp(Vec::new()));
            Settlement::Migration(id, Ended { entered, result })
        }
        Subject::Host => {
            let result = Ok(HostOutcome::Swept(SweepFinished::default(), Vec::new()));
            Settlement::Host(Ended { entered, result })
        }
    }
}

/// Returns the outcome of an effect on an environment that succeeds on the fake disk.
fn outcome(
    state: &State,
    disk: &BTreeMap<EnvironmentId, Traces>,
    environment: &EnvironmentId,
    step: Of,
) -> Outcome {
    let traces = disk.get(environment).cloned().unwrap_or_default();
    let env = state.environment(environment);
    let life = env.map_or(0, |e| e.incarnation);
    let worktree = Worktree {
        racy: environment.as_str() == "a",
        has_include: environment.as_str() != "c",
        has_setup: environment.as_str() != "b",
        ..Worktree::default()
    };
    // Covers both ways: registration and branch go with the directory, or in steps of their own.
    let at_once = !traces.registration && !traces.branch;
    let settled = at_once.then(|| BranchOutcome { deleted: true, reason: String::new() });
    let in_trash = traces.trash.contains_key(&life).then(|| HostPath::from("/trash"));
    match step {
        Of::ResolveBase => Outcome::Resolved(Base::default()),
        Of::AddWorktree => Outcome::Added(worktree),
        Of::ApplyRescue => Outcome::Applied,
        Of::Restore => Outcome::Restored(worktree, format!("gk/{environment}")),
        Of::CopyIncluded => Outcome::Included(Included::default()),
        Of::RunSetup => Outcome::SetUp(SetupReport::default(), Vec::new()),
        Of::RollBack => {
            Outcome::RolledBack(RolledBackTo { trash: in_trash, ..RolledBackTo::default() })
        }
        Of::RefreshIndex => Outcome::Refreshed(true),
        Of::Clean => cleaned(env, &traces),
        Of::UndoClean => undone(env, &traces),
        Of::Inspect => Outcome::Inspected(Inspection {
            unsaved: traces.work.iter().map(|w| format!("untracked: {w}")).collect(),
            fingerprint: Some(format!("{:?}", traces.work)),
            head: Some("h".into()),
            rescue: !traces.work.is_empty(),
            has_hook: environment.as_str() == "b",
            quiet: environment.as_str() == "a",
            ..Inspection::default()
        }),
        Of::RunTeardown => Outcome::TornDown(1, Vec::new()),
        Of::EndProcesses => Outcome::Ended(ProcessesEnded {
            environment: environment.clone(),
            ended: vec![ProcessSeen::default(); usize::from(environment.as_str() == "c")],
            spared: Vec::new(),
            survivors: Vec::new(),
        }),
        Of::Rescue => {
            Outcome::Rescued(traces.rescued.contains_key(&life).then(|| rescue_of(&traces.work)))
        }
        Of::MoveToTrash => Outcome::Trashed(in_trash, settled),
        Of::Unregister => Outcome::Unregistered,
        Of::SettleBranch => {
            Outcome::BranchSettled(BranchOutcome { deleted: true, reason: String::new() })
        }
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
