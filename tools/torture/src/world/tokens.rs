//! The ledger of tokens: every piece of work that an agent or a user made, with a text that exists
//! nowhere else, where it was made, and whether somebody's own command may have destroyed it.
//!
//! It believes nothing but what was written. A token is let go of only when it was seen to be gone
//! right after a command that is known to destroy things of its kind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// How a piece of work was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Untracked,
    Staged,
    Committed,
    Edited,
    /// Staged, and then edited again: the index has the token, the file another one.
    StagedOnly,
    Stashed,
    Ignored,
    /// Committed, and then taken back by a hard reset.
    LeftBehind,
    Detached,
    Rebasing,
    Merging,
    Bisecting,
    /// Committed on another branch that the agent made.
    OtherBranch,
    Orphan,
    InnerFile,
    InnerCommit,
    /// On a branch of a repository inside that is not checked out there.
    InnerBranch,
    /// In a bare repository inside.
    InnerBare,
    /// In a repository below a folder that tools rebuild.
    InnerRebuildable,
    Converted,
    OddName,
    BadName,
    Unreadable,
    Link,
    HardLink,
    SkipWorktree,
    AssumeUnchanged,
    OutsideCone,
    IntentToAdd,
    Renamed,
    Submodule,
    Deep,
    /// An edit of a tracked file that its filter takes away: git calls the file unchanged.
    HiddenByFilter,
    /// Tracked although it is ignored, and edited since.
    TrackedIgnored,
    /// Work of the user's in a worktree that is not ours.
    Foreign,
}

/// One piece of work.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// What counts as it: the bytes themselves, or what an undoable filter makes of them.
    pub(crate) accepted: Vec<Vec<u8>>,
    /// The worktree that it was made in.
    pub(crate) worktree: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) form: Form,
    /// Its worktree was removed without a rescue: the trash alone is promised for it.
    pub(crate) unsaved: bool,
    /// The command of the user's that destroyed it.
    pub(crate) released: Option<String>,
}

impl Token {
    /// Whether the trash is the only place that is promised for it.
    pub(crate) fn is_for_trash_alone(&self) -> bool {
        self.form == Form::Ignored || self.unsaved
    }

    /// Whether it lies where it was made.
    pub(crate) fn is_in_place(&self) -> bool {
        let path = self.worktree.join(&self.path);
        let plain = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        plain && std::fs::read(path).is_ok_and(|content| self.accepted.contains(&content))
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let Self { text, form, worktree, path, .. } = self;
        format!("{text} ({form:?}, {} in {})", path.display(), worktree.display())
    }
}

/// Which tokens a command may destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Harm {
    Nothing,
    /// What is below this path.
    Below(PathBuf),
    /// Anything that was made in this worktree.
    Worktree(PathBuf),
    /// These tokens.
    Tokens(BTreeSet<String>),
    /// Several at once.
    All(Vec<Harm>),
}

impl Harm {
    fn may_take(&self, token: &Token) -> bool {
        match self {
            Self::Nothing => false,
            Self::Below(path) => token.worktree.join(&token.path).starts_with(path),
            Self::Worktree(worktree) => token.worktree == *worktree,
            Self::Tokens(texts) => texts.contains(&token.text),
            Self::All(all) => all.iter().any(|harm| harm.may_take(token)),
        }
    }
}

/// All tokens of one history.
#[derive(Debug)]
pub(crate) struct Ledger {
    random: Random,
    number: u64,
    tokens: Vec<Token>,
}

impl Ledger {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, number: 0, tokens: Vec::new() }
    }

    /// A text that exists nowhere else, the same in each repetition.
    pub(crate) fn text(&mut self) -> String {
        self.number += 1;
        format!("tok-{:04}-{:08x}", self.number, self.random.below(1 << 32))
    }

    pub(crate) fn add(&mut self, token: Token) {
        self.tokens.push(token);
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens that must be found.
    pub(crate) fn owed(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|token| token.released.is_none())
    }

    /// Those of one worktree.
    pub(crate) fn of<'a>(&'a self, worktree: &'a Path) -> impl Iterator<Item = &'a Token> {
        self.owed().filter(move |token| token.worktree == worktree)
    }

    /// A file was written anew by its owner: what was in it is gone by that.
    pub(crate) fn overwritten(&mut self, worktree: &Path, path: &Path) {
        for token in &mut self.tokens {
            let same = token.worktree == worktree && token.path == path;
            if same && token.released.is_none() && !token.is_in_git() {
                token.released = Some("written anew".to_owned());
            }
        }
    }

    /// A worktree was removed without a rescue, or has come back.
    pub(crate) fn unsaved(&mut self, worktree: &Path, unsaved: bool) {
        for token in self.tokens.iter_mut().filter(|token| token.worktree == worktree) {
            token.unsaved = unsaved && token.released.is_none();
        }
    }

    /// A directory with worktrees has another place.
    pub(crate) fn moved(&mut self, from: &Path, to: &Path) {
        for token in &mut self.tokens {
            if let Ok(rest) = token.worktree.strip_prefix(from) {
                token.worktree = to.join(rest);
            }
        }
    }

    /// Lets go of what is missing and was destroyed by who; returns what nobody may have destroyed.
    pub(crate) fn settle(
        &mut self,
        missing: &BTreeSet<String>,
        harm: &Harm,
        by: &str,
    ) -> Vec<Token> {
        let mut lost = Vec::new();
        for token in &mut self.tokens {
            if token.released.is_some() || !missing.contains(&token.text) {
                continue;
            }
            if !harm.may_take(token) {
                lost.push(token.clone());
            }
            // One that is lost is told of once.
            token.released = Some(by.to_owned());
        }
        lost
    }
}

impl Token {
    /// Whether git had a copy of it from the beginning.
    fn is_in_git(&self) -> bool {
        !matches!(
            self.form,
            Form::Untracked
                | Form::Edited
                | Form::Ignored
                | Form::SkipWorktree
                | Form::AssumeUnchanged
                | Form::HiddenByFilter
                | Form::Foreign
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, form: Form) -> Token {
        let (worktree, path) = (PathBuf::from("/w/a"), PathBuf::from("d/f"));
        Token {
            text: text.into(),
            accepted: vec![],
            worktree,
            path,
            form,
            unsaved: false,
            released: None,
        }
    }

    #[test]
    fn only_attributable_harm_excuses_loss() {
        let missing = BTreeSet::from(["one".to_owned()]);
        for (harm, lost) in [
            (Harm::Nothing, 1),
            (Harm::Below("/w/a/d".into()), 0),
            (Harm::Below("/w/b".into()), 1),
            (Harm::Worktree("/w/a".into()), 0),
            (Harm::Tokens(BTreeSet::from(["two".into()])), 1),
        ] {
            let mut ledger = Ledger::new(Random::new(1));
            ledger.add(token("one", Form::Untracked));
            ledger.add(token("two", Form::Untracked));
            assert_eq!(ledger.settle(&missing, &harm, "x").len(), lost, "{harm:?}");
            assert_eq!(ledger.owed().count(), 1);
        }
    }
}
