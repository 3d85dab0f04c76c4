//! What agents do in a worktree: every form in which work is left, each with a token. Git may
//! refuse any of it; what was written is owed all the same.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::draw::Conversion;
use super::inner_work::inner;
use super::scene::Scene;
use super::tokens::{Form, Harm, Token};
use crate::trouble::Trouble;

/// A commit that asks for nothing that this machine may lack.
pub(crate) const COMMIT: [&str; 6] =
    ["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null", "commit", "-q"];

pub(super) struct Hand<'a, 'b> {
    pub(super) scene: &'a mut Scene<'b>,
    pub(super) at: PathBuf,
    pub(super) form: Form,
}

impl Hand<'_, '_> {
    pub(super) fn git(&self, args: &[&str]) -> Result<bool, Trouble> {
        self.scene.place.git(&self.at, args).map(|done| done.ok())
    }

    pub(super) fn git_in(&self, below: &Path, args: &[&str]) -> Result<bool, Trouble> {
        self.scene.place.git(below, args).map(|done| done.ok())
    }

    pub(super) fn commit(&self, below: &Path, path: &str) -> Result<bool, Trouble> {
        let added = self.git_in(below, &["add", "--sparse", "-f", "--", path])?;
        let mut args = COMMIT.to_vec();
        args.extend(["-m", "work", "--", path]);
        Ok(added && self.git_in(below, &args)?)
    }

    pub(super) fn token(&mut self, path: &Path, text: &str, accepted: Vec<Vec<u8>>) {
        let (worktree, path) = (self.at.clone(), path.to_owned());
        let (text, form) = (text.to_owned(), self.form);
        self.scene.ledger.add(Token {
            text,
            accepted,
            worktree,
            path,
            form,
            unsaved: false,
            released: None,
        });
    }

    /// Writes a file with a token of its own; false when that does not work.
    pub(super) fn write(&mut self, path: &Path) -> bool {
        let text = self.scene.ledger.text();
        let content = format!("{text} of {:?}\n", self.form).into_bytes();
        self.write_as(path, &text, &content, vec![content.clone()])
    }

    fn write_as(
        &mut self,
        path: &Path,
        text: &str,
        content: &[u8],
        accepted: Vec<Vec<u8>>,
    ) -> bool {
        let to = self.at.join(path);
        // The worktree itself is never made again by who works in it.
        if !self.at.is_dir() {
            return false;
        }
        drop(to.parent().map(std::fs::create_dir_all));
        if to.is_symlink() {
            return false;
        }
        let old = std::fs::read(&to).ok();
        if std::fs::write(&to, content).is_err() {
            return false;
        }
        if old.is_some() {
            let worktree = self.at.clone();
            self.scene.ledger.overwritten(&worktree, path);
        }
        self.token(path, text, accepted);
        true
    }
}

/// A file that git has known from the beginning.
fn tracked(number: u64) -> PathBuf {
    PathBuf::from(format!("dir{}/file{number}.txt", number % 4))
}

/// Leaves work in a worktree; returns what that may have destroyed.
pub(crate) fn work(scene: &mut Scene<'_>, at: &Path, form: Form) -> Result<Harm, Trouble> {
    let number = scene.next();
    let name = format!("work-{number}");
    let path = PathBuf::from(&name);
    let mut hand = Hand { scene, at: at.to_owned(), form };
    let moves_head = matches!(
        form,
        Form::LeftBehind
            | Form::Rebasing
            | Form::Merging
            | Form::Bisecting
            | Form::OtherBranch
            | Form::Orphan
            | Form::Detached
            | Form::Stashed
    );
    match form {
        Form::Untracked | Form::Foreign => drop(hand.write(&path)),
        Form::Staged => {
            hand.write(&path);
            hand.git(&["add", "--", &name])?;
        }
        Form::Committed => {
            hand.write(&path);
            hand.commit(at, &name)?;
        }
        Form::Edited => {
            let known = tracked(number % 8);
            if at.join(&known).exists() {
                hand.write(&known);
            }
        }
        Form::StagedOnly => staged_only(&mut hand, &name)?,
        Form::Ignored => drop(hand.write(Path::new(&format!("{name}.env")))),
        Form::Deep => drop(hand.write(&PathBuf::from("a/b/c/d/e/f/g/h").join(&name))),
        Form::OutsideCone => drop(hand.write(&PathBuf::from("dir3").join(&name))),
        Form::IntentToAdd => {
            hand.write(&path);
            hand.git(&["add", "-N", "--", &name])?;
        }
        Form::Converted => converted(&mut hand, number)?,
        Form::SkipWorktree | Form::AssumeUnchanged => hidden(&mut hand)?,
        Form::HiddenByFilter => hidden_by_filter(&mut hand, number)?,
        Form::TrackedIgnored => tracked_ignored(&mut hand, &name)?,
        Form::OddName
        | Form::BadName
        | Form::Unreadable
        | Form::Link
        | Form::HardLink
        | Form::Renamed => odd_file(&mut hand, &name)?,
        Form::InnerFile
        | Form::InnerCommit
        | Form::InnerBranch
        | Form::InnerRebuildable
        | Form::InnerBare
        | Form::Submodule => inner(&mut hand, &name)?,
        _ => history(&mut hand, &name)?,
    }
    Ok(if moves_head { Harm::Worktree(at.to_owned()) } else { Harm::Nothing })
}

fn staged_only(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    hand.write(Path::new(name));
    if hand.git(&["add", "--", name])? {
        hand.form = Form::Edited;
        hand.write(Path::new(name));
    }
    Ok(())
}

/// Everything that moves HEAD or leaves an operation in progress.
fn history(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    let at = hand.at.clone();
    let path = Path::new(name);
    match hand.form {
        Form::Stashed => {
            hand.write(path);
            hand.git(&["stash", "push", "-q", "-u", "--", name])?;
        }
        Form::LeftBehind => {
            hand.write(path);
            if hand.commit(&at, name)? {
                hand.git(&["reset", "-q", "--hard", "HEAD~1"])?;
            }
        }
        Form::Detached => {
            hand.git(&["checkout", "-q", "--detach"])?;
            hand.write(path);
            hand.commit(&at, name)?;
        }
        Form::Rebasing => {
            hand.write(path);
            if hand.commit(&at, name)? {
                let editor = "sequence.editor=sed -i 1s/pick/edit/";
                hand.git(&["-c", editor, "rebase", "-q", "-i", "HEAD~1"])?;
            }
        }
        Form::Bisecting => {
            hand.write(path);
            hand.commit(&at, name)?;
            hand.git(&["bisect", "start", "HEAD", "HEAD~2"])?;
        }
        Form::OtherBranch | Form::Orphan => {
            let branch = format!("agent-{name}");
            let how = if hand.form == Form::Orphan { "--orphan" } else { "-c" };
            if hand.git(&["switch", "-q", how, &branch])? {
                hand.write(path);
                hand.commit(&at, name)?;
                if hand.form == Form::OtherBranch {
                    hand.git(&["switch", "-q", "-"])?;
                }
            }
        }
        _ => merging(hand, name)?,
    }
    Ok(())
}

/// Two sides that do not go together.
fn merging(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    let at = hand.at.clone();
    let side = format!("side-{name}");
    if !hand.git(&["switch", "-q", "-c", &side])? {
        return Ok(());
    }
    hand.write(Path::new(name));
    let committed = hand.commit(&at, name)?;
    if committed && hand.git(&["switch", "-q", "-"])? {
        hand.write(Path::new(name));
        hand.commit(&at, name)?;
        hand.git(&["merge", "-q", &side])?;
    }
    Ok(())
}

/// A file whose content is not what git stores.
fn converted(hand: &mut Hand<'_, '_>, number: u64) -> Result<(), Trouble> {
    let conversions = hand.scene.world.conversions.clone();
    let count = (conversions.len() as u64).max(1);
    let Some(conversion) = conversions.get(usize::try_from(number % count).unwrap_or(0)) else {
        return Ok(());
    };
    let text = hand.scene.ledger.text();
    let plain = format!("{text} some words\n");
    let (content, stored): (Vec<u8>, Option<Vec<u8>>) = match conversion {
        Conversion::Rotated => (plain.clone().into_bytes(), Some(rotated(&plain))),
        Conversion::Lossy => (format!("words\n{text} OUTPUT\n").into_bytes(), None),
        Conversion::Locked => (plain.into_bytes(), None),
        Conversion::CarriageReturns => (
            format!("{text}\r\nwords\r\n").into_bytes(),
            Some(format!("{text}\nwords\n").into_bytes()),
        ),
        Conversion::Utf16 => {
            let wide = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
            (wide, Some(plain.into_bytes()))
        }
        Conversion::Ident => (format!("$Id$ {text}\n").into_bytes(), None),
    };
    let name = format!("conv-{number}.{}", conversion.extension());
    let accepted = std::iter::once(content.clone()).chain(stored).collect();
    hand.write_as(Path::new(&name), &text, &content, accepted);
    match number % 3 {
        0 => drop(hand.git(&["add", "--", &name])?),
        1 => {
            let at = hand.at.clone();
            hand.commit(&at, &name)?;
        }
        _ => {}
    }
    Ok(())
}

fn rotated(text: &str) -> Vec<u8> {
    let turn = |b: u8, base: u8| (b - base + 13) % 26 + base;
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' => turn(b, b'a'),
            b'A'..=b'Z' => turn(b, b'A'),
            _ => b,
        })
        .collect()
}

/// A tracked file with an edit of which git would store nothing.
fn hidden_by_filter(hand: &mut Hand<'_, '_>, number: u64) -> Result<(), Trouble> {
    let hides = |c: &&Conversion| matches!(c, Conversion::Lossy | Conversion::Ident);
    let Some(conversion) = hand.scene.world.conversions.iter().find(hides).copied() else {
        return Ok(());
    };
    let name = format!("conv.{}", conversion.extension());
    let text = hand.scene.ledger.text();
    let content = match conversion {
        Conversion::Lossy => format!("some text\n{text} OUTPUT\n"),
        _ => format!("/* $Id: {text} $ */\n"),
    };
    let content = content.into_bytes();
    if hand.at.join(&name).exists() {
        hand.write_as(Path::new(&name), &text, &content, vec![content.clone()]);
        // Until then the other length shows that it was changed; after it, nothing does.
        if !number.is_multiple_of(4) {
            hand.git(&["add", "--", &name])?;
        }
    }
    Ok(())
}

/// A file that is ignored and was added all the same, with an edit.
fn tracked_ignored(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    let (at, name) = (hand.at.clone(), format!("{name}.env"));
    drop(std::fs::write(at.join(&name), "not yet\n"));
    if !hand.git(&["add", "--sparse", "-f", "--", &name])? {
        // What git could not add is no more than ignored.
        hand.form = Form::Ignored;
    }
    if hand.write(Path::new(&name)) && hand.commit(&at, &name)? {
        hand.form = Form::Edited;
        hand.write(Path::new(&name));
    }
    Ok(())
}

/// An edit that git's status is told not to show.
fn hidden(hand: &mut Hand<'_, '_>) -> Result<(), Trouble> {
    let (number, flag) = match hand.form {
        Form::SkipWorktree => (3, "--skip-worktree"),
        _ => (4, "--assume-unchanged"),
    };
    let known = tracked(number);
    let text = known.to_string_lossy().into_owned();
    if hand.at.join(&known).exists() && hand.git(&["update-index", flag, "--", &text])? {
        hand.write(&known);
    }
    Ok(())
}

fn odd_file(hand: &mut Hand<'_, '_>, name: &str) -> Result<(), Trouble> {
    let at = hand.at.clone();
    match hand.form {
        Form::OddName => {
            let odd = [b"-odd \n\"\\\xff\xfe ".as_slice(), name.as_bytes()].concat();
            hand.write(Path::new(std::ffi::OsStr::from_bytes(&odd)));
        }
        Form::BadName => drop(hand.write(&PathBuf::from(format!("{name}.d/.GIT")).join(name))),
        Form::Unreadable => {
            hand.write(Path::new(name));
            let mode = std::fs::Permissions::from_mode(0o0);
            drop(std::fs::set_permissions(at.join(name), mode));
        }
        Form::Link => {
            let text = hand.scene.ledger.text();
            if symlink(&text, at.join(name)).is_ok() {
                hand.token(Path::new(name), &text, vec![text.clone().into_bytes()]);
            }
        }
        Form::HardLink => {
            hand.write(Path::new(name));
            drop(std::fs::hard_link(at.join(name), at.join(format!("{name}.again"))));
        }
        _ => {
            let known = tracked(6);
            if std::fs::rename(at.join(&known), at.join(name)).is_ok() {
                let worktree = hand.at.clone();
                hand.scene.ledger.overwritten(&worktree, &known);
                hand.write(Path::new(name));
                hand.git(&["add", "-A", "--", name])?;
            }
        }
    }
    Ok(())
}
