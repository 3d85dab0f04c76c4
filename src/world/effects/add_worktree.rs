//! Creates a worktree in a way that any number can be created at once, by us and by other programs.
//!
//! `git worktree add` writes its administrative directory file by file where every other git
//! process sees it, and takes the lock of the shared configuration; at sixteen at once it fails
//! 10-68 % of the time and leaves an orphan branch. Here the directory is built aside and published
//! with one `rename`, the branch is created by compare-and-swap, and the files are written outside
//! any lock. Other processes never see an incomplete worktree.
//!
//! Every step can be repeated: the traces of an interrupted attempt are recognised by our marker
//! (or, for the branch, by our line in its reflog) and are used or replaced.

use std::io;
use std::path::Path;

use crate::core::event::{CheckoutMethod, Worktree};
use crate::core::{Code, Environment, EnvironmentOutcome, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::worktree_settings::{copy_sparse_patterns, copy_worktree_config};
use crate::world::fs::file_id::FileId;
use crate::world::fs::names::Names;
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::attributes::Config;
use crate::world::git::checkout::{self, Checkout, Done};
use crate::world::git::command::Git;
use crate::world::git::error::Reason;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::git::ref_changes::{Change, Made};
use crate::world::git::registration::{self, lock_reason, with_newline};

/// Attempts to put an entry into a directory that git may remove while it is empty.
const RACES_MAX: usize = 16;

/// Performs [`EnvironmentStep::AddWorktree`](crate::core::EnvironmentStep::AddWorktree).
pub(in crate::world) fn add(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let common = paths::from_host(&env.plan.repository.common_dir);
    let admin = Admin::of(task.log_id(), env);
    if let Some(identity) = published(task, &admin, &target)? {
        // Published means complete: an earlier daemon finished the work and was killed
        // before it could record that.
        let files = checkout::entry_count(&admin.published.join("index")).unwrap_or(0).into();
        let reason = Some("finished by an earlier daemon".to_owned());
        return Ok(added(task, &admin, identity, Done { by_us: false, reason, files }));
    }
    let extensions = Extensions::read(task, &common)?;
    let hash = supported(env, &extensions)?;
    let identity = claim(task, &target, &admin)?;
    point("add.claimed");
    let marker = Marker::new(task.log_id(), env, identity);
    stage(task, &admin, &marker, &target, &extensions)?;
    point("add.staged");
    let commit = commit_of(task, &common)?;
    let checkout = Checkout {
        git: Git::exact(&admin.staged, Some(&target), Some(task.lock), task.cancel),
        admin_dir: &admin.staged,
        target: &target,
        common_dir: &common,
        source: env.plan.repository.source.as_ref().map(paths::borrowed),
        commit: &commit,
        hash,
        attributes: attribute_source(task, &common)?,
    };
    let done = fill(task, &common, &checkout)?;
    remember_tree(&admin, &commit, hash, marker)?;
    point("add.checked_out");
    registration::publish(&admin)?;
    point("add.published");
    Ok(added(task, &admin, identity, done))
}

/// Returns the tree-ish that the requester wants git to read attributes from,
/// if it resolves to a tree.
fn attribute_source(task: &Task<'_>, common: &Path) -> Result<Option<String>, Fault> {
    let Some(wanted) = &task.env().attributes else { return Ok(None) };
    let git = Git::exact(common, None, Some(task.lock), task.cancel);
    let tree = format!("{wanted}^{{tree}}");
    let found = git.run(["rev-parse", "--verify", "--quiet", "--end-of-options", &tree])?;
    Ok(found.status.success().then(|| wanted.clone()))
}

/// Records in the marker which tree was checked out, so that a later inspection can prove
/// that nothing has changed.
fn remember_tree(admin: &Admin, commit: &str, hash: Hash, marker: Marker) -> Result<(), Fault> {
    let index = std::fs::read(admin.staged.join("index")).unwrap_or_default();
    let tree = read::each(&index, hash, |_| {}).and_then(|whole| whole.tree);
    let tree = tree.map(|tree| crate::format::hex(&tree));
    let marker = Marker { commit: Some(commit.to_owned()), tree, ..marker };
    Ok(marker.write(&admin.staged)?)
}

/// Writes the files and creates the branch. git does not list the worktree yet.
fn fill(task: &Task<'_>, common: &Path, checkout: &Checkout<'_>) -> Result<Done, Fault> {
    let plan = &task.env().plan;
    if plan.reuse_branch {
        not_checked_out(common, &format!("refs/heads/{}", plan.branch))?;
        return Ok(checkout.run()?);
    }
    // The branch waits for an fsync, and the files do not depend on it: both run at once.
    let (branch, done) = std::thread::scope(|scope| {
        let branch = scope.spawn(|| make_branch(task, common));
        let done = checkout.run();
        (branch.join(), done)
    });
    branch.unwrap_or_else(|_| {
        let message = "the thread that creates the branch panicked";
        Err(Fault::new(Code::Defect, message, "report this defect with the daemon log"))
    })?;
    Ok(done?)
}

fn added(task: &Task<'_>, admin: &Admin, identity: FileId, done: Done) -> EnvironmentOutcome {
    let plan = &task.env().plan;
    let source = plan.repository.source.as_ref().map(paths::borrowed);
    let target = paths::from_host(&plan.path);
    let has = |name: &String| target.join(name).symlink_metadata().is_ok();
    EnvironmentOutcome::Added(Worktree {
        admin_dir: paths::to_host(&admin.published),
        device: identity.device,
        inode: identity.inode,
        checkout: if done.by_us { CheckoutMethod::Parallel } else { CheckoutMethod::Git },
        checkout_reason: done.reason,
        files: done.files,
        // The entries are as young as their files, so git would read each file again ("racy git"),
        // whichever program wrote the index.
        racy: true,
        has_include: source.is_some_and(crate::world::effects::worktree_include::has_list),
        has_setup: plan.setup_path.as_ref().is_some_and(has),
    })
}

/// The extensions that a repository's own configuration declares.
#[derive(Default)]
struct Extensions {
    ref_storage: Option<String>,
    worktree_config: bool,
}

impl Extensions {
    /// git reads extensions only from the repository's own configuration file. A file without the
    /// word has none, so most repositories need no git process here.
    fn read(task: &Task<'_>, common: &Path) -> Result<Self, Fault> {
        let path = common.join("config");
        let text = std::fs::read(&path).map_err(paths::failed("read", &path))?;
        let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
        if !text.contains("extensions") && !text.contains("include") {
            return Ok(Self::default());
        }
        let git = Git::exact(common, None, Some(task.lock), task.cancel);
        let config = Config::parse(&git.output(["config", "--list", "-z"])?);
        Ok(Self {
            ref_storage: config.ref_storage().map(str::to_owned),
            worktree_config: config.has_worktree_config(),
        })
    }
}

/// Returns the repository's hash, or refuses a repository in a format that is not supported.
fn supported(env: &Environment, extensions: &Extensions) -> Result<Hash, Fault> {
    if let Some(storage) = &extensions.ref_storage {
        let message = format!("a repository with ref storage {storage} is not supported");
        let hint = "run `git refs migrate --ref-format=files` there, or use another clone";
        return Err(Fault::new(Code::UnsupportedRepository, message, hint));
    }
    let format = &env.plan.repository.object_format;
    Hash::named(format).ok_or_else(|| {
        let message = format!("object format {format:?} is not supported");
        let hint = "use a clone with object format sha1 or sha256";
        Fault::new(Code::UnsupportedRepository, message, hint)
    })
}

/// Creates the directory, or takes over the one that an interrupted attempt
/// created, and empties it.
fn claim(task: &Task<'_>, target: &Path, admin: &Admin) -> Result<FileId, Fault> {
    let parent = target.parent().unwrap_or(target);
    std::fs::create_dir_all(parent).map_err(paths::failed("create", parent))?;
    match std::fs::create_dir(target) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(paths::fault("create", target, &e));
        }
        _ => {}
    }
    let found = marker::identity(target)?.ok_or_else(|| {
        let message = "another process removed the new worktree directory";
        Fault::new(Code::Io, message, "stop that process; the step is retried").transient()
    })?;
    let mut entries = std::fs::read_dir(target).map_err(paths::failed("read", target))?;
    if entries.next().is_none() {
        return Ok(found);
    }
    // Not empty: deleted only if an interrupted attempt's marker proves that it is ours.
    let marker = Marker::read(&admin.staged)?;
    let root = task.layout().worktrees();
    let mine = ownership::prove(&root, target, found, marker.as_ref(), task.log_id(), task.env());
    if mine.is_err() {
        let message = format!("{} exists and was not created by groundskeeper", target.display());
        let hint = "move it to another path, or choose another id";
        return Err(Fault::new(Code::PathExists, message, hint));
    }
    removal::empty(target)?;
    Ok(found)
}

/// Returns the identity of the worktree if an interrupted attempt has published it already.
fn published(task: &Task<'_>, admin: &Admin, target: &Path) -> Result<Option<FileId>, Fault> {
    let Some(marker) = Marker::read(&admin.published)? else { return Ok(None) };
    if !marker.is_of(task.log_id(), task.env().life()) {
        return Ok(None);
    }
    let found = marker::identity(target)?;
    if found.map(|found| found.inode) != Some(marker.inode) {
        // The marker is ours, but its directory no longer exists: the registration is built again.
        registration::remove(&task.owner(), admin)?;
        return Ok(None);
    }
    Ok(found)
}

/// Builds the administrative directory where git does not see it, and the worktree's pointer to it.
fn stage(
    task: &Task<'_>,
    admin: &Admin,
    marker: &Marker,
    target: &Path,
    extensions: &Extensions,
) -> Result<(), Fault> {
    let env = task.env();
    let staged = &admin.staged;
    // The name contains the id of our log: only an interrupted attempt of ours can have left it.
    removal::remove_ours(staged)?;
    // Another worktree's publication removes the shared parent folder while it is empty.
    for _ in 0..RACES_MAX {
        match std::fs::create_dir_all(staged) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            made => {
                made.map_err(paths::failed("create", staged))?;
                break;
            }
        }
    }
    // First, so that an interrupted attempt can be recognised from here on.
    marker.write(staged)?;
    let put = |name: &str, text: Vec<u8>| {
        let path = staged.join(name);
        std::fs::write(&path, text).map_err(paths::failed("write", &path))
    };
    let pointer = target.join(".git");
    put("HEAD", format!("ref: refs/heads/{}\n", env.plan.branch).into_bytes())?;
    put("commondir", b"../..\n".to_vec())?;
    put("gitdir", with_newline(&pointer))?;
    // git does not prune a locked worktree.
    put("locked", lock_reason(env).into_bytes())?;
    if extensions.worktree_config {
        copy_worktree_config(task, staged)?;
    }
    copy_sparse_patterns(task, staged)?;
    let mut text = b"gitdir: ".to_vec();
    text.extend(with_newline(&admin.published));
    std::fs::write(&pointer, text).map_err(paths::failed("write", &pointer))
}

/// Returns the identity that signs a branch's first reflog entry; it proves that this
/// incarnation created the branch.
pub(in crate::world) fn signature(task: &Task<'_>) -> String {
    Names::of(task.log_id(), task.env().life()).signature()
}

/// Creates the branch at its start commit; refuses if it exists.
fn make_branch(task: &Task<'_>, common: &Path) -> Result<(), Fault> {
    let branch = &task.env().plan.branch;
    let reference = format!("refs/heads/{branch}");
    let git = Git::exact(common, None, Some(task.lock), task.cancel);
    let change = Change { attempts: task.attempts(), ..Change::of(&git, common, &reference) };
    match change.create_branch(start(task)?, &signature(task), "groundskeeper: created") {
        Ok(Made::Yes) => {
            point("add.branched");
            Ok(())
        }
        Ok(Made::Exists) => {
            let hint = format!("pass `--branch {branch}` to check it out, or choose another name");
            let message = format!("branch {branch} already exists");
            Err(Fault::new(Code::BranchExists, message, hint))
        }
        Err(error) => Err(branch_fault(branch, error)),
    }
}

/// Maps git's refusal of a branch name (invalid, or in conflict with another
/// branch) to a clear fault.
fn branch_fault(branch: &str, git_error: git::Error) -> Fault {
    match git_error.reason() {
        Some(Reason::NameTaken) => {
            let message =
                format!("cannot create branch {branch}: it conflicts with an existing branch");
            let hint = "rename the existing branch that git names, or choose another branch name";
            let evidence = Fault::from(git_error).evidence;
            Fault::new(Code::BranchExists, message, hint).with_evidence(evidence)
        }
        Some(Reason::BadName) => {
            let message = format!("{branch:?} is not a valid name for a git branch");
            Fault::new(Code::InvalidRequest, message, "choose another branch name")
        }
        _ => git_error.into(),
    }
}

fn not_checked_out(common: &Path, reference: &str) -> Result<(), Fault> {
    let Some(place) = registration::checked_out(common, reference) else { return Ok(()) };
    let message = format!("{reference} is already checked out");
    let hint = "switch that worktree to another branch, or omit --branch to get a new branch";
    Err(Fault::new(Code::BranchExists, message, hint).with_evidence([place]))
}

/// Returns the commit that a new branch starts at: the base, or the commit being restored.
fn start<'a>(task: &'a Task<'_>) -> Result<&'a str, Fault> {
    let start = task.env().start();
    let hint = "report this defect with the daemon log";
    start.ok_or_else(|| Fault::new(Code::Defect, "the base is not resolved", hint))
}

/// Returns the commit to check out: the start commit, or the tip of a reused branch.
fn commit_of(task: &Task<'_>, common: &Path) -> Result<String, Fault> {
    let plan = &task.env().plan;
    if !plan.reuse_branch {
        return Ok(start(task)?.to_owned());
    }
    let git = Git::exact(common, None, Some(task.lock), task.cancel);
    Ok(git.line(["rev-parse", "--verify", &format!("refs/heads/{}^{{commit}}", plan.branch)])?)
}
