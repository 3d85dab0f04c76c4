//! Bundles: they carry the objects of a commit from one repository to another. Never changes a ref.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::world::fs;
use crate::world::fs::removal;
use crate::world::git::command::Git;
use crate::world::git::error::Error;

/// Name of the folder beside a bundle in which git unpacks it.
const FOLDER: &str = "gk-unbundle.git";
/// Length in bytes of the head of a bundle in which the kind of its hashes stands.
const HEAD_BYTES: u64 = 64;

/// Writes a bundle that holds everything a ref leads to.
///
/// # Errors
/// Those of git.
pub(in crate::world) fn create(git: &Git<'_>, bundle: &Path, reference: &str) -> Result<(), Error> {
    let mut command = git.command(["bundle", "create", "--quiet"]);
    command.arg(bundle).arg(reference);
    git.line_of("git bundle create", command).map(drop)
}

/// Adds the objects of a bundle to a repository's folder of objects, and flushes them to disk. It
/// is done from a repository without refs: git before 2.40 fails at any ref that leads nowhere, as
/// those of a repository do whose objects are only now put back. The folder for that lies beside
/// the bundle, and is removed.
///
/// # Errors
/// Those of git, and of the system about the folder.
pub(in crate::world) fn unbundle(
    git: &Git<'_>,
    bundle: &Path,
    objects: &Path,
) -> Result<(), Error> {
    let folder = bundle.with_file_name(FOLDER);
    // Who may read what git writes is a setting of the repository that gets it.
    let shared = git.run(["config", "--get", "core.sharedRepository"])?;
    let shared = String::from_utf8_lossy(&shared.stdout).trim().to_owned();
    make_bare(&folder, has_long_hashes(bundle), &shared)?;
    let git = git.clone().in_bare(&folder).with_objects(objects, objects);
    let settings = ["-c", "core.fsync=all", "-c", "core.fsyncMethod=batch"];
    let mut command = git.command(settings.into_iter().chain(["bundle", "unbundle"]));
    command.arg(bundle);
    let done = git.line_of("git bundle unbundle", command).map(drop);
    removal::remove_ours(&folder)?;
    done
}

/// Makes an empty repository, whose files are shared as `shared` says.
fn make_bare(folder: &Path, long_hashes: bool, shared: &str) -> Result<(), Error> {
    removal::remove_ours(folder)?;
    let make = |name: &str| std::fs::create_dir_all(folder.join(name));
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    let version = u8::from(long_hashes);
    let mut settings = format!("[core]\n\tbare = true\n\trepositoryformatversion = {version}\n");
    // A name or an octal number; anything else is no value that git knows.
    if !shared.is_empty() && shared.chars().all(|c| c.is_ascii_alphanumeric()) {
        settings.push_str(&format!("\tsharedRepository = {shared}\n"));
    }
    if long_hashes {
        settings.push_str("[extensions]\n\tobjectformat = sha256\n");
    }
    make("objects")
        .and_then(|()| make("refs"))
        .and_then(|()| put("config", &settings))
        .and_then(|()| put("HEAD", "ref: refs/heads/none\n"))
        .map_err(fs::Error::about("write", folder))?;
    Ok(())
}

/// Returns whether the objects of a bundle are named by SHA-256. A bundle that cannot be read is
/// git's to refuse.
fn has_long_hashes(bundle: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(bundle).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok() && String::from_utf8_lossy(&head).contains("\n@object-format=sha256\n")
}
