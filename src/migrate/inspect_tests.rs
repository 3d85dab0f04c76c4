//! Owner, group and mode of a new database, and what is refused before anything is made.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::recipes::folder::case::{Case, migrate_in};
use crate::sample::listing;

/// A user who owns nothing here.
const OTHER: u32 = 4_711;
/// Names the directory of a case for the test that runs as another user.
const ROOT: &str = "GROUNDSKEEPER_TEST_CASE";

fn set_mode(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("set");
}

/// Returns whether the tests run as root, which may give files away.
fn is_root(case: &Case) -> bool {
    chown(case.database(), Some(OTHER), Some(OTHER)).is_ok()
}

/// Creates a case that another user can work in.
fn shared_case() -> Case {
    let case = Case::new();
    for dir in [case.root(), &case.root().join("data"), &case.root().join("recipe")] {
        set_mode(dir, 0o777);
    }
    case
}

/// Migrates as another user, in a child. Returns what the child printed.
fn migrate_as_other(case: &Case) -> String {
    // The place of the program may be closed to that user.
    let program = case.root().join("program");
    std::fs::copy(std::env::current_exe().expect("a program"), &program).expect("copied");
    set_mode(&program, 0o755);
    let mut command = Command::new(program);
    let child = "inspect_tests::migration_of_other_user_reports";
    command.args(["--exact", child, "--nocapture", "--test-threads=1"]);
    command.env(ROOT, case.root()).current_dir("/").uid(OTHER).gid(OTHER);
    let output = command.output().expect("ran");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs as the other user, where a test of this file starts it.
#[test]
fn migration_of_other_user_reports() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    match migrate_in(Path::new(&root), None) {
        Ok(is_new) => println!("migrated: {is_new}"),
        Err(fault) => println!("refused: {fault} hint: {}", fault.hint),
    }
}

#[test]
fn owner_and_mode_are_kept() {
    for mode in [0o640, 0o600, 0o444, 0o666] {
        let case = Case::new();
        let is_root = is_root(&case);
        set_mode(&case.database(), if is_root { mode } else { mode | 0o600 });
        let before = case.database().metadata().expect("there");
        assert!(case.migrate().expect("migrated"), "{mode:o}");
        let after = case.database().metadata().expect("there");
        let of = |found: &std::fs::Metadata| (found.uid(), found.gid(), found.mode());
        assert_eq!(of(&after), of(&before), "{mode:o}");
    }
}

#[test]
fn foreign_owner_is_refused_beforehand() {
    let case = shared_case();
    if !is_root(&case) {
        return;
    }
    chown(case.database(), Some(0), Some(0)).expect("given back");
    set_mode(&case.database(), 0o666);
    // It would fail in the step before the new database is made.
    case.write("normalise", "DELETE FROM none");
    let before = case.bytes();
    let printed = migrate_as_other(&case);
    assert!(printed.contains("refused") && printed.contains("migrate as user 0"), "{printed}");
    assert_eq!((case.bytes(), listing(&case.root().join("data"))), (before, vec!["app.db".into()]));
    // The same user, but a group that the user is not in.
    chown(case.database(), Some(OTHER), Some(0)).expect("given away");
    let printed = migrate_as_other(&case);
    assert!(printed.contains("with group 0"), "{printed}");
    case.write("normalise", "DELETE FROM item WHERE id = 9");
    chown(case.database(), Some(OTHER), Some(OTHER)).expect("given away");
    let printed = migrate_as_other(&case);
    assert!(printed.contains("migrated: true"), "{printed}");
}

#[test]
fn unwritable_database_names_command() {
    let case = shared_case();
    if !is_root(&case) {
        return;
    }
    set_mode(&case.database(), 0o444);
    let printed = migrate_as_other(&case);
    let wanted = format!("chmod u+rw {}` as its owner", case.database().display());
    assert!(printed.contains(&wanted), "{printed}");
    // The command helps.
    set_mode(&case.database(), 0o644);
    let data = case.root().join("data");
    set_mode(&data, 0o555);
    let printed = migrate_as_other(&case);
    let wanted = format!("chmod u+rwx {}` as its owner", data.display());
    assert!(printed.contains(&wanted), "{printed}");
    set_mode(&data, 0o777);
    let printed = migrate_as_other(&case);
    assert!(printed.contains("migrated: true"), "{printed}");
}

#[test]
fn link_names_its_target() {
    let case = Case::new();
    let real = case.root().join("real.db");
    std::fs::rename(case.database(), &real).expect("renamed");
    std::os::unix::fs::symlink(&real, case.database()).expect("linked");
    let fault = case.migrate().expect_err("a link");
    let target = real.canonicalize().expect("real");
    assert!(fault.hint.contains(&format!("pass {}", target.display())), "{}", fault.hint);
}

/// The secrets are read long after the inspection.
#[test]
fn fifo_as_secrets_is_refused() {
    let case = Case::new();
    let auth = case.root().join("auth.json");
    let made = Command::new("mkfifo").arg(&auth).status();
    assert!(made.expect("mkfifo").success());
    let before = case.bytes();
    let fault = case.migrate_with(Some(auth)).expect_err("a FIFO");
    assert!(fault.message.contains("a FIFO"), "{fault}");
    assert_eq!((case.bytes(), listing(&case.root().join("data"))), (before, vec!["app.db".into()]));
}

/// As in a container into which one file is passed. Only root can mount.
#[cfg(target_os = "linux")]
#[test]
fn mounted_database_is_refused() {
    let case = Case::new();
    let database = case.database();
    let mount = Command::new("mount").arg("--bind").args([&database, &database]).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        return;
    }
    let result = case.migrate();
    let ended = Command::new("umount").arg(&database).status();
    assert!(ended.expect("umount").success());
    let fault = result.expect_err("no rename can replace it");
    assert!(fault.message.contains("mounted as a single file"), "{fault}");
    assert!(case.migrate().expect("migrated"), "without the mount");
}

/// The code of a read-only file system differs from that of a missing right.
#[cfg(target_os = "linux")]
#[test]
fn read_only_mount_is_reported() {
    let case = Case::new();
    let data = case.root().join("data");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";
    let mount = Command::new("sh").args(["-c", script]).arg(&data).output();
    let is_mounted = mount.is_ok_and(|done| done.status.success());
    let result = is_mounted.then(|| crate::access::check_writable(&case.database()));
    drop(Command::new("umount").arg(&data).output());
    let Some(result) = result else { return };
    let fault = result.expect_err("it cannot be written");
    assert_eq!(fault.code, crate::Code::Io, "{fault}");
    assert!(fault.hint.contains("remount the read-only file system"), "{}", fault.hint);
}
