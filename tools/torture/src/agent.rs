//! What agents do in worktrees: files, commits, stashes, rebases, detached heads. Every piece of
//! work has a name and content of its own, so that it can be looked for anywhere afterwards.

use std::path::Path;
use std::sync::PoisonError;

use crate::ground::Ground;
use crate::model::{Kind, Model, Piece};
use crate::random::Random;
use crate::trouble::Trouble;

const FORMS: [&str; 12] = [
    "plain",
    "plain",
    "staged",
    "committed",
    "stashed",
    "detached",
    "rebasing",
    "ignored",
    "edited",
    "refused by git",
    "in a repository",
    "left behind",
];

/// Works in an environment that is at rest, while nobody who could take it away is asked to. `cut`
/// says that clients are cut off, so that a removal may come that nobody waits for any more.
pub(crate) fn work(
    ground: &Ground,
    model: &Model,
    random: &mut Random,
    id: &str,
    cut: bool,
) -> Result<(), Trouble> {
    let lock = model.lock_of(id);
    let _alone = lock.write().unwrap_or_else(PoisonError::into_inner);
    if !is_at_rest(ground, id)? {
        return Ok(());
    }
    let form = random.pick(&FORMS).copied().unwrap_or("plain");
    let place = ground.place(id);
    let number = model.number();
    let name = match form {
        "ignored" => format!("work-{number}.env"),
        "edited" => format!("edit-{number}.txt"),
        _ => format!("work-{number}"),
    };
    let content = format!("{name} of {id}: {}\n", random.below(u64::MAX));
    let folder = match form {
        // A name that git takes for its own.
        "refused by git" => place.join(format!("odd-{number}/.GIT")),
        "in a repository" => place.join(format!("node_modules/inner-{number}")),
        _ => place.clone(),
    };
    drop(std::fs::create_dir_all(&folder));
    if std::fs::write(folder.join(&name), &content).is_err() {
        return Ok(());
    }
    let kind = if form == "ignored" || cut { Kind::InPlace } else { Kind::Work };
    let environment = id.to_owned();
    leave(ground, if form == "in a repository" { &folder } else { &place }, form, &name)?;
    model.made(Piece { name, content, environment, kind, form, released: false });
    model.used(&format!("work: {form}"), true);
    Ok(())
}

/// Brings a file into one of the forms that work has.
fn leave(ground: &Ground, place: &Path, form: &str, name: &str) -> Result<(), Trouble> {
    // Any of these may be refused by git, in a rebase for instance: the file is there all the same.
    let git = |args: &[&str]| ground.git(place, args).map(drop);
    match form {
        "staged" => git(&["add", name]),
        "in a repository" => {
            git(&["init", "-q"])?;
            git(&["add", name])?;
            git(&["commit", "-q", "-m", name])
        }
        "left behind" => {
            git(&["add", name])?;
            git(&["commit", "-q", "-m", name])?;
            // Only the history of HEAD holds it now.
            git(&["reset", "-q", "--hard", "HEAD~1"])
        }
        "stashed" => git(&["stash", "push", "-q", "-u", "--", name]),
        "committed" | "detached" | "rebasing" | "edited" => {
            git(&["add", name])?;
            git(&["commit", "-q", "-m", name])?;
            match form {
                "detached" => git(&["switch", "-q", "--detach"]),
                "rebasing" => {
                    let editor = "sequence.editor=sed -i 1s/pick/edit/";
                    git(&["-c", editor, "rebase", "-q", "-i", "HEAD~1"])
                }
                "edited" => {
                    let path = place.join("dir0/file1.txt");
                    drop(std::fs::write(path, format!("{name} has edited this\n")));
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Writes into an environment whatever happens to it meanwhile, as agents do.
pub(crate) fn reckless(
    ground: &Ground,
    model: &Model,
    random: &mut Random,
    id: &str,
) -> Result<(), Trouble> {
    if !is_at_rest(ground, id)? {
        return Ok(());
    }
    let number = model.number();
    let (name, content) = (format!("work-{number}"), format!("{id} {}\n", random.below(u64::MAX)));
    let environment = id.to_owned();
    // Owed from before it is written: what is emptied meanwhile is let go of on purpose.
    let (kind, form) = (Kind::InPlace, "reckless");
    let piece = Piece { name: name.clone(), content, environment, kind, form, released: false };
    let content = piece.content.clone();
    model.made(piece);
    let written = std::fs::write(ground.place(id).join(&name), content);
    match written {
        Ok(()) => model.used("work: reckless", true),
        Err(_) => model.unmade(&name),
    }
    Ok(())
}

/// Things that a tool leaves, which `clean` may drop, and links to what is not ours.
pub(crate) fn clutter(ground: &Ground, id: &str) -> Result<(), Trouble> {
    if !is_at_rest(ground, id)? {
        return Ok(());
    }
    let place = ground.place(id);
    if std::fs::create_dir(place.join("target")).is_ok() {
        drop(std::fs::write(place.join("target/object"), "built\n"));
        drop(std::os::unix::fs::symlink(ground.canary(), place.join("target/link")));
    }
    drop(std::os::unix::fs::symlink(ground.canary(), place.join("link-away")));
    Ok(())
}

fn is_at_rest(ground: &Ground, id: &str) -> Result<bool, Trouble> {
    let shown = ground.gk(&["show", id])?.json();
    let quiet = shown["step"].is_null() && shown["retry_at"].is_null();
    Ok(shown["phase"] == "ready" && quiet && ground.place(id).join(".git").exists())
}
