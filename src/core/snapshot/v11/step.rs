//! Steps, which all subjects share in the stored form, and a step that is owed.

use serde::{Deserialize, Serialize};

use crate::id::{Seq, Time};
use crate::model::step::{Owed as LiveOwed, Step as LiveStep};
use crate::snapshot::frozen::{Frozen, frozen_enums};

frozen_enums! {
    enum Step of LiveStep {
        ResolveBase, AddWorktree, ApplyRescue, Restore, CopyIncluded, RunSetup, RollBack,
        RefreshIndex, Clean, UndoClean, Inspect, RunTeardown, EndProcesses, Rescue, MoveToTrash,
        Unregister, SettleBranch, Measure, Purge, DropRescue, Sweep, InspectSource, CopySource,
        NormaliseSource, BuildStaging, WriteSecrets, VerifyStaging, Flip, CleanUp, DropStaging,
        ReturnBackup, FoldRescues,
    }
}

/// The step of one subject. A stored step of another subject is refused.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "Step", try_from = "Step")]
#[serde(bound(
    serialize = "S: Copy + Into<LiveStep>",
    deserialize = "S: TryFrom<LiveStep, Error: std::fmt::Display>"
))]
pub(in crate::snapshot) struct StepOf<S>(S);

impl<S: Into<LiveStep>> From<StepOf<S>> for Step {
    fn from(step: StepOf<S>) -> Self {
        Self::freeze(&step.0.into())
    }
}

impl<S: TryFrom<LiveStep>> TryFrom<Step> for StepOf<S> {
    type Error = S::Error;

    fn try_from(step: Step) -> Result<Self, S::Error> {
        S::try_from(step.thaw()).map(Self)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "S: Copy + Into<LiveStep>",
    deserialize = "S: TryFrom<LiveStep, Error: std::fmt::Display>"
))]
pub(in crate::snapshot) struct Owed<S> {
    step: StepOf<S>,
    entered: Seq,
    not_before: Time,
    attempts: u32,
    interruptions: u32,
}

impl<'a, S: Copy + 'a> Frozen<'a> for Owed<S> {
    type Live = LiveOwed<S>;

    fn freeze(live: &'a LiveOwed<S>) -> Self {
        let LiveOwed { step, entered, not_before, attempts, interruptions } = *live;
        Self { step: StepOf(step), entered, not_before, attempts, interruptions }
    }

    fn thaw(self) -> LiveOwed<S> {
        let Self { step, entered, not_before, attempts, interruptions } = self;
        LiveOwed { step: step.0, entered, not_before, attempts, interruptions }
    }
}
