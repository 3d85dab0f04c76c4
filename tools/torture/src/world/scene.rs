//! What one history knows while it is played: the place, the repository, environments as they were
//! answered, tokens, and what users left standing in the way. It asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::build::Built;
use super::draw::World;
use super::place::{DATAS, Place};
use super::search::{Objects, Places};
use super::tokens::{Harm, Ledger};
use crate::check::Finding;
use crate::random::Random;

/// Which environment: data directory and name.
pub(crate) type Key = (usize, usize);

/// An environment, as the outside knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env {
    pub(crate) path: PathBuf,
    pub(crate) branch: String,
    /// The branch was made for it.
    pub(crate) made_branch: bool,
    pub(crate) live: bool,
    /// Where a user has renamed its directory to.
    pub(crate) renamed: Option<PathBuf>,
    /// Files with tokens at the time of its last removal, relative to the worktree.
    pub(crate) removed_files: BTreeMap<PathBuf, Vec<u8>>,
    /// A user has broken what git needs to know of it.
    pub(crate) damaged: bool,
}

/// One history under way.
pub(crate) struct Scene<'a> {
    pub(crate) place: &'a Place,
    pub(crate) world: &'a World,
    pub(crate) built: Built,
    pub(crate) ledger: Ledger,
    pub(crate) objects: Objects,
    pub(crate) envs: BTreeMap<Key, Env>,
    /// Environments that were made since anybody last did anything but use the verbs.
    pub(crate) untouched: BTreeSet<Key>,
    /// Tokens whose rescue refs a user took away.
    pub(crate) unreferenced: BTreeSet<String>,
    pub(crate) findings: Vec<Finding>,
    /// Locks that users left, and no program may take away.
    pub(crate) planted: BTreeSet<PathBuf>,
    /// Where the repository is while a user has it elsewhere.
    pub(crate) away: Option<(PathBuf, PathBuf)>,
    pub(crate) filter_broken: bool,
    /// Something was in a daemon's way at some time.
    pub(crate) was_obstructed: bool,
    /// Copies of logs, and which data directories had theirs put back.
    pub(crate) saved: [Option<PathBuf>; DATAS],
    pub(crate) put_back: [bool; DATAS],
    /// Data directories that are there.
    pub(crate) there: [bool; DATAS],
    pub(crate) number: u64,
    /// How often each verb and each kind of step was used, and how often granted.
    pub(crate) verbs: BTreeMap<String, (u64, u64)>,
    /// What was done, for whoever looks into a finding.
    pub(crate) story: Vec<String>,
}

impl<'a> Scene<'a> {
    /// A history that has not begun.
    pub(crate) fn new(place: &'a Place, world: &'a World, built: Built, random: Random) -> Self {
        Self {
            place,
            world,
            built,
            ledger: Ledger::new(random),
            objects: Objects::default(),
            envs: BTreeMap::new(),
            untouched: BTreeSet::new(),
            unreferenced: BTreeSet::new(),
            findings: Vec::new(),
            planted: BTreeSet::new(),
            away: None,
            filter_broken: false,
            was_obstructed: false,
            saved: [const { None }; DATAS],
            put_back: [false; DATAS],
            there: [false; DATAS],
            number: 0,
            verbs: BTreeMap::new(),
            story: Vec::new(),
        }
    }
}

impl Scene<'_> {
    /// The name of an environment.
    pub(crate) fn id(&self, key: Key) -> String {
        let prefix = if key.0 == 1 && !self.world.same_names { "y" } else { "x" };
        format!("{prefix}{}", key.1 + 1)
    }

    /// A number that nothing else has.
    pub(crate) fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Counts a use.
    pub(crate) fn used(&mut self, what: &str, granted: bool) {
        let count = self.verbs.entry(what.to_owned()).or_default();
        count.0 += 1;
        count.1 += u64::from(granted);
    }

    pub(crate) fn found(&mut self, check: &'static str, what: impl Into<String>) {
        let after = self.story.len();
        let what = format!("step {after}: {}", what.into());
        self.findings.push(Finding { check, what });
    }

    /// The common git directory, wherever it is now.
    pub(crate) fn common(&self) -> PathBuf {
        match &self.away {
            Some((from, to)) => match self.built.common.strip_prefix(from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
                Ok(rest) => to.join(rest),
                Err(_) => self.built.common.clone(),
            },
            None => self.built.common.clone(),
        }
    }

    /// Whether something that a user did may keep a step of a daemon from coming to its end.
    pub(crate) fn is_obstructed(&self) -> bool {
        !self.planted.is_empty()
            || self.away.is_some()
            || self.filter_broken
            || self.envs.values().any(|env| env.damaged || env.renamed.is_some())
    }

    /// Where work may be.
    pub(crate) fn places(&self) -> Places {
        let mut folders = vec![self.place.path("outside"), self.place.path("renamed")];
        folders.extend(self.away.iter().map(|(_, to)| to.clone()));
        folders.extend(self.built.main.clone());
        let mut copies = Vec::new();
        // A copy of a data directory is no place for the original's work.
        for data in [0, 1] {
            let at = self.place.data(data);
            folders.extend([at.join("worktrees"), at.join("trash")]);
            copies.push(at.join("rescue"));
        }
        Places { common: self.common(), folders, copies }
    }

    /// The branch of an environment as a ref.
    pub(crate) fn branch_of(&self, key: Key) -> Option<String> {
        let env = self.envs.get(&key)?;
        (!env.branch.is_empty()).then(|| format!("refs/heads/{}", env.branch))
    }

    /// A live worktree of ours whose directory is in its place.
    pub(crate) fn worktree(&self, key: Key) -> Option<PathBuf> {
        let env = self.envs.get(&key).filter(|env| env.live)?;
        env.path.is_dir().then(|| env.path.clone())
    }

    /// The administrative directory of a worktree.
    pub(crate) fn admin(worktree: &Path) -> Option<PathBuf> {
        let text = std::fs::read_to_string(worktree.join(".git")).ok()?;
        let path = PathBuf::from(text.trim().strip_prefix("gitdir: ")?);
        let path = if path.is_absolute() { path } else { worktree.join(path) };
        path.is_dir().then_some(path)
    }

    /// Everything that was made in worktrees whose directory is gone.
    pub(crate) fn harm_of_gone(&self) -> Harm {
        let gone = self.envs.values().filter(|env| !env.path.exists());
        Harm::All(gone.map(|env| Harm::Worktree(env.path.clone())).collect())
    }
}
