//! Red controls: each promise is broken on purpose, in a place that was sound a moment ago, and the
//! check that is meant to see it must go red. A check that stays green here proves nothing.

use std::fs;
use std::path::Path;

use groundskeeper::journal::testing::power_loss::{Honesty, power_losses};
use serde_json::json;

use crate::args::Arguments;
use crate::check::{self, Finding, Findings, disk, log, running};
use crate::child::Started;
use crate::daemon::Daemon;
use crate::databases::Databases;
use crate::ground::{ADOPTED, Ground, write};
use crate::job;
use crate::life::{self, Past};
use crate::model::{Kind, Model, Piece};
use crate::programs;
use crate::trouble::{Trouble, failed};

/// One promise, broken.
struct Control {
    check: &'static str,
    what: &'static str,
    breaks: fn(&mut Scene<'_>) -> Result<(), Trouble>,
}

/// A place with something of everything, its daemon at rest.
struct Scene<'a> {
    past: Past<'a>,
    daemon: Option<Daemon>,
    published: Vec<String>,
    found: Vec<Finding>,
    /// A process that must not be there.
    stray: Option<Started>,
    held: Option<fs::File>,
}

const CONTROLS: [Control; 17] = [
    Control { check: "work", what: "a rescue ref is deleted", breaks: lose_rescue },
    Control { check: "work", what: "a file in a worktree is cut short", breaks: tear_work },
    Control { check: "disk", what: "a directory is stranded", breaks: strand },
    Control { check: "disk", what: "a destroyed directory comes back", breaks: resurrect },
    Control { check: "disk", what: "a live directory is gone", breaks: take_place },
    Control { check: "disk", what: "a registration is stranded", breaks: register },
    Control { check: "disk", what: "a lock of git is left", breaks: leave_lock },
    Control { check: "disk", what: "a temporary file is left", breaks: leave_file },
    Control {
        check: "processes",
        what: "a process of a destroyed environment runs",
        breaks: stray,
    },
    Control { check: "tombstones", what: "a destroyed environment is served", breaks: serve },
    Control { check: "canary", what: "a file that is not ours is changed", breaks: touch },
    Control { check: "canary", what: "a file of an adopted worktree is gone", breaks: take_theirs },
    Control { check: "log", what: "acknowledged records are dropped", breaks: drop_records },
    Control { check: "log", what: "a published record is not in the log", breaks: publish },
    Control { check: "locks", what: "a lock of the data directory is held", breaks: hold },
    Control { check: "replay", what: "a byte of the log is flipped", breaks: flip },
    Control { check: "words", what: "the daemon panicked", breaks: panic },
];

/// Runs all controls; true when each check went red, and none before.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let place = job::place(arguments.place.as_deref())?;
    let programs = programs::find(arguments, &place)?;
    let mut good = true;
    let mut tell = |check: &str, what: &str, red: bool, why: &str| {
        good &= red;
        let verdict = if red { "red" } else { "NOT SEEN" };
        println!("{check:<12} {what:<48} {verdict:<9} {}", why.lines().next().unwrap_or_default());
    };
    for control in CONTROLS {
        let Some(ground) = Ground::new(&programs, &place, "self-test", false)? else { continue };
        let model = Model::new(&["kept", "gone"]);
        let before = {
            let mut scene = lay_out(&ground, &model)?;
            inspect(&mut scene)?;
            if scene.found.is_empty() {
                scene.found.clear();
                (control.breaks)(&mut scene)?;
                inspect(&mut scene)?;
                end(&mut scene)?;
                scene.found.iter().find(|f| f.check == control.check).map(|f| f.what.clone())
            } else {
                Some(format!("RED BEFORE: {}", scene.found[0].what))
            }
        };
        let sound = before.as_deref().is_none_or(|what| !what.starts_with("RED BEFORE"));
        let why = before.clone().unwrap_or_default();
        tell(control.check, control.what, sound && before.is_some(), &why);
    }
    for shown in crate::world::controls(&programs, &place)? {
        let why = shown.seen.unwrap_or_default();
        let red = !why.is_empty() && !why.starts_with("RED BEFORE");
        tell(shown.check, shown.what, red, &why);
    }
    let why = databases(&programs, &place)?;
    tell("databases", "a row of a database is lost", why.is_some(), &why.unwrap_or_default());
    let mut found = Vec::new();
    log::resurrections(&revived(), &mut Findings { check: "log", all: &mut found });
    let why = found.first().map(|f| f.what.clone()).unwrap_or_default();
    tell("log", "a tombstone is followed by life", !found.is_empty(), &why);
    // A disk that lies makes redb panic as well; that is seen, and nobody needs to read it.
    std::panic::set_hook(Box::new(|_| ()));
    let (bad, why) = power_losses(200, 1, 1, Honesty::LiesOneIn(1));
    tell("power", "a disk says that it has synced and has not", bad > 0, &why.unwrap_or_default());
    programs::forget(&place);
    Ok(good)
}

fn lay_out<'a>(ground: &'a Ground, model: &'a Model) -> Result<Scene<'a>, Trouble> {
    let past = job::begin(ground, model)?;
    let daemon = Some(Daemon::start(ground, &[])?);
    let repo = ground.repo();
    let repo = repo.to_string_lossy();
    for id in ["kept", "gone"] {
        must(ground, model, &["new", id, "--repo", &repo])?;
        let name = format!("work-{id}");
        let content = format!("the work of {id}\n");
        write(&ground.place(id).join(&name), &content)?;
        let (environment, kind) = (id.to_owned(), Kind::Work);
        model.made(Piece { name, content, environment, kind, form: "plain", released: false });
    }
    must(ground, model, &["rm", "gone", "--force"])?;
    must(ground, model, &["trash", "empty"])?;
    check::drain(ground, &mut Vec::new());
    let (published, found) = (Vec::new(), Vec::new());
    Ok(Scene { past, daemon, published, found, stray: None, held: None })
}

fn must(ground: &Ground, model: &Model, args: &[&str]) -> Result<(), Trouble> {
    let done = ground.gk(args)?;
    if !done.ok() {
        return Err(Trouble::new(format!("{args:?}: {}", done.out.trim())));
    }
    model.answered(args.first().copied().unwrap_or_default(), &done.json());
    Ok(())
}

/// The same look as after every life, as far as it needs a daemon.
fn inspect(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    if scene.daemon.is_some() {
        life::inspect(&mut scene.past, &scene.published, &mut scene.found)?;
    }
    Ok(())
}

/// And as far as it needs that there is none.
fn end(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let ground = scene.past.ground;
    if let Some(daemon) = scene.daemon.take() {
        drop(daemon.end());
    }
    let all = &mut scene.found;
    scene.past.log.check_file(ground, scene.past.model, &mut Findings { check: "log", all });
    disk::locks(ground, &mut Findings { check: "locks", all });
    life::printed(ground, &mut Findings { check: "words", all });
    check::replay(ground, all)?;
    if let Some(mut stray) = scene.stray.take() {
        stray.kill();
        stray.end(true)?;
    }
    Ok(())
}

fn lose_rescue(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let ground = scene.past.ground;
    let list = ["for-each-ref", "--format=%(refname)", "refs/groundskeeper/rescue/gone"];
    let found = ground.must_git(&ground.repo(), &list)?;
    let reference = found.lines().next().unwrap_or_default();
    ground.must_git(&ground.repo(), &["update-ref", "-d", reference]).map(drop)
}

fn tear_work(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.place("kept").join("work-kept"), "the work")
}

fn strand(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.data().join("worktrees/nobody/project/file"), "")
}

fn resurrect(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.place("gone").join("file"), "")
}

fn take_place(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let place = scene.past.ground.place("kept");
    fs::remove_dir_all(&place).map_err(failed("remove", &place))
}

fn register(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let ground = scene.past.ground;
    let place = ground.place("nobody");
    let place = place.to_string_lossy();
    ground.must_git(&ground.repo(), &["worktree", "add", "-q", "--detach", &place]).map(drop)
}

fn leave_lock(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.repo().join(".git/refs/heads/main.lock"), "")
}

fn leave_file(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.data().join("scratch/gone.1.index"), "")
}

fn stray(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let ground = scene.past.ground;
    let mut command = std::process::Command::new("sleep");
    ground.isolate(&mut command);
    command.arg("1000").env("GROUNDSKEEPER_PATH", ground.place("gone"));
    scene.stray = Some(Started::new(&mut command)?);
    Ok(())
}

/// Nobody can make the daemon serve it; so a served one is said to be destroyed.
fn serve(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let printed = [json!({ "id": "kept", "phase": "tombstoned" })];
    let all = &mut scene.found;
    running::tombstones(scene.past.ground, &printed, &mut Findings { check: "tombstones", all })
}

fn touch(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.canary().join("deep/two"), "touched\n")
}

fn take_theirs(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let path = scene.past.ground.adopted(ADOPTED[0]).join("theirs");
    fs::remove_file(&path).map_err(failed("remove", &path))
}

/// The log as it was before something was answered: whole, sound, and too short.
fn drop_records(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let (ground, model) = (scene.past.ground, scene.past.model);
    if let Some(daemon) = scene.daemon.take() {
        daemon.end().map_err(Trouble::new)?;
    }
    let (log, old) = (ground.log(), ground.path("old"));
    fs::copy(&log, &old).map_err(failed("copy", &log))?;
    let daemon = Daemon::start(ground, &[])?;
    let repo = ground.repo();
    must(ground, model, &["new", "late", "--repo", &repo.to_string_lossy()])?;
    daemon.end().map_err(Trouble::new)?;
    fs::rename(&old, &log).map_err(failed("rename", &old))
}

fn publish(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let at = scene.past.log.last();
    let line = json!({ "seq": at, "kind": "Tombstoned" }).to_string();
    write(&scene.past.ground.path("told"), &line)?;
    scene.published.push(line);
    Ok(())
}

fn hold(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    let path = scene.past.ground.data().join("locks/kept");
    let file = fs::File::create(&path).map_err(failed("open", &path))?;
    file.lock().map_err(failed("lock", &path))?;
    scene.held = Some(file);
    Ok(())
}

fn flip(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    if let Some(daemon) = scene.daemon.take() {
        daemon.end().map_err(Trouble::new)?;
    }
    let log = scene.past.ground.log();
    let mut bytes = fs::read(&log).map_err(failed("read", &log))?;
    // Inside a record: where it names an environment. Pages that a commit has replaced hold such
    // names, too, and no reader sees those; so each one is changed.
    let name = b"gone";
    let at = |from: usize| bytes[from..].windows(name.len()).position(|part| part == name);
    let found: Vec<usize> =
        std::iter::successors(at(0), |last| Some(last + 1 + at(last + 1)?)).collect();
    if found.is_empty() {
        return Err(Trouble::new("the log names no environment"));
    }
    for at in found {
        bytes[at] ^= 1;
    }
    fs::write(&log, bytes).map_err(failed("write", &log))
}

fn panic(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    write(&scene.past.ground.path("daemon.err"), "thread 'x' panicked at src/x.rs:1:1\n")
}

/// A migrated database that has lost a row; says what was seen.
fn databases(programs: &crate::ground::Programs, place: &Path) -> Result<Option<String>, Trouble> {
    let Some(ground) = Ground::new(programs, place, "self-test", false)? else { return Ok(None) };
    let databases = Databases::lay_out(&ground, 0)?;
    let daemon = Daemon::start_over(&ground)?;
    let mut found = Vec::new();
    databases.check(&ground, &mut Findings { check: "databases", all: &mut found })?;
    if let Some(first) = found.first() {
        eprintln!("red before: {}", first.what);
        return Ok(None);
    }
    databases.lose_a_row()?;
    databases.check(&ground, &mut Findings { check: "databases", all: &mut found })?;
    daemon.end().map_err(Trouble::new)?;
    Ok(found.first().map(|f| f.what.clone()))
}

fn revived() -> Vec<String> {
    let record = |seq: u64, kind: &str| {
        json!({ "seq": seq, "kind": kind, "environment": "gone" }).to_string()
    };
    vec![record(1, "Tombstoned"), record(2, "EnvironmentReady")]
}
