//! `migrate` as root on the database of another user, who can change everything around it.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use crate::migrate::{Place, TENANT, migrate, set_up_case};
use crate::support::Harness;

const CASE: &str = "01-openapi-file-basic";
/// A user that has no other files.
const USER: u32 = 54_321;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can give files to another user");
    }
    root
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).expect("given");
}

fn place_of_user(harness: &Harness) -> Place {
    let place = set_up_case(harness, CASE, "one");
    for dir in [place.data.as_path(), place.auth.parent().expect("a folder")] {
        give(dir);
        std::fs::read_dir(dir).expect("read").flatten().for_each(|entry| give(&entry.path()));
    }
    place
}

/// The user's application settles an interrupted migration by its manifest, so it must be able to
/// read it.
#[test]
fn manifest_belongs_to_owner_of_database() {
    if !is_root() {
        return;
    }
    let harness = Harness::new();
    let place = place_of_user(&harness);
    let command = migrate(&place, TENANT);
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    for point in ["migrate.copied", "migrate.verified"] {
        let mut killed = harness.command(&args);
        let output = killed.env("GROUNDSKEEPER_KILL_AT", point).output().expect("runs");
        assert!(!output.status.success(), "{point}");
        let manifest = place.data.join("data.db.v1-v2-migration.json");
        let found = manifest.metadata().expect("a manifest");
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o777),
            (USER, USER, 0o600),
            "{point}"
        );
    }
    let done = harness.ok(&args);
    assert_eq!(done["phase"], "finished", "{done:#}");
    let found = place.database().metadata().expect("a database");
    assert_eq!((found.uid(), found.gid()), (USER, USER));
}

/// A log beside the database names files to replace and to remove.
#[test]
fn log_of_another_user_is_refused() {
    if !is_root() {
        return;
    }
    let harness = Harness::new();
    let place = place_of_user(&harness);
    let before = std::fs::read(place.database()).expect("read");
    let dir = place.data.join("data.db.migration");
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(dir.join("log.redb"), "anything").expect("written");
    give(&dir.join("log.redb"));
    let command = migrate(&place, TENANT);
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    let refused = |why: &str| {
        let (code, answer) = harness.gk(&args);
        assert_eq!((code, &answer["error"]["code"]), (2, &"permission_denied".into()), "{why}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains("belongs to user 54321"), "{why}: {message}");
        assert_eq!(std::fs::read(place.database()).expect("read"), before);
    };
    refused("the log");

    // A directory of the user: the log in it can be exchanged at any time.
    std::fs::remove_file(dir.join("log.redb")).expect("removed");
    std::fs::write(dir.join("log.redb"), "anything").expect("written");
    give(&dir);
    refused("the directory");

    // A link of the user to a log of root.
    chown(&dir, Some(0), Some(0)).expect("taken back");
    std::fs::remove_file(dir.join("log.redb")).expect("removed");
    let target = harness.path("of-root");
    std::fs::write(&target, "anything").expect("written");
    std::os::unix::fs::symlink(&target, dir.join("log.redb")).expect("linked");
    std::os::unix::fs::lchown(dir.join("log.redb"), Some(USER), Some(USER)).expect("given");
    refused("the link");
}
