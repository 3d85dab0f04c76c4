//! Work in repositories inside a worktree: clones, submodules, bare ones.

use std::path::{Path, PathBuf};

use super::tokens::Form;
use super::work::{COMMIT, Hand};
use crate::trouble::Trouble;

/// Repositories inside the worktree.
pub(super) fn inner(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    let at = hand.at.clone();
    let folder = match hand.form {
        Form::InnerRebuildable => PathBuf::from(format!("node_modules/{name}.d")),
        Form::Submodule => PathBuf::from("sub"),
        _ => PathBuf::from(format!("{name}.d")),
    };
    let place = at.join(&folder);
    if !at.is_dir() {
        return Ok(());
    }
    drop(std::fs::create_dir_all(&place));
    if hand.form == Form::InnerBare {
        return bare(hand, &folder);
    }
    if hand.form == Form::Submodule {
        if !hand.scene.world.submodule {
            return Ok(());
        }
        hand.git(&["submodule", "--quiet", "update", "--init"])?;
        if !place.join(".git").exists() {
            return Ok(());
        }
    } else {
        hand.git_in(&place, &["init", "-q"])?;
    }
    if hand.form == Form::InnerBranch {
        let mut args = COMMIT.to_vec();
        args.extend(["--allow-empty", "-m", "base"]);
        hand.git_in(&place, &args)?;
        hand.git_in(&place, &["switch", "-q", "-c", "other"])?;
    }
    hand.write(&folder.join(name));
    if hand.form != Form::InnerFile {
        hand.commit(&place, name)?;
    }
    if hand.form == Form::InnerBranch {
        hand.git_in(&place, &["switch", "-q", "-"])?;
    }
    Ok(())
}

/// A bare repository whose only commit has the token.
fn bare(hand: &mut Hand<'_, '_>, folder: &Path) -> Result<(), Trouble> {
    let at = hand.at.clone();
    let place = at.join(folder);
    let text = hand.scene.ledger.text();
    let content = format!("{text}\n").into_bytes();
    let git = |args: &[&str], input: Vec<u8>| -> Result<String, Trouble> {
        let out = hand.scene.place.pipe_git(&place, args, input)?;
        Ok(String::from_utf8_lossy(&out).trim().to_owned())
    };
    git(&["init", "-q", "--bare"], Vec::new())?;
    let blob = git(&["hash-object", "-w", "--stdin"], content.clone())?;
    let tree = git(&["mktree"], format!("100644 blob {blob}\tf\n").into_bytes())?;
    let commit = git(&["commit-tree", "-m", "bare", &tree], Vec::new())?;
    git(&["update-ref", "refs/heads/main", &commit], Vec::new())?;
    if !commit.is_empty() {
        hand.token(&folder.join("f"), &text, vec![content]);
    }
    Ok(())
}
