//! What users and agents do besides work: to our worktrees, and in the repository. Each act says
//! what it may destroy and whether it changes what is not ours; the program has no part in it.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::obstacles::{away, back, leave_lock, remove_locks};
use super::scene::Scene;
use super::step::{Act, UserAction};
use super::tokens::{Form, Harm};
use super::{search, work};
use crate::trouble::Trouble;

/// What an act came to.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) harm: Harm,
    /// It may have changed what is not ours.
    pub(crate) foreign: bool,
    /// The branch that was checked out where it worked, with the value that it left there.
    pub(crate) branch: Option<(String, String)>,
}

impl Effect {
    pub(super) fn of(harm: Harm, foreign: bool) -> Self {
        Self { harm, foreign, branch: None }
    }
}

/// Does it; what does not apply now is passed over.
pub(crate) fn act(scene: &mut Scene<'_>, action: &UserAction) -> Result<Effect, Trouble> {
    let key = (action.data, action.name);
    let worktree = scene.worktree(key);
    // A setting or a ref may make a difference to every environment.
    scene.untouched.clear();
    match (&action.act, worktree) {
        (Act::Work(form), Some(at)) => {
            let harm = work::work(scene, &at, *form)?;
            // A submodule is noted in the settings of the repository; an agent that moves HEAD may
            // move branches of its own.
            let foreign = *form == Form::Submodule || harm != Harm::Nothing;
            let branch = checked_out(scene, &at)?;
            Ok(Effect { harm, foreign, branch })
        }
        (Act::RenameBack, _) => rename_back(scene, key),
        (act, _) if is_about_the_repository(act) => in_repository(scene, action),
        (Act::DeleteBranch | Act::MoveBranch | Act::RenameBranch, _) => branch(scene, action),
        (_, Some(at)) => on_worktree(scene, action, &at),
        _ => Ok(Effect::of(Harm::Nothing, false)),
    }
}

/// Returns the branch that is checked out in a worktree and where it points, as a picture notes it.
fn checked_out(scene: &Scene<'_>, at: &Path) -> Result<Option<(String, String)>, Trouble> {
    let name = scene.place.git(at, &["symbolic-ref", "-q", "HEAD"])?;
    let value = scene.place.git(at, &["rev-parse", "-q", "--verify", "HEAD"])?;
    let both = (name.out.trim().to_owned(), format!("{} ", value.out.trim()));
    Ok((name.ok() && value.ok()).then_some(both))
}

fn is_about_the_repository(act: &Act) -> bool {
    matches!(
        act,
        Act::Prune
            | Act::Repair
            | Act::Gc
            | Act::GcHard
            | Act::Repack
            | Act::PackRefs
            | Act::Fetch
            | Act::CommitInMain
            | Act::StashInMain
            | Act::AddForeign
            | Act::BreakFilter
            | Act::MendFilter
            | Act::DropRescueRefs
            | Act::SetSetting(..)
            | Act::LeaveLock(_)
            | Act::RemoveLocks
            | Act::RepositoryAway
            | Act::RepositoryBack
    )
}

fn on_worktree(scene: &mut Scene<'_>, action: &UserAction, at: &Path) -> Result<Effect, Trouble> {
    let mut harm = Harm::Worktree(at.to_owned());
    let path = at.to_string_lossy().into_owned();
    let common = scene.common();
    let place = scene.place;
    let git = |args: &[&str]| place.git(at, args).map(drop);
    match action.act {
        Act::RemoveTree | Act::RemoveFolder | Act::RemoveFile | Act::FolderToLink => {
            harm = remove(scene, at, &action.act);
        }
        Act::RemovePointer => {
            drop(std::fs::remove_file(at.join(".git")));
            damage(scene, action);
        }
        Act::RemoveAdmin | Act::DamageIndex | Act::CutIndex | Act::DamageHead => {
            if let Some(admin) = Scene::admin(at) {
                damage_admin(&admin, &action.act);
                damage(scene, action);
            }
        }
        Act::RemoveByGit => {
            let args = ["worktree", "remove", "--force", "--force", &path];
            drop(place.git(&common, &args)?);
        }
        Act::MoveByGit | Act::Rename => {
            rename(scene, action, at)?;
            harm = Harm::Nothing;
        }
        Act::Unreadable => {
            let mode = std::fs::Permissions::from_mode(0o0);
            drop(std::fs::set_permissions(at.join("dir2"), mode));
            harm = Harm::Nothing;
        }
        Act::CheckoutDetach => git(&["checkout", "-q", "--detach"])?,
        Act::SwitchMain => git(&["switch", "-q", "--ignore-other-worktrees", "main"])?,
        Act::ResetHard => git(&["reset", "-q", "--hard"])?,
        Act::CleanFiles => git(&["clean", "-fdq"])?,
        Act::LockWorktree => drop(place.git(&common, &["worktree", "lock", &path])?),
        Act::UnlockWorktree => drop(place.git(&common, &["worktree", "unlock", &path])?),
        Act::SubmoduleUpdate => git(&["submodule", "--quiet", "update", "--init"])?,
        Act::SubmoduleDeinit => git(&["submodule", "--quiet", "deinit", "-f", "--all"])?,
        Act::AbortOperation => {
            for args in [["rebase", "--abort"], ["merge", "--abort"], ["bisect", "reset"]] {
                git(&args)?;
            }
        }
        Act::StashDrop => {
            git(&["stash", "drop", "-q"])?;
            let owed = scene.ledger.owed().filter(|token| token.form == Form::Stashed);
            harm = Harm::Tokens(owed.map(|token| token.text.clone()).collect());
        }
        _ => harm = Harm::Nothing,
    }
    // A switch to a branch of the user's may be followed by commits there; a submodule is noted in
    // the settings of the repository; with its last stash the ref of all goes.
    let repository = [Act::SubmoduleUpdate, Act::SubmoduleDeinit, Act::StashDrop];
    let foreign = action.act == Act::SwitchMain || repository.contains(&action.act);
    Ok(Effect::of(harm, foreign))
}

/// Gives a worktree another place, with git or behind its back.
fn rename(scene: &mut Scene<'_>, action: &UserAction, at: &Path) -> Result<(), Trouble> {
    let number = scene.next();
    let (place, common) = (scene.place, scene.common());
    let (to, moved) = if action.act == Act::MoveByGit {
        let to = place.path("outside").join(format!("moved-{number}"));
        let (from, text) = (at.to_string_lossy(), to.to_string_lossy());
        let args = ["worktree", "move", "--force", "--force", &from, &text];
        let moved = place.git(&common, &args)?.ok();
        (to, moved)
    } else {
        let to = place.path("renamed").join(number.to_string());
        drop(to.parent().map(std::fs::create_dir_all));
        let moved = std::fs::rename(at, &to).is_ok();
        (to, moved)
    };
    if moved && let Some(env) = scene.envs.get_mut(&(action.data, action.name)) {
        env.renamed = Some(to);
    }
    Ok(())
}

/// Leaves the first half of an index, which git reads all the same.
fn damage_admin(admin: &Path, act: &Act) {
    match act {
        Act::RemoveAdmin => drop(std::fs::remove_dir_all(admin)),
        Act::DamageIndex => drop(std::fs::write(admin.join("index"), "garbage")),
        Act::CutIndex => cut(&admin.join("index")),
        _ => drop(std::fs::write(admin.join("HEAD"), "\0\0\0")),
    }
}

fn cut(index: &Path) {
    let Ok(mut bytes) = std::fs::read(index) else { return };
    bytes.truncate(bytes.len() / 2);
    drop(std::fs::write(index, bytes));
}

fn damage(scene: &mut Scene<'_>, action: &UserAction) {
    if let Some(env) = scene.envs.get_mut(&(action.data, action.name)) {
        env.damaged = true;
    }
}

fn remove(scene: &mut Scene<'_>, at: &Path, act: &Act) -> Harm {
    let target = match act {
        Act::RemoveTree => at.to_owned(),
        Act::RemoveFile => {
            let first = scene.ledger.of(at).map(|token| at.join(&token.path)).next();
            first.unwrap_or_else(|| at.join("dir0/file0.txt"))
        }
        _ => at.join("dir1"),
    };
    drop(if target.is_dir() && !target.is_symlink() {
        std::fs::remove_dir_all(&target)
    } else {
        std::fs::remove_file(&target)
    });
    match act {
        Act::RemoveTree => return Harm::Worktree(at.to_owned()),
        Act::FolderToLink => drop(symlink(scene.place.path("outside/canary"), &target)),
        _ => {}
    }
    Harm::Below(target)
}

pub(super) fn rename_back(scene: &mut Scene<'_>, key: (usize, usize)) -> Result<Effect, Trouble> {
    let mut effect = Effect::of(Harm::Nothing, false);
    let Some(env) = scene.envs.get(&key) else { return Ok(effect) };
    let (Some(from), to) = (env.renamed.clone(), env.path.clone()) else { return Ok(effect) };
    // Only to where it was, and only where that is free.
    if !to.exists() && to.parent().is_some_and(Path::is_dir) {
        if from.starts_with(scene.place.path("outside")) {
            let (from, to) =
                (from.to_string_lossy().into_owned(), to.to_string_lossy().into_owned());
            // It was moved while the repository was elsewhere, and still names that place.
            drop(scene.place.git(&scene.common(), &["worktree", "repair", &from])?);
            let args = ["worktree", "move", "--force", "--force", &from, &to];
            drop(scene.place.git(&scene.common(), &args)?);
        } else {
            drop(std::fs::rename(&from, &to));
        }
    }
    if to.exists()
        && let Some(env) = scene.envs.get_mut(&key)
    {
        env.renamed = None;
        // What was at the other place is not there any more, and was the user's to move.
        effect.foreign = true;
    }
    Ok(effect)
}

fn branch(scene: &mut Scene<'_>, action: &UserAction) -> Result<Effect, Trouble> {
    let key = (action.data, action.name);
    let Some(reference) = scene.branch_of(key) else {
        return Ok(Effect::of(Harm::Nothing, false));
    };
    let (place, common) = (scene.place, scene.common());
    let name = reference.trim_start_matches("refs/heads/").to_owned();
    let made = scene.envs.get(&key).is_some_and(|env| env.made_branch);
    let number = scene.next();
    let mut harm = Harm::Nothing;
    match action.act {
        Act::RenameBranch if made => {
            let to = format!("renamed-{number}");
            drop(place.git(&common, &["branch", "-m", &name, &to])?);
        }
        Act::DeleteBranch | Act::MoveBranch if made => {
            let at = place.git(&common, &["rev-parse", "--verify", "-q", &reference])?.out;
            let at = vec![at.trim().to_owned()];
            let held = search::in_refs(place, &common, &at, &scene.ledger, &mut scene.objects)?;
            harm = Harm::Tokens(held);
            let args: &[&str] = match action.act {
                Act::DeleteBranch => &["branch", "-q", "-D", &name],
                _ => &["branch", "-q", "-f", &name, "main"],
            };
            drop(place.git(&common, args)?);
        }
        _ => {}
    }
    Ok(Effect::of(harm, true))
}

fn in_repository(scene: &mut Scene<'_>, action: &UserAction) -> Result<Effect, Trouble> {
    let (place, common) = (scene.place, scene.common());
    let git = |args: &[&str]| place.git(&common, args).map(drop);
    let mut harm = Harm::Nothing;
    match &action.act {
        Act::Prune => {
            harm = scene.harm_of_gone();
            git(&["worktree", "prune"])?;
        }
        Act::Repair => git(&["worktree", "repair"])?,
        Act::Gc => {
            harm = unreferenced(scene)?;
            git(&["gc", "-q"])?;
        }
        Act::GcHard => {
            harm = unreferenced(scene)?;
            let now = "gc.reflogExpireUnreachable=now";
            git(&["-c", "gc.reflogExpire=now", "-c", now, "gc", "-q", "--prune=now"])?;
        }
        Act::Repack => git(&["repack", "-a", "-d", "-q"])?,
        Act::PackRefs => git(&["pack-refs", "--all"])?,
        Act::Fetch => git(&["fetch", "-q", "--all"])?,
        Act::CommitInMain | Act::StashInMain | Act::AddForeign => users_own(scene, &action.act)?,
        Act::BreakFilter | Act::MendFilter => {
            let program = if action.act == Act::BreakFilter { "no-such-program" } else { "cat" };
            git(&["config", "filter.locked.clean", program])?;
            git(&["config", "filter.locked.smudge", program])?;
            scene.filter_broken = action.act == Act::BreakFilter;
        }
        Act::DropRescueRefs => {
            harm = drop_rescue_refs(scene)?;
            // No list of trash looks whether each ref is still there; the end of the trash does.
            let away = scene.ledger.owed().filter(|token| !token.is_in_place());
            scene.unreferenced.extend(away.map(|token| token.text.clone()));
        }
        Act::SetSetting(name, value) => git(&["config", name, value])?,
        Act::LeaveLock(lock) => leave_lock(scene, action, *lock)?,
        Act::RemoveLocks => remove_locks(scene),
        Act::RepositoryAway => away(scene),
        _ => back(scene),
    }
    Ok(Effect::of(harm, true))
}

/// What no ref reaches and no file has: what git collects is the user's doing.
fn unreferenced(scene: &mut Scene<'_>) -> Result<Harm, Trouble> {
    let (place, common) = (scene.place, scene.common());
    let refs = place.git(&common, &["for-each-ref", "--format=%(objectname)"])?.out;
    let refs: Vec<String> = refs.lines().map(str::to_owned).collect();
    let held = search::in_refs(place, &common, &refs, &scene.ledger, &mut scene.objects)?;
    let free =
        scene.ledger.owed().filter(|token| !token.is_in_place() && !held.contains(&token.text));
    Ok(Harm::Tokens(free.map(|token| token.text.clone()).collect::<BTreeSet<_>>()))
}

/// A mirror fetches with a prune: what it does not have goes. What lies in the trash is saved anew
/// before that is emptied; what does not is gone by that command.
fn drop_rescue_refs(scene: &mut Scene<'_>) -> Result<Harm, Trouble> {
    let (place, common) = (scene.place, scene.common());
    let format = "--format=%(objectname) delete %(refname)";
    let found = place.git(&common, &["for-each-ref", format, "refs/groundskeeper/rescue"])?.out;
    let lines: Vec<(&str, &str)> = found.lines().filter_map(|l| l.split_once(' ')).collect();
    let commits: Vec<String> = lines.iter().map(|(commit, _)| (*commit).to_owned()).collect();
    let held = search::in_refs(place, &common, &commits, &scene.ledger, &mut scene.objects)?;
    let orders: Vec<&str> = lines.iter().map(|(_, order)| *order).collect();
    let orders = format!("{}\n", orders.join("\n"));
    if !commits.is_empty() {
        place.pipe_git(&common, &["update-ref", "--stdin"], orders.into_bytes())?;
    }
    Ok(Harm::Tokens(held))
}

/// The user works in worktrees of their own.
fn users_own(scene: &mut Scene<'_>, act: &Act) -> Result<(), Trouble> {
    let number = scene.next();
    if *act == Act::AddForeign {
        let path = scene.place.path("outside").join(format!("more-{number}"));
        let text = path.to_string_lossy().into_owned();
        let name = format!("more-{number}");
        let common = scene.common();
        let args = ["worktree", "add", "-q", "-b", &name, &text, "main"];
        if scene.place.git(&common, &args)?.ok() {
            scene.built.foreign.push(path.clone());
            work::work(scene, &path, Form::Foreign)?;
        }
        return Ok(());
    }
    let own = scene.built.main.clone().or_else(|| scene.built.foreign.first().cloned());
    let Some(at) = own.filter(|at| at.is_dir()) else { return Ok(()) };
    let form = if *act == Act::StashInMain { Form::Stashed } else { Form::Committed };
    work::work(scene, &at, form).map(drop)
}
