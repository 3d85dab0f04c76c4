//! One history from its seed to its end: the world is made, the script is played, and after each
//! step everything is looked at. It ends at the first finding, so that it can be seen.

use std::time::{Duration, Instant};

use groundskeeper::journal::inspect;
use groundskeeper::journal::inspect::Depth;

use super::acts::{self, Effect};
use super::build;
use super::data_dirs::{copy_data, move_data, put_back, restart, save_log};
use super::draw::World;
use super::invariants::{self, Picture};
use super::place::Place;
use super::scene::{Key, Scene};
use super::script;
use super::search;
use super::shim::Order;
use super::step::{Call, Step, UserAction, Verb};
use super::tokens::Harm;
use super::verbs;
use crate::job::{Done, Job, Setting};
use crate::random::Random;
use crate::time;
use crate::trouble::{Trouble, failed};

/// Most time until a daemon owes nothing while nothing is in its way.
const REST: Duration = Duration::from_secs(45);
/// Most time for which a lock is held by what works with it.
const LOCK_HELD: Duration = Duration::from_secs(10);
/// Time for what is repeated, while something is in the way.
const REST_OBSTRUCTED: Duration = Duration::from_millis(1_500);

/// Runs a history.
pub(crate) fn run(setting: &Setting, job: &Job) -> Result<Done, Trouble> {
    let name = format!("{}-{}", job.fault.name(), job.seed);
    let place = Place::new(&setting.programs, &setting.below, &name)?;
    let mut random = Random::new(job.seed);
    let world = World::draw(&mut random);
    let script = script::draw(&world, &mut random);
    let mut done = Done { tried: 1, ..Done::default() };
    let result = history(&place, &world, &script, &random, &mut done);
    done.survived = u64::from(done.findings.is_empty());
    done.operations = place.verbs.load(std::sync::atomic::Ordering::Relaxed);
    if !done.findings.is_empty() || result.is_err() || setting.keep {
        place.keep();
        done.place = Some(place.root().to_owned());
    }
    result
        .map(|()| done)
        .map_err(|e| Trouble::new(format!("{name} in {}: {e}", place.root().display())))
}

fn history(
    place: &Place,
    world: &World,
    script: &[Step],
    random: &Random,
    done: &mut Done,
) -> Result<(), Trouble> {
    let built = build::build(place, world)?;
    let mut scene = Scene::new(place, world, built, random.part(1));
    let result = play(&mut scene, script);
    done.pieces = scene.ledger.len() as u64;
    let story = format!("{world:#?}\n{:#?}\n{}\n", scene.built, scene.story.join("\n"));
    crate::ground::write(&place.path("story"), &story)?;
    done.verbs = std::mem::take(&mut scene.verbs);
    done.findings = std::mem::take(&mut scene.findings);
    result
}

fn play(scene: &mut Scene<'_>, script: &[Step]) -> Result<(), Trouble> {
    start(scene, 0)?;
    if scene.world.second {
        start(scene, 1)?;
    }
    for step in script {
        if !scene.findings.is_empty() {
            return Ok(());
        }
        scene.story.push(format!("{:2} {step:?}", scene.story.len() + 1));
        let began = Instant::now();
        play_one(scene, step)?;
        if let Some(last) = scene.story.last_mut() {
            *last += &format!("\n     step took {} ms", began.elapsed().as_millis());
        }
        alive(scene);
    }
    if scene.findings.is_empty() {
        scene.story.push("the end".to_owned());
        super::ending::end(scene)?;
    }
    for data in scene.datas() {
        if let Err(what) = scene.place.stop(data) {
            scene.found("stop", what);
        }
    }
    Ok(())
}

/// Starts a daemon; that it is not ready is a finding.
pub(crate) fn start(scene: &mut Scene<'_>, data: usize) -> Result<bool, Trouble> {
    if let Some(there) = scene.there.get_mut(data) {
        *there = true;
    }
    if let Err(printed) = scene.place.start(data)? {
        let err = scene.place.path(format!("daemon-{data}.err"));
        let err = std::fs::read_to_string(err).unwrap_or_default();
        let last = err.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        scene.found("start", format!("the daemon of {data} is not ready: {printed} {last}"));
        return Ok(false);
    }
    Ok(true)
}

/// No daemon ends by itself, and none panics.
fn alive(scene: &mut Scene<'_>) {
    for data in scene.datas() {
        let err = scene.place.path(format!("daemon-{data}.err"));
        let err = std::fs::read_to_string(err).unwrap_or_default();
        if let Some(line) = err.lines().find(|line| line.contains("panicked at")) {
            scene.found("words", line);
        }
        if scene.place.runs(data) && scene.place.has_died(data) {
            let last = err.lines().last().unwrap_or_default().to_owned();
            scene.found("start", format!("the daemon of {data} has ended by itself: {last}"));
        }
    }
}

fn play_one(scene: &mut Scene<'_>, step: &Step) -> Result<(), Trouble> {
    match step {
        Step::Verb(call) => verb(scene, call, None),
        Step::Act(action) => {
            let effect = acts::act(scene, action)?;
            settle(scene, &effect.harm, &format!("{:?}", action.act), false)
        }
        Step::During { call, action, at, after } => {
            let order = if *after { Order::After(*at) } else { Order::Before(*at) };
            verb(scene, call, Some(&(order, Some(action))))
        }
        Step::Killed { call, at } => {
            let order = Order::Kill(*at, scene.common());
            verb(scene, call, Some(&(order, None)))
        }
        Step::Both(one, other) => both(scene, one, other),
        Step::Restart(data) => restart(scene, *data, |_| Ok(())),
        Step::SaveLog(data) => save_log(scene, *data),
        Step::PutLogBack(data) => put_back(scene, *data),
        Step::MoveData(data) => move_data(scene, *data),
        Step::CopyData => copy_data(scene),
    }
}

/// One verb, alone, with an act in the middle of it, or with one of its gits killed.
fn verb(
    scene: &mut Scene<'_>,
    call: &Call,
    order: Option<&(Order, Option<&UserAction>)>,
) -> Result<(), Trouble> {
    if !scene.place.runs(call.data) {
        return Ok(());
    }
    let before = verbs::before(scene, call)?;
    let mut pictured = invariants::picture(scene)?;
    let busy = others_at_work(scene, call.data);
    let asked = {
        let gate = scene.place.gate(call.data);
        if let Some((order, _)) = order {
            gate.order(order).map_err(failed("write", gate.folder()))?;
        }
        scene.place.ask(call.data, &before.args())?
    };
    let killed = matches!(order, Some((Order::Kill(..), _)));
    let action = order.and_then(|(_, action)| *action);
    let (answer, effect) = match order {
        Some((_, action)) => held(scene, call.data, asked, *action)?,
        None => (asked.end()?, None),
    };
    let disturbed = effect.is_some();
    // What fails because its git was killed is tried again later.
    scene.was_obstructed |= killed;
    verbs::after(scene, call, &before, &answer, disturbed || killed)?;
    rest(scene, call.data)?;
    let mut harm = vec![before.harm.clone().unwrap_or(Harm::Nothing)];
    let mut foreign = false;
    if let Some(effect) = effect {
        harm.push(effect.harm);
        // What happens to an environment of the other data directory is foreign to this one.
        foreign = effect.foreign || action.is_some_and(|action| action.data != call.data);
        // What an agent commits during a verb moves the branch that it works on, and no verb may
        // move that again.
        if let Some((name, value)) = effect.branch {
            pictured.refs.entry(name).and_modify(|was| *was = value);
        }
    }
    let story = format!("{} {:?}", answer.args.join(" "), answer.code);
    settle(scene, &Harm::All(harm), &story, killed)?;
    if !foreign {
        unchanged(scene, (call.data, &busy), &pictured)?;
    }
    if matches!(call.verb, Verb::Remove { .. }) && answer.ok() {
        verbs::says_what_it_lacks(scene, (call.data, call.name))?;
    }
    if let Some(last) = scene.story.last_mut() {
        let (code, took) = (answer.code, answer.took.as_millis());
        *last += &format!("\n     -> {code:?} in {took} ms{}", why(&answer.json));
    }
    Ok(())
}

fn why(json: &serde_json::Value) -> String {
    let text = |name: &str| json["error"][name].as_str().unwrap_or_default().to_owned();
    let (code, message) = (text("code"), text("message"));
    if code.is_empty() { String::new() } else { format!(", {code}: {message}") }
}

/// Waits until the daemon is held at its call, lets the user act, and lets the daemon go on. A verb
/// that ends without coming to that call is followed by the act.
fn held(
    scene: &mut Scene<'_>,
    data: usize,
    mut asked: super::place::Asked,
    action: Option<&UserAction>,
) -> Result<(super::place::Answer, Option<Effect>), Trouble> {
    let gate = scene.place.gate(data);
    let Some(action) = action else {
        let answer = asked.end()?;
        scene.used("world: git killed", gate.is_reached());
        gate.forget();
        return Ok((answer, None));
    };
    time::until(crate::child::LIMIT, || gate.is_reached() || asked.is_over());
    let reached = gate.is_reached();
    let effect = acts::act(scene, action)?;
    scene.used("world: act during a verb", reached);
    if let Some(last) = scene.story.last_mut() {
        *last += if reached { "\n     held" } else { "\n     not held" };
    }
    gate.open();
    let answer = asked.end()?;
    gate.forget();
    Ok((answer, Some(effect)))
}

fn both(scene: &mut Scene<'_>, one: &Call, other: &Call) -> Result<(), Trouble> {
    if !scene.place.runs(one.data) || !scene.place.runs(other.data) {
        return Ok(());
    }
    let (first, second) = (verbs::before(scene, one)?, verbs::before(scene, other)?);
    let asked = scene.place.ask(one.data, &first.args())?;
    let again = scene.place.ask(other.data, &second.args())?;
    let (answer, other_answer) = (asked.end()?, again.end()?);
    verbs::after(scene, one, &first, &answer, true)?;
    verbs::after(scene, other, &second, &other_answer, true)?;
    for data in [one.data, other.data] {
        rest(scene, data)?;
    }
    let harms = [first.harm, second.harm].into_iter().flatten().collect();
    settle(scene, &Harm::All(harms), "two verbs at once", false)
}

/// Finds out what is missing, and whether a user's own command may have destroyed it.
pub(crate) fn settle(
    scene: &mut Scene<'_>,
    harm: &Harm,
    by: &str,
    killed: bool,
) -> Result<(), Trouble> {
    let places = scene.places();
    let missing = search::missing(scene.place, &places, &scene.ledger, &mut scene.objects)?;
    for token in scene.ledger.settle(&missing, harm, by) {
        scene.found("work", format!("{} is nowhere after {by}", token.describe()));
    }
    if !scene.is_obstructed() || killed {
        left_locks(scene);
    }
    Ok(())
}

/// At rest no lock is left but those that users left. One that something holds that was just tried
/// again goes by itself.
fn left_locks(scene: &mut Scene<'_>) {
    let (common, planted) = (scene.common(), scene.planted.clone());
    // A lock that comes after that is held for an instant by a step that began meanwhile.
    if time::until(LOCK_HELD, || invariants::locks(&common).is_subset(&planted)) {
        return;
    }
    for lock in invariants::locks(&common).difference(&planted) {
        scene.found("locks", format!("{} is left", lock.display()));
    }
}

/// Nothing that the daemon of `data` has nothing to do with has changed, apart from what belongs to
/// data directories whose own daemons are at work.
pub(crate) fn unchanged(
    scene: &mut Scene<'_>,
    (data, busy): (usize, &[usize]),
    before: &Picture,
) -> Result<(), Trouble> {
    let after = invariants::picture(scene)?;
    for what in invariants::foreign(scene, (data, busy), before, &after) {
        scene.found("foreign", what);
    }
    Ok(())
}

/// Waits until a daemon owes nothing, or only what something is in the way of. What was in the way
/// once may have put a repetition off for longer than a history takes: that counts as rest as well.
pub(crate) fn rest(scene: &mut Scene<'_>, data: usize) -> Result<(), Trouble> {
    let log = scene.place.data(data).join("log.redb");
    scene.was_obstructed |= scene.is_obstructed();
    let waits = scene.was_obstructed;
    let owed = || {
        inspect(&log, Depth::FromSnapshot, &mut |_, _| {}).map(|found| {
            let at = if waits { now() } else { EVER };
            let all = found.state.owed(at).map(|o| format!("{} of {:?}", o.step.as_str(), o.id));
            let all: Vec<String> = all.collect();
            (all.is_empty() && (waits || found.state.is_quiet()), all)
        })
    };
    let limit = if scene.is_obstructed() { REST_OBSTRUCTED } else { REST };
    let quiet = time::until(limit, || owed().is_ok_and(|(quiet, _)| quiet));
    if !quiet && !scene.is_obstructed() {
        let what = match owed() {
            Err(e) => format!("the log cannot be read: {e}"),
            Ok((_, owed)) => format!("after {limit:?} it still owes: {}", owed.join(", ")),
        };
        scene.found("rest", what);
    }
    lives(scene, data)
}

/// Returns the other data directories whose daemons owe something, if only later: that comes when
/// its time has come, also in the middle of a verb of this one.
fn others_at_work(scene: &Scene<'_>, data: usize) -> Vec<usize> {
    let owes = |other: &usize| {
        let log = scene.place.data(*other).join("log.redb");
        let found = inspect(&log, Depth::FromSnapshot, &mut |_, _| {});
        found.is_ok_and(|found| found.state.owed(EVER).next().is_some())
    };
    let others = scene.datas().into_iter().filter(|other| *other != data);
    others.filter(|other| scene.place.runs(*other)).filter(owes).collect()
}

const EVER: groundskeeper::core::Time = groundskeeper::core::Time(u64::MAX);

fn now() -> groundskeeper::core::Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_nanos();
    groundskeeper::core::Time(u64::try_from(since).unwrap_or(u64::MAX))
}

/// Which environments live, as the daemon lists them.
fn lives(scene: &mut Scene<'_>, data: usize) -> Result<(), Trouble> {
    let listed = scene.place.gk(data, &["ls"])?;
    verbs::bound_and_words(scene, &listed);
    let keys: Vec<Key> = scene.envs.keys().copied().filter(|key| key.0 == data).collect();
    for key in keys {
        let id = scene.id(key);
        let mut all = listed.json.as_array().into_iter().flatten();
        let live = all.any(|env| env["id"] == id.as_str() && env["phase"] == "ready");
        if let Some(env) = scene.envs.get_mut(&key) {
            env.live = live;
        }
    }
    Ok(())
}
