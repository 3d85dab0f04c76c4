//! The verbs: what is asked, what must be true when the answer is 0, and which tokens the user
//! gives up by asking. Answers are believed only as far as the outside bears them out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::invariants;
use super::place::Answer;
use super::scene::{Env, Key, Scene};
use super::search;
use super::step::{Call, Verb};
use super::tokens::{Form, Harm, Token};
use crate::trouble::Trouble;

/// What is known before a verb is used.
#[derive(Debug, Default)]
pub(crate) struct Before {
    args: Vec<String>,
    pub(crate) harm: Option<Harm>,
    /// Trash that is the only place of something, and is not given up.
    pinned: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// A file with a token that the verb will commit.
    token: Option<(String, PathBuf, Vec<u8>)>,
    worktree: Option<PathBuf>,
}

impl Before {
    pub(crate) fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }
}

fn owned_args(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Looks at what the verb is about, before it is used.
pub(crate) fn before(scene: &mut Scene<'_>, call: &Call) -> Result<Before, Trouble> {
    let key = (call.data, call.name);
    let id = scene.id(key);
    let mut before = Before { worktree: scene.worktree(key), ..Before::default() };
    before.args = match &call.verb {
        Verb::New { base, branch } => {
            let repo = scene.built.repo.to_string_lossy().into_owned();
            let mut args = owned_args(&["new", &id, "--repo", &repo]);
            for (flag, value) in [("--base", base), ("--branch", branch)] {
                args.extend(value.iter().flat_map(|value| owned_args(&[flag, value])));
            }
            args
        }
        Verb::Remove { force, rescue, branch } => {
            before.files = files_of(scene, key);
            let mut args = owned_args(&["rm", &id]);
            if *force {
                args.extend(owned_args(&["--force", &format!("--branch={branch}")]));
            }
            if !rescue {
                args.push("--no-rescue".to_owned());
            }
            args
        }
        Verb::Restore => owned_args(&["restore", &id]),
        Verb::EmptyTrash { only, lose } => {
            before.harm = Some(harm_of_trash(scene, key, *only, *lose));
            if !lose {
                before.pinned = pinned(scene, call.data)?;
            }
            let mut args = owned_args(&["trash", "empty"]);
            if *only {
                args.push(id);
            }
            if *lose {
                args.push("--lose".to_owned());
            }
            args
        }
        Verb::DropRescue => {
            before.harm = Some(harm_of_drop(scene, key));
            owned_args(&["rescue", "drop", &id])
        }
        Verb::Gc => owned_args(&["gc", "--age", "0s"]),
        Verb::Clean => owned_args(&["clean", &id]),
        Verb::Sweep => owned_args(&["sweep", "--apply"]),
        Verb::Status => owned_args(&["status", &id]),
        Verb::Diff => owned_args(&["diff", &id]),
        Verb::List => owned_args(&["ls", "--all"]),
        Verb::Commit => commit(scene, &mut before, &id),
    };
    Ok(before)
}

fn commit(scene: &mut Scene<'_>, before: &mut Before, id: &str) -> Vec<String> {
    let number = scene.next();
    let name = format!("exec-{number}");
    let text = scene.ledger.text();
    let script = format!(
        "echo {text} > {name} && git add -f -- {name} && \
         git -c commit.gpgSign=false -c core.hooksPath=/dev/null commit -q -m work -- {name}"
    );
    before.token = Some((text.clone(), PathBuf::from(name), format!("{text}\n").into_bytes()));
    owned_args(&["exec", id, "--", "sh", "-c", &script])
}

/// What is given up by emptying the trash: what git was told to ignore, and what was not to be
/// saved.
fn harm_of_trash(scene: &Scene<'_>, key: Key, only: bool, lose: bool) -> Harm {
    let of = scene.envs.iter().filter(|(other, _)| other.0 == key.0 && (!only || other.1 == key.1));
    let homes: BTreeSet<&Path> = of.map(|(_, env)| env.path.as_path()).collect();
    let given_up = scene.ledger.owed().filter(|token| {
        let asked = lose || token.is_for_trash_alone();
        asked && homes.contains(token.worktree.as_path()) && !token.is_in_place()
    });
    Harm::Tokens(given_up.map(|token| token.text.clone()).collect())
}

/// What is given up with a rescue.
fn harm_of_drop(scene: &Scene<'_>, key: Key) -> Harm {
    let worktree = scene.envs.get(&key).map(|env| env.path.clone()).unwrap_or_default();
    let given_up = scene.ledger.of(&worktree).filter(|token| !token.is_in_place());
    Harm::Tokens(given_up.map(|token| token.text.clone()).collect())
}

fn pinned(scene: &Scene<'_>, data: usize) -> Result<Vec<PathBuf>, Trouble> {
    let listed = scene.place.gk(data, &["trash", "ls"])?.json;
    let only_copy =
        |entry: &Value| entry["only_copy_of"].as_array().is_some_and(|list| !list.is_empty());
    let entries = listed.as_array().into_iter().flatten().filter(|entry| only_copy(entry));
    Ok(entries.filter_map(|entry| entry["trash"].as_str().map(PathBuf::from)).collect())
}

/// Files with tokens in a worktree, as they are now.
fn files_of(scene: &Scene<'_>, key: Key) -> BTreeMap<PathBuf, Vec<u8>> {
    let Some(at) = scene.worktree(key) else { return BTreeMap::new() };
    let of = scene.ledger.of(&at).filter_map(|token| {
        let path = at.join(&token.path);
        let plain = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let content = plain.then(|| std::fs::read(&path).ok()).flatten()?;
        token.accepted.contains(&content).then(|| (token.path.clone(), content))
    });
    of.collect()
}

/// Looks at what the answer says, and holds it against what is there.
pub(crate) fn after(
    scene: &mut Scene<'_>,
    call: &Call,
    before: &Before,
    answer: &Answer,
    disturbed: bool,
) -> Result<(), Trouble> {
    bound_and_words(scene, answer);
    let verb = answer.args.first().cloned().unwrap_or_default();
    scene.used(&format!("world: {verb}"), answer.ok());
    let key = (call.data, call.name);
    let id = scene.id(key);
    if answer.ok() {
        committed(scene, before);
    }
    if matches!(call.verb, Verb::Commit) || answer.ok() && matches!(call.verb, Verb::Remove { .. })
    {
        scene.untouched.remove(&key);
    }
    match &call.verb {
        Verb::New { branch, .. } if answer.ok() => {
            ready(scene, key, answer, branch.is_none(), disturbed)?;
        }
        Verb::Remove { rescue, .. } if answer.ok() => {
            removed(scene, key, &id, before, answer, !rescue, disturbed)?;
        }
        Verb::Remove { .. }
            if !disturbed && !scene.is_obstructed() && scene.untouched.contains(&key) =>
        {
            let what = format!("nobody touched {id}, and it is not removed: {}", answer.printed());
            scene.found("removal", what);
        }
        Verb::Restore if answer.ok() => restored(scene, key, answer, disturbed)?,
        Verb::DropRescue if answer.ok() => {
            // Whoever lets go of the rescue means the trash to be all there is.
            let worktree = scene.envs.get(&key).filter(|env| !env.live).map(|env| env.path.clone());
            scene.ledger.unsaved(&worktree.unwrap_or_default(), true);
        }
        Verb::EmptyTrash { .. } if answer.ok() && !disturbed => {
            for path in before.pinned.iter().filter(|path| !path.exists()) {
                let what =
                    format!("{} was the only place of something and is gone", path.display());
                scene.found("lacks", what);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Within the bound, with words and a next step.
pub(crate) fn bound_and_words(scene: &mut Scene<'_>, answer: &Answer) {
    if answer.took > scene.place.bound || answer.code.is_none() {
        let what = format!("after {:.1} s: {}", answer.took.as_secs_f32(), answer.printed());
        scene.found("bound", what);
    }
    let answer_text = format!("{} {}", answer.json, answer.err).to_lowercase();
    if answer_text.contains("unknown error") || answer_text.contains("panicked at") {
        scene.found("words", answer.printed());
    }
    let hint = answer.json["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty());
    let exec = answer.args.first().is_some_and(|verb| verb == "exec");
    if !answer.ok() && !hint && !exec && answer.code.is_some() {
        scene.found("words", format!("refused without a next step: {}", answer.printed()));
    }
}

fn ready(
    scene: &mut Scene<'_>,
    key: Key,
    answer: &Answer,
    made_branch: bool,
    disturbed: bool,
) -> Result<(), Trouble> {
    let path = PathBuf::from(answer.json["path"].as_str().unwrap_or_default());
    let branch = answer.json["branch"].as_str().unwrap_or_default().to_owned();
    if answer.json["phase"] != "ready" {
        scene.found("truth", format!("0 and not ready: {}", answer.printed()));
        return Ok(());
    }
    let old = scene.envs.get(&key).filter(|env| env.live).cloned();
    // Asked for again while it lives, it is what it was.
    let env = Env { path: path.clone(), branch, made_branch, live: true, ..Env::default() };
    if old.is_none() && env.made_branch && !disturbed {
        scene.untouched.insert(key);
    }
    let env = old.unwrap_or(env);
    let damaged = env.damaged;
    scene.envs.insert(key, env);
    if disturbed || damaged || scene.is_obstructed() {
        return Ok(());
    }
    if let Some(why) = invariants::unusable(scene, &path)? {
        scene.found("truth", format!("new said 0, and {why}"));
    }
    Ok(())
}

fn removed(
    scene: &mut Scene<'_>,
    key: Key,
    id: &str,
    before: &Before,
    answer: &Answer,
    without_rescue: bool,
    disturbed: bool,
) -> Result<(), Trouble> {
    if answer.json["phase"] != "tombstoned" {
        scene.found("truth", format!("rm said 0, and: {}", answer.printed()));
    }
    let listed = scene.place.gk(key.0, &["ls"])?.json;
    let mut names = listed.as_array().into_iter().flatten().filter_map(|e| e["id"].as_str());
    let there = names.any(|name| name == id);
    let Some(env) = scene.envs.get_mut(&key) else { return Ok(()) };
    let was_live = env.live;
    env.live = there;
    if was_live {
        env.removed_files.clone_from(&before.files);
        env.damaged = false;
    }
    let path = env.path.clone();
    if was_live && without_rescue {
        scene.ledger.unsaved(&path, true);
    }
    // What is asked for at the same time may come after it.
    if there && !disturbed {
        scene.found("truth", format!("rm {id} said 0, and ls lists it"));
    }
    // A directory that a user puts back meanwhile is the user's.
    let known = was_live && !disturbed && !scene.put_back.iter().any(|back| *back);
    if known && scene.away.is_none() && invariants::is_registered(scene, &path)? {
        let shared = scene.envs.iter().any(|(other, env)| *other != key && env.path == path);
        if !shared && scene.envs.get(&key).is_some_and(|env| env.renamed.is_none()) {
            scene.found("truth", format!("rm {id} said 0, and git worktree list has it"));
        }
    }
    Ok(())
}

fn restored(
    scene: &mut Scene<'_>,
    key: Key,
    answer: &Answer,
    disturbed: bool,
) -> Result<(), Trouble> {
    let path = PathBuf::from(answer.json["path"].as_str().unwrap_or_default());
    let branch = answer.json["branch"].as_str().unwrap_or_default().to_owned();
    let Some(env) = scene.envs.get_mut(&key) else { return Ok(()) };
    let was_live = env.live;
    // What a user has carried away before the removal is where they put it.
    let carried_away = env.renamed.is_some();
    env.live = true;
    env.path.clone_from(&path);
    env.branch = branch;
    let files = std::mem::take(&mut env.removed_files);
    if !was_live {
        scene.ledger.unsaved(&path, false);
    }
    if was_live || disturbed || carried_away || scene.put_back.iter().any(|back| *back) {
        return Ok(());
    }
    // What was written anew while it was removed is not what was there before.
    let is_owed = |file: &Path, content: &Vec<u8>| {
        let mut of = scene.ledger.of(&path).filter(|token| token.path == file);
        of.any(|token| token.accepted.contains(content))
    };
    let mut wrong = Vec::new();
    for (file, content) in files.iter().filter(|(file, content)| is_owed(file, content)) {
        let is = std::fs::read(path.join(file)).ok();
        if is.as_ref() != Some(content) {
            let is = is.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            wrong.push(format!("{} is {is:?}", file.display()));
        }
    }
    for what in wrong {
        scene.found("restore", format!("restore said 0, and {what}; {}", answer.printed()));
    }
    if !scene.is_obstructed()
        && let Some(why) = invariants::unusable(scene, &path)?
    {
        scene.found("truth", format!("restore said 0, and {why}"));
    }
    Ok(())
}

/// What an agent committed through the program is owed.
fn committed(scene: &mut Scene<'_>, before: &Before) {
    let (Some((text, path, content)), Some(worktree)) = (&before.token, &before.worktree) else {
        return;
    };
    scene.ledger.add(Token {
        text: text.clone(),
        accepted: vec![content.clone()],
        worktree: worktree.clone(),
        path: path.clone(),
        form: Form::Committed,
        unsaved: false,
        released: None,
    });
}

/// After the daemon came to rest: a rescue that has not everything says so.
pub(crate) fn says_what_it_lacks(scene: &mut Scene<'_>, key: Key) -> Result<(), Trouble> {
    let Some(env) = scene.envs.get(&key).filter(|env| !env.live) else {
        return Ok(());
    };
    let (worktree, id) = (env.path.clone(), scene.id(key));
    // What a user has elsewhere, or what is not there, no rescue can hold.
    if env.renamed.is_some() || scene.away.is_some() || worktree.exists() {
        return Ok(());
    }
    let trash = scene.place.gk(key.0, &["trash", "ls"])?.json;
    let of = trash.as_array().into_iter().flatten().filter(|entry| entry["id"] == id.as_str());
    let entries: Vec<&Value> = of.collect();
    let filled = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let says = entries.iter().any(|e| filled(&e["only_copy_of"]) || filled(&e["lacks"]));
    if says || entries.is_empty() {
        return Ok(());
    }
    let mut places = scene.places();
    places.folders.retain(|folder| folder.file_name().is_none_or(|name| name != "trash"));
    let missing = search::missing(scene.place, &places, &scene.ledger, &mut scene.objects)?;
    let lacking: Vec<String> = scene
        .ledger
        .of(&worktree)
        .filter(|token| missing.contains(&token.text) && !token.is_for_trash_alone())
        .filter(|token| !scene.unreferenced.contains(&token.text))
        .map(Token::describe)
        .collect();
    if !lacking.is_empty() {
        let what = format!("{id} has in its trash alone, and does not say so: {lacking:?}");
        scene.found("lacks", what);
    }
    Ok(())
}
