//! Phrases of a script: steps that lead only together to where a fault can be seen, such as work
//! that a status does not show, a removal that nobody had to force, and the end of its trash. Plain
//! data, drawn from the seed like single steps; it plays nothing.

use super::draw::World;
use super::step::{Act, Call, Step, UserAction, Verb};
use super::tokens::Form;
use crate::random::Random;

/// The name that phrases are mostly about: single steps seldom are, so that it is mostly free.
const NAME: usize = 2;

/// Where a phrase takes place.
#[derive(Clone, Copy)]
struct Spot {
    data: usize,
    name: usize,
}

impl Spot {
    fn verb(self, verb: Verb) -> Step {
        Step::Verb(Call { data: self.data, name: self.name, verb })
    }

    fn act(self, act: Act) -> Step {
        Step::Act(UserAction { data: self.data, name: self.name, act })
    }

    fn work(self, form: Form) -> Step {
        self.act(Act::Work(form))
    }

    fn make(self) -> Step {
        self.verb(Verb::New { base: None, branch: None })
    }

    fn remove(self, force: bool, branch: &'static str) -> Step {
        self.verb(Verb::Remove { force, rescue: true, branch })
    }

    /// The trash is no place to keep work in.
    fn empty(self) -> Step {
        self.verb(Verb::EmptyTrash { only: true, lose: false })
    }
}

/// Draws one.
pub(super) fn draw(world: &World, data: usize, random: &mut Random) -> Vec<Step> {
    let spot = Spot { data, name: NAME };
    let mut steps = vec![spot.remove(true, "keep")];
    steps.extend(match random.below(7) {
        0 => unseen(spot, random),
        1 => damaged(spot, random),
        2 => forgotten(spot, random),
        3 => untouched(spot, random),
        4 if world.include => led_out(spot),
        4 => copied(spot, random),
        5 => swept_up(spot, random),
        _ => written_late(spot, random),
    });
    steps
}

/// Work that a status does not show, and a removal that is not forced.
fn unseen(spot: Spot, random: &mut Random) -> Vec<Step> {
    let forms = [
        Form::HiddenByFilter,
        Form::HiddenByFilter,
        Form::HiddenByFilter,
        Form::SkipWorktree,
        Form::AssumeUnchanged,
        Form::LeftBehind,
        Form::InnerRebuildable,
    ];
    let form = random.pick(&forms).copied().unwrap_or(Form::HiddenByFilter);
    vec![spot.make(), spot.work(form), spot.remove(false, "keep"), spot.empty()]
}

/// Work beside an index that is not whole.
fn damaged(spot: Spot, random: &mut Random) -> Vec<Step> {
    let forms = [Form::TrackedIgnored, Form::TrackedIgnored, Form::Edited, Form::Staged];
    let form = random.pick(&forms).copied().unwrap_or(Form::TrackedIgnored);
    let acts = [Act::CutIndex, Act::CutIndex, Act::DamageIndex, Act::DamageHead];
    let act = random.pick(&acts).cloned().unwrap_or(Act::CutIndex);
    let mut steps = vec![spot.make(), spot.work(form), spot.act(act), spot.remove(true, "keep")];
    steps.push(if random.one_in(3) { spot.verb(Verb::Restore) } else { spot.empty() });
    steps
}

/// Work that a program writes by path while a removal runs, mostly after its last inspection: what
/// that one saw is being rescued.
fn written_late(spot: Spot, random: &mut Random) -> Vec<Step> {
    let forms = [Form::Untracked, Form::Edited];
    let form = |random: &mut Random| random.pick(&forms).copied().unwrap_or(Form::Untracked);
    let call = Call {
        data: spot.data,
        name: spot.name,
        verb: Verb::Remove { force: true, rescue: true, branch: "keep" },
    };
    let act = Act::Work(form(random));
    let action = UserAction { data: spot.data, name: spot.name, act };
    let during = Step::During { call, action, at: 1 + random.below(12), after: true };
    vec![spot.make(), spot.work(form(random)), during, spot.empty()]
}

/// A log from before a life is put back, and a life of the same name begins and ends. What only the
/// index or HEAD of the first one holds, git prunes when its registration is gone.
fn forgotten(spot: Spot, random: &mut Random) -> Vec<Step> {
    let (data, mut steps) = (spot.data, Vec::new());
    if random.one_in(2) {
        steps.extend([spot.make(), spot.remove(true, "delete")]);
    }
    let forms = [Form::StagedOnly, Form::Detached, Form::Committed, Form::Untracked];
    let form = random.pick(&forms).copied().unwrap_or(Form::StagedOnly);
    steps.extend([Step::SaveLog(data), spot.make(), spot.work(form)]);
    steps.push(Step::PutLogBack(data));
    if random.one_in(2) {
        // A creation that fails takes back what it made: nothing of that other life.
        let nowhere = Verb::New { base: Some("nowhere"), branch: None };
        steps.extend([spot.verb(nowhere), spot.empty()]);
    }
    steps.extend([spot.make(), spot.verb(Verb::Sweep), spot.act(Act::GcHard)]);
    steps.push(if random.one_in(2) { spot.remove(true, "delete") } else { Step::Restart(data) });
    steps
}

/// What nobody touched is removed without force, whatever refs lie around.
fn untouched(spot: Spot, random: &mut Random) -> Vec<Step> {
    let mut steps = vec![spot.make()];
    if random.one_in(3) {
        steps.push(spot.verb(Verb::Status));
    }
    steps.push(spot.remove(false, "delete-if-merged"));
    steps
}

/// A branch that leads what is included out of the worktree.
fn led_out(spot: Spot) -> Vec<Step> {
    vec![spot.verb(Verb::New { base: Some("linked"), branch: None })]
}

/// The data directory is copied while something lives in it.
fn copied(spot: Spot, random: &mut Random) -> Vec<Step> {
    let form = if random.one_in(2) { Form::Committed } else { Form::Untracked };
    vec![spot.make(), spot.work(form), Step::CopyData]
}

/// The last copy of something, and everything that takes things away.
fn swept_up(spot: Spot, random: &mut Random) -> Vec<Step> {
    let forms = [Form::Untracked, Form::Committed, Form::Stashed, Form::Converted];
    let form = random.pick(&forms).copied().unwrap_or(Form::Untracked);
    let mut steps = vec![spot.make(), spot.work(form), spot.remove(true, "delete")];
    steps.push(spot.act(if random.one_in(2) { Act::DropRescueRefs } else { Act::GcHard }));
    steps.extend([spot.empty(), spot.verb(Verb::Restore)]);
    steps
}
