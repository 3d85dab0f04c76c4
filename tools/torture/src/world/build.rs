//! Makes a drawn world with real git. What git here cannot make (an older version, a setting that
//! excludes another) is left out and noted; nothing is made that the drawing does not name.

use std::path::{Path, PathBuf};

use super::draw::{Conversion, Depth, Foreign, Layout, OddRef, Sparse, World};
use super::place::Place;
use crate::ground::{executable, make_dir, write};
use crate::trouble::{Trouble, failed};

/// What was made.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// By which path the verbs are told of the repository.
    pub(crate) repo: PathBuf,
    /// Its common git directory.
    pub(crate) common: PathBuf,
    /// The main working tree; none in a bare repository.
    pub(crate) main: Option<PathBuf>,
    /// Worktrees that are not ours and are there.
    pub(crate) foreign: Vec<PathBuf>,
    /// What was drawn and could not be made.
    pub(crate) left_out: Vec<String>,
}

/// A folder that is named as no tool expects.
pub(crate) const ODD_NAME: &str = "odd\nname";

pub(crate) fn build(place: &Place, world: &World) -> Result<Built, Trouble> {
    let mut left_out = Vec::new();
    let seed = place.path("upstream");
    make_dir(&seed)?;
    init(place, world, &seed, &mut left_out)?;
    fill(place, world, &seed)?;
    let mut built = lay_out(place, world, &seed)?;
    built.left_out = left_out;
    settings(place, world, &mut built)?;
    foreign(place, world, &mut built)?;
    odd_refs(place, world, &mut built)?;
    sparse(place, world, &mut built)?;
    outside(place)?;
    Ok(built)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn init(
    place: &Place,
    world: &World,
    at: &Path,
    left_out: &mut Vec<String>,
) -> Result<(), Trouble> {
    let mut args = vec!["init", "-q"];
    if world.sha256 {
        args.push("--object-format=sha256");
    }
    if world.reftable {
        args.push("--ref-format=reftable");
    }
    if !place.git(at, &args)?.ok() {
        left_out.push("formats".to_owned());
        place.must_git(at, &["init", "-q"])?;
    }
    for (name, value) in filters() {
        place.must_git(at, &["config", &name, value])?;
    }
    Ok(())
}

/// Programs of filters, for every repository that has such files.
pub(crate) fn filters() -> Vec<(String, &'static str)> {
    let rotate = "tr a-zA-Z n-za-mN-ZA-M";
    [
        ("rotated.clean", rotate),
        ("rotated.smudge", rotate),
        ("lossy.clean", "grep -v OUTPUT || true"),
        ("lossy.smudge", "cat"),
        ("locked.clean", "cat"),
        ("locked.smudge", "cat"),
        ("locked.required", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (format!("filter.{name}"), value))
    .collect()
}

fn fill(place: &Place, world: &World, at: &Path) -> Result<(), Trouble> {
    for n in 0..world.files {
        let text = format!("line {n}\n").repeat(usize::try_from(n % 12 + 1).unwrap_or(1));
        write(&at.join(format!("dir{}/file{n}.txt", n % 4)), &text)?;
    }
    write(&at.join(".gitignore"), "*.env\ntarget/\nnode_modules/\nlinked/\n")?;
    if world.include {
        write(&at.join(".worktreeinclude"), "*.env\nlinked/\n")?;
    }
    let mut attributes = String::new();
    for conversion in &world.conversions {
        attributes += &format!("*.{} {}\n", conversion.extension(), conversion.attributes());
        let content: &[u8] = match conversion {
            Conversion::Utf16 => b"t\0e\0x\0t\0\n\0",
            Conversion::CarriageReturns => b"text\r\n",
            Conversion::Ident => b"/* $Id$ */\n",
            _ => b"some text\n",
        };
        let path = at.join(format!("conv.{}", conversion.extension()));
        std::fs::write(&path, content).map_err(failed("write", &path))?;
    }
    if !attributes.is_empty() {
        write(&at.join(".gitattributes"), &attributes)?;
    }
    write(&at.join("run.sh"), "#!/bin/sh\n")?;
    executable(&at.join("run.sh"))?;
    let link = at.join("link");
    std::os::unix::fs::symlink("run.sh", &link).map_err(failed("make", &link))?;
    place.must_git(at, &["add", "-A"])?;
    place.must_git(at, &["commit", "-q", "-m", "first"])?;
    write(&at.join("dir0/file0.txt"), "changed\n")?;
    place.must_git(at, &["commit", "-q", "-a", "-m", "second"])?;
    place.must_git(at, &["tag", "v1", "HEAD~1"])?;
    if world.submodule {
        submodule(place, world, at)?;
    }
    place.must_git(at, &["branch", "topic", "HEAD~1"])?;
    if world.include { linked(place, at) } else { Ok(()) }
}

/// A branch that leads what is included out of the worktree.
fn linked(place: &Place, at: &Path) -> Result<(), Trouble> {
    place.must_git(at, &["switch", "-q", "-c", "linked"])?;
    let link = at.join("linked");
    std::os::unix::fs::symlink(place.path("outside/canary"), &link)
        .map_err(failed("make", &link))?;
    place.must_git(at, &["add", "-f", "linked"])?;
    place.must_git(at, &["commit", "-q", "-m", "a way out"])?;
    place.must_git(at, &["switch", "-q", "-"]).map(drop)
}

fn submodule(place: &Place, world: &World, at: &Path) -> Result<(), Trouble> {
    let module = place.path("module");
    make_dir(&module)?;
    let format = if world.sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
    place.must_git(&module, &["init", "-q", format])?;
    write(&module.join("part.txt"), "a part\n")?;
    place.must_git(&module, &["add", "-A"])?;
    place.must_git(&module, &["commit", "-q", "-m", "part"])?;
    let url = text(&module);
    place.must_git(at, &["submodule", "--quiet", "add", &url, "sub"])?;
    place.must_git(at, &["commit", "-q", "-m", "with a submodule"]).map(drop)
}

/// Brings the repository into its layout: the one that was filled is the upstream of a clone, or
/// is moved to where it is used.
fn lay_out(place: &Place, world: &World, seed: &Path) -> Result<Built, Trouble> {
    let at = place.path(world.name);
    let url = format!("file://{}", seed.display());
    let target = text(&at);
    let mut args = vec!["clone", "-q"];
    match world.depth {
        Depth::Shallow => args.extend(["--depth", "1", "--no-single-branch"]),
        Depth::Partial => {
            place.must_git(seed, &["config", "uploadpack.allowFilter", "true"])?;
            place.must_git(seed, &["config", "uploadpack.allowAnySHA1InWant", "true"])?;
            args.push("--filter=blob:none");
        }
        Depth::Shared => args.push("--shared"),
        Depth::Made | Depth::Clone => {}
    }
    let format = place.git(seed, &["rev-parse", "--show-ref-format"])?.out;
    if format.trim() == "reftable" {
        args.push("--ref-format=reftable");
    }
    let inside = at.join(".git");
    let git_dir = place.path("separate.git");
    let (inside_text, git_dir_text) = (text(&inside), text(&git_dir));
    let shared = text(seed);
    let from = if world.depth == Depth::Shared { shared.as_str() } else { url.as_str() };
    match world.layout {
        Layout::Bare => args.extend(["--bare", from, &target]),
        Layout::BareInside => {
            make_dir(&at)?;
            args.extend(["--bare", from, &inside_text]);
        }
        Layout::Separate => args.extend(["--separate-git-dir", &git_dir_text, from, &target]),
        _ => args.extend([from, &target]),
    }
    let renamed = world.depth == Depth::Made && matches!(world.layout, Layout::Plain);
    if renamed && !world.submodule {
        std::fs::rename(seed, &at).map_err(failed("rename", seed))?;
    } else {
        place.must_git(place.root(), &args)?;
    }
    let (common, main) = match world.layout {
        Layout::Bare => (at.clone(), None),
        Layout::BareInside => (inside, None),
        Layout::Separate => (git_dir, Some(at.clone())),
        _ => (inside, Some(at.clone())),
    };
    if let Some(main) = &main {
        local_files(place, world, main)?;
    }
    let repo = named(place, world, &at)?;
    Ok(Built { repo, common, main, foreign: Vec::new(), left_out: Vec::new() })
}

fn local_files(place: &Place, world: &World, main: &Path) -> Result<(), Trouble> {
    write(&main.join("a.env"), "A=1\n")?;
    write(&main.join("linked/secret"), "a secret\n")?;
    if world.submodule {
        // Without it the world has one submodule that is not there, which is one as well.
        place.git(main, &["submodule", "--quiet", "update", "--init"])?;
    }
    if world.nested {
        let inner = main.join("inner");
        make_dir(&inner)?;
        place.must_git(&inner, &["init", "-q"])?;
        write(&inner.join("theirs"), "a repository of the user's\n")?;
        place.must_git(&inner, &["add", "-A"])?;
        place.must_git(&inner, &["commit", "-q", "-m", "inner"])?;
    }
    Ok(())
}

/// By which path the verbs are told of the repository.
fn named(place: &Place, world: &World, at: &Path) -> Result<PathBuf, Trouble> {
    match world.layout {
        Layout::ByLink => {
            let link = place.path("by-link");
            std::os::unix::fs::symlink(at, &link).map_err(failed("make", &link))?;
            Ok(link)
        }
        Layout::ByLinked => {
            let linked = place.path("outside/linked");
            let path = text(&linked);
            place.must_git(at, &["worktree", "add", "-q", "-b", "linked", &path])?;
            Ok(linked)
        }
        _ => Ok(at.to_owned()),
    }
}

fn settings(place: &Place, world: &World, built: &mut Built) -> Result<(), Trouble> {
    for (name, value) in filters() {
        place.must_git(&built.common, &["config", &name, value])?;
    }
    for (name, value) in &world.settings {
        if *name == "extensions.worktreeConfig" {
            place.must_git(&built.common, &["config", "core.repositoryformatversion", "1"])?;
            if world.is_bare() {
                // Where git wants it: otherwise no linked worktree is one.
                place.must_git(&built.common, &["config", "--unset", "core.bare"])?;
                write(&built.common.join("config.worktree"), "[core]\n\tbare = true\n")?;
            }
        }
        let set = place.git(&built.common, &["config", name, value])?;
        if !set.ok() {
            built.left_out.push(format!("{name}: {}", set.err.trim()));
        }
    }
    Ok(())
}

fn foreign(place: &Place, world: &World, built: &mut Built) -> Result<(), Trouble> {
    if world.layout == Layout::ByLinked {
        built.foreign.push(place.path("outside/linked"));
    }
    for (number, kind) in world.foreign.iter().enumerate() {
        let name = format!("theirs-{number}");
        let folder = if *kind == Foreign::OddName { ODD_NAME } else { "plain" };
        let path = place.path("outside").join(folder).join(&name);
        let at = text(&path);
        let args: &[&str] = match kind {
            Foreign::Detached => &["worktree", "add", "-q", "--detach", &at],
            _ => &["worktree", "add", "-q", "-b", &name, &at],
        };
        let made = place.git(&built.common, args)?;
        if !made.ok() {
            built.left_out.push(format!("{kind:?}: {}", made.err.trim()));
            continue;
        }
        write(&path.join("theirs"), &format!("the work of {name}\n"))?;
        match kind {
            Foreign::Locked => {
                place.must_git(&built.common, &["worktree", "lock", "--reason", "mine", &at])?;
            }
            Foreign::Gone => {
                std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
                continue;
            }
            _ => {}
        }
        built.foreign.push(path);
    }
    Ok(())
}

fn odd_refs(place: &Place, world: &World, built: &mut Built) -> Result<(), Trouble> {
    let common = built.common.clone();
    let head = place.must_git(&common, &["rev-parse", "refs/heads/main"])?;
    let head = head.trim().to_owned();
    let missing = "1".repeat(head.len());
    for odd in &world.odd_refs {
        let loose = |name: &str, text: &str| -> Result<bool, Trouble> {
            if world.reftable {
                return Ok(false);
            }
            write(&common.join(name), text).map(|()| true)
        };
        let git = |args: &[&str]| place.git(&common, args).map(|done| done.ok());
        let made = match odd {
            OddRef::TagLikeBranch => git(&["tag", "gk/x1", &head])?,
            OddRef::BranchNamedHead => git(&["update-ref", "refs/heads/HEAD", &head])?,
            OddRef::TagOfBlob => git(&["tag", "blob", &format!("{head}:run.sh")])?,
            OddRef::Dangling => loose("refs/heads/dangling", &format!("{missing}\n"))?,
            OddRef::Garbage => loose("refs/heads/garbage", "no commit\n")?,
            OddRef::Symbolic => {
                git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"])?
                    && git(&["symbolic-ref", "refs/heads/nowhere", "refs/heads/not-there"])?
            }
            OddRef::Packed => git(&["pack-refs", "--all"])?,
            OddRef::InTheWay => git(&["branch", "gk/x2/deeper", &head])?,
            OddRef::Unicode => git(&["branch", "zweig-ä-\u{1f333}", &head])?,
            OddRef::Replaced => git(&["replace", &format!("{head}~1"), &head])?,
            OddRef::Note => git(&["notes", "add", "-f", "-m", "a note", &head])?,
            OddRef::Worktree => git(&["update-ref", "refs/worktree/mine", &head])?,
        };
        if !made {
            built.left_out.push(format!("{odd:?}"));
        }
    }
    Ok(())
}

fn sparse(place: &Place, world: &World, built: &mut Built) -> Result<(), Trouble> {
    let Some(main) = built.main.clone() else { return Ok(()) };
    let args: &[&str] = match world.sparse {
        Sparse::No => return Ok(()),
        Sparse::Cone => &["sparse-checkout", "set", "--cone", "dir0", "dir1"],
        Sparse::Patterns => &["sparse-checkout", "set", "--no-cone", "/*", "!/dir2/"],
        Sparse::Index => &["sparse-checkout", "set", "--cone", "--sparse-index", "dir0"],
    };
    let made = place.git(&main, args)?;
    if !made.ok() {
        built.left_out.push(format!("{:?}: {}", world.sparse, made.err.trim()));
    }
    Ok(())
}

/// What is not the repository's and is nobody's business.
fn outside(place: &Place) -> Result<(), Trouble> {
    let canary = place.path("outside/canary");
    for name in ["one", "deep/two"] {
        write(&canary.join(name), &format!("{name} is not yours\n"))?;
    }
    let caller = canary.join("caller.git");
    place.must_git(&canary, &["init", "-q", "--bare", &text(&caller)])?;
    // As the repository of a hook is: with files somewhere, and an index.
    place.must_git(&caller, &["config", "core.bare", "false"])?;
    let tree = place.must_git(&caller, &["write-tree"])?;
    let commit = place.must_git(&caller, &["commit-tree", "-m", "theirs", tree.trim()])?;
    place.must_git(&caller, &["update-ref", "refs/heads/main", commit.trim()])?;
    let link = canary.join("link");
    std::os::unix::fs::symlink("deep", &link).map_err(failed("make", &link))
}
