//! Draws a git world from a seed: what kind of repository, with which settings, refs, contents and
//! neighbours. Plain data that can be printed; it makes nothing and asks nobody.

use crate::random::Random;

/// Where the repository keeps its git directory, and by which path the verbs are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A working tree with `.git` in it.
    Plain,
    /// A bare repository in `.git`, its working trees beside it.
    BareInside,
    /// A bare repository.
    Bare,
    /// A working tree whose `.git` is a file.
    Separate,
    /// A working tree, named by another of its linked worktrees.
    ByLinked,
    /// A working tree, named by a symbolic link.
    ByLink,
}

/// How much of the history the repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// It was made here.
    Made,
    /// A clone.
    Clone,
    /// A clone of the last commits only.
    Shallow,
    /// A clone that gets blobs when they are needed.
    Partial,
    /// A clone that borrows its objects from another one.
    Shared,
}

/// Which files the main working tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sparse {
    No,
    Cone,
    Patterns,
    /// With an index that leaves out what is not there.
    Index,
}

/// What is done to contents between the working tree and git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// A filter that can be undone.
    Rotated,
    /// A filter that throws lines away.
    Lossy,
    /// A filter that must run, and whose program goes missing later.
    Locked,
    /// Line ends.
    CarriageReturns,
    /// Another encoding in the working tree.
    Utf16,
    /// A keyword that git expands.
    Ident,
}

/// A ref that tools stumble over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OddRef {
    TagLikeBranch,
    BranchNamedHead,
    TagOfBlob,
    Dangling,
    Garbage,
    Symbolic,
    Packed,
    /// A branch that stands where our branches need a folder.
    InTheWay,
    Unicode,
    Replaced,
    Note,
    Worktree,
}

/// A worktree that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    OnBranch,
    Detached,
    Locked,
    /// Its directory is gone; git would prune it.
    Gone,
    /// It lies inside a folder whose name has a line break.
    OddName,
}

/// A world, as it is at the beginning.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    pub(crate) depth: Depth,
    pub(crate) sha256: bool,
    pub(crate) reftable: bool,
    pub(crate) files: u64,
    pub(crate) sparse: Sparse,
    pub(crate) submodule: bool,
    /// A repository of the user's that git does not track, inside the main working tree.
    pub(crate) nested: bool,
    pub(crate) include: bool,
    pub(crate) settings: Vec<(&'static str, &'static str)>,
    pub(crate) conversions: Vec<Conversion>,
    pub(crate) odd_refs: Vec<OddRef>,
    pub(crate) foreign: Vec<Foreign>,
    /// Whether a second data directory works on the repository.
    pub(crate) second: bool,
    /// Whether both data directories give the same names.
    pub(crate) same_names: bool,
}

const NAMES: [&str; 6] = ["project", "project", "my project", "pröjekt", "a.b", "x"];

const SETTINGS: [(&str, &str); 30] = [
    ("core.fileMode", "false"),
    ("core.symlinks", "false"),
    ("core.untrackedCache", "true"),
    ("core.splitIndex", "true"),
    ("core.ignoreCase", "true"),
    ("core.quotePath", "false"),
    ("core.precomposeUnicode", "true"),
    ("core.logAllRefUpdates", "false"),
    ("core.logAllRefUpdates", "always"),
    ("core.sharedRepository", "group"),
    ("core.checkStat", "minimal"),
    ("core.trustCtime", "false"),
    ("core.abbrev", "4"),
    ("core.bigFileThreshold", "1"),
    ("core.preloadIndex", "false"),
    ("core.hooksPath", "/nowhere/hooks"),
    ("index.version", "4"),
    ("index.threads", "1"),
    ("feature.manyFiles", "true"),
    ("extensions.worktreeConfig", "true"),
    ("status.showUntrackedFiles", "no"),
    ("status.relativePaths", "true"),
    ("commit.gpgSign", "true"),
    ("tag.gpgSign", "true"),
    ("gc.worktreePruneExpire", "now"),
    ("gc.reflogExpire", "now"),
    ("checkout.defaultRemote", "origin"),
    ("branch.autoSetupMerge", "always"),
    ("diff.ignoreSubmodules", "all"),
    ("submodule.recurse", "true"),
];

impl World {
    /// The same seed draws the same world.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let layout = match random.below(12) {
            0 => Layout::BareInside,
            1 => Layout::Bare,
            2 => Layout::Separate,
            3 => Layout::ByLinked,
            4 => Layout::ByLink,
            _ => Layout::Plain,
        };
        let depth = match random.below(12) {
            0 => Depth::Shallow,
            1 => Depth::Partial,
            2 => Depth::Shared,
            3 | 4 => Depth::Clone,
            _ => Depth::Made,
        };
        let sparse = match random.below(12) {
            0 => Sparse::Cone,
            1 => Sparse::Patterns,
            2 => Sparse::Index,
            _ => Sparse::No,
        };
        let bare = matches!(layout, Layout::Bare | Layout::BareInside);
        Self {
            name: random.pick(&NAMES).copied().unwrap_or("project"),
            layout,
            depth,
            sha256: random.one_in(8),
            reftable: random.one_in(8),
            files: 10 + random.below(50),
            sparse: if bare { Sparse::No } else { sparse },
            submodule: random.one_in(6),
            nested: random.one_in(6) && !bare,
            include: random.one_in(4) && !bare,
            settings: settings(random),
            conversions: some_of(random, &Conversion::ALL, 3),
            odd_refs: some_of(random, &OddRef::ALL, 4),
            foreign: some_of(random, &Foreign::ALL, 4),
            second: random.below(3) > 0,
            same_names: random.one_in(4),
        }
    }

    /// A world without anything out of the ordinary, for controls.
    pub(crate) fn plain() -> Self {
        Self {
            name: "project",
            layout: Layout::Plain,
            depth: Depth::Made,
            sha256: false,
            reftable: false,
            files: 12,
            sparse: Sparse::No,
            submodule: false,
            nested: false,
            include: false,
            settings: Vec::new(),
            conversions: Vec::new(),
            odd_refs: Vec::new(),
            foreign: vec![Foreign::OnBranch],
            second: false,
            same_names: false,
        }
    }

    /// Whether the main repository has no working tree of its own.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.layout, Layout::Bare | Layout::BareInside)
    }
}

impl Conversion {
    const ALL: [Self; 6] =
        [Self::Rotated, Self::Lossy, Self::Locked, Self::CarriageReturns, Self::Utf16, Self::Ident];

    /// Names of files that it applies to end in this.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Rotated => "rot",
            Self::Lossy => "nb",
            Self::Locked => "lock-ed",
            Self::CarriageReturns => "crlf",
            Self::Utf16 => "reg",
            Self::Ident => "id",
        }
    }

    /// The attributes of such files.
    pub(crate) fn attributes(self) -> &'static str {
        match self {
            Self::Rotated => "filter=rotated",
            Self::Lossy => "filter=lossy",
            Self::Locked => "filter=locked",
            Self::CarriageReturns => "text eol=crlf",
            Self::Utf16 => "text working-tree-encoding=UTF-16LE",
            Self::Ident => "ident",
        }
    }
}

impl OddRef {
    const ALL: [Self; 12] = [
        Self::TagLikeBranch,
        Self::BranchNamedHead,
        Self::TagOfBlob,
        Self::Dangling,
        Self::Garbage,
        Self::Symbolic,
        Self::Packed,
        Self::InTheWay,
        Self::Unicode,
        Self::Replaced,
        Self::Note,
        Self::Worktree,
    ];
}

impl Foreign {
    const ALL: [Self; 5] =
        [Self::OnBranch, Self::Detached, Self::Locked, Self::Gone, Self::OddName];
}

fn settings(random: &mut Random) -> Vec<(&'static str, &'static str)> {
    let mut settings = some_of(random, &SETTINGS, 5);
    // git itself loses a split index whose checksum is left out, and aborts.
    let split = settings.iter().any(|(name, _)| *name == "core.splitIndex");
    settings.retain(|(name, _)| !split || *name != "feature.manyFiles");
    settings
}

/// Up to `most` of these, in their order; often none.
fn some_of<T: Copy>(random: &mut Random, all: &[T], most: u64) -> Vec<T> {
    let wanted = random.below(most + 1);
    let chance = (all.len() as u64).max(1);
    all.iter().copied().filter(|_| random.below(chance) < wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_same_world() {
        for seed in 0..50 {
            let draw = || format!("{:?}", World::draw(&mut Random::new(seed)));
            assert_eq!(draw(), draw(), "seed {seed}");
        }
    }
}
