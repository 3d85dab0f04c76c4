//! Red controls of git worlds: each invariant is broken on purpose, by the harness itself, in a
//! world that was sound a moment ago, and must be seen.

use std::path::Path;
use std::time::Duration;

use super::build;
use super::draw::World;
use super::invariants::{self, Picture};
use super::place::Place;
use super::run::{rest, settle, start, unchanged};
use super::scene::Scene;
use super::shim::Order;
use super::step::{Call, Verb};
use super::tokens::{Form, Harm};
use super::{verbs, work};
use crate::ground::{Programs, write};
use crate::random::Random;
use crate::trouble::{Trouble, failed};

/// One invariant, broken.
struct Control {
    check: &'static str,
    what: &'static str,
    breaks: fn(&mut Scene<'_>, &Picture) -> Result<(), Trouble>,
}

/// What a control showed: the check, what was broken, and what was seen.
pub(crate) struct Shown {
    pub(crate) check: &'static str,
    pub(crate) what: &'static str,
    pub(crate) seen: Option<String>,
}

const CONTROLS: [Control; 8] = [
    Control { check: "work", what: "a token is lost", breaks: lose_token },
    Control { check: "work", what: "a rescue and its trash are lost", breaks: lose_rescue },
    Control { check: "lacks", what: "a rescue lacks something and is silent", breaks: lose_ref },
    Control { check: "foreign", what: "a branch of the user's is moved", breaks: move_branch },
    Control { check: "foreign", what: "a file of a foreign worktree is changed", breaks: touch },
    Control { check: "bound", what: "a verb hangs", breaks: hang },
    Control { check: "locks", what: "a lock of git is left in a git world", breaks: leave_lock },
    Control { check: "truth", what: "new says 0 of what is no worktree", breaks: lie },
];

/// Shows that each check can fail.
pub(crate) fn controls(programs: &Programs, below: &Path) -> Result<Vec<Shown>, Trouble> {
    let mut all = Vec::new();
    for control in CONTROLS {
        let mut place = Place::new(programs, below, "self-test-world")?;
        // A hang is held for longer than this, and for far less than a user would bear.
        place.bound = Duration::from_secs(4);
        let world = World::plain();
        let built = build::build(&place, &world)?;
        let mut scene = Scene::new(&place, &world, built, Random::new(1));
        lay_out(&mut scene)?;
        let pictured = invariants::picture(&scene)?;
        settle(&mut scene, &Harm::Nothing, "nothing", false)?;
        let before = scene.findings.first().map(|found| found.what.clone());
        let seen = if let Some(what) = before {
            Some(format!("RED BEFORE: {what}"))
        } else {
            (control.breaks)(&mut scene, &pictured)?;
            let found = scene.findings.iter().find(|found| found.check == control.check);
            found.map(|found| found.what.clone())
        };
        all.push(Shown { check: control.check, what: control.what, seen });
    }
    Ok(all)
}

/// One environment with work, and one that was removed with work.
fn lay_out(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    start(scene, 0)?;
    for name in [0, 1] {
        verb(scene, name, Verb::New { base: None, branch: None })?;
        let at = scene.worktree((0, name)).ok_or_else(|| Trouble::new("new made nothing"))?;
        work::work(scene, &at, Form::Untracked)?;
    }
    verb(scene, 1, Verb::Remove { force: true, rescue: true, branch: "keep" })
}

fn verb(scene: &mut Scene<'_>, name: usize, verb: Verb) -> Result<(), Trouble> {
    let call = Call { data: 0, name, verb };
    let before = verbs::before(scene, &call)?;
    let answer = scene.place.gk(0, &before.args())?;
    verbs::after(scene, &call, &before, &answer, false)?;
    rest(scene, 0)
}

fn lose_token(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    let token = scene.ledger.owed().next().map(|token| token.worktree.join(&token.path));
    let path = token.ok_or_else(|| Trouble::new("there is no token"))?;
    std::fs::remove_file(&path).map_err(failed("remove", &path))?;
    settle(scene, &Harm::Nothing, "nothing", false)
}

/// The refs of rescues go, as no program may take them.
fn drop_refs(scene: &Scene<'_>) -> Result<(), Trouble> {
    let common = scene.common();
    let list = ["for-each-ref", "--format=delete %(refname)", "refs/groundskeeper/rescue"];
    let found = scene.place.must_git(&common, &list)?;
    scene.place.pipe_git(&common, &["update-ref", "--stdin"], found.into_bytes()).map(drop)
}

fn lose_rescue(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    drop_refs(scene)?;
    let trash = scene.place.data(0).join("trash");
    std::fs::remove_dir_all(&trash).map_err(failed("remove", &trash))?;
    settle(scene, &Harm::Nothing, "nothing", false)
}

fn lose_ref(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    drop_refs(scene)?;
    verbs::says_what_it_lacks(scene, (0, 1))
}

fn move_branch(scene: &mut Scene<'_>, pictured: &Picture) -> Result<(), Trouble> {
    scene.place.must_git(&scene.common(), &["branch", "-q", "-f", "topic", "main"])?;
    unchanged(scene, (0, &[]), pictured)
}

fn touch(scene: &mut Scene<'_>, pictured: &Picture) -> Result<(), Trouble> {
    let foreign = scene.built.foreign.first().cloned();
    let path = foreign.ok_or_else(|| Trouble::new("nothing is foreign"))?.join("theirs");
    write(&path, "touched\n")?;
    unchanged(scene, (0, &[]), pictured)
}

/// The first git of a removal is held, and nobody lets it go on.
fn hang(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    let gate = scene.place.gate(0);
    gate.order(&Order::Before(1)).map_err(failed("write", gate.folder()))?;
    verb(scene, 0, Verb::Remove { force: true, rescue: true, branch: "keep" })
}

fn leave_lock(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    write(&scene.common().join("refs/heads/main.lock"), "")?;
    settle(scene, &Harm::Nothing, "nothing", false)
}

/// A worktree loses its pointer, and is said to be ready.
fn lie(scene: &mut Scene<'_>, _: &Picture) -> Result<(), Trouble> {
    let at = scene.worktree((0, 0)).ok_or_else(|| Trouble::new("there is no worktree"))?;
    let pointer = at.join(".git");
    std::fs::remove_file(&pointer).map_err(failed("remove", &pointer))?;
    verb(scene, 0, Verb::New { base: None, branch: None })
}
