//! Files that a provision copied are not work as long as they are unchanged: included files, and
//! files that git is told to skip.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::clean_check::started;
use crate::support::{Daemon, Harness};

/// Creates a repository whose `.worktreeinclude` names a file, directories and a link, all ignored.
fn repository(harness: &Harness) -> PathBuf {
    let repo = harness.repo("project", 5);
    let list = ".env\ncerts/\n.conf\n.conf.real\npart/one\n";
    harness.write(&repo.join(".gitignore"), ".env\ncerts/\n.conf\n.conf.real\npart/\n");
    harness.write(&repo.join(".worktreeinclude"), list);
    harness.commit(&repo, "ignore");
    for file in [".env", "certs/a.pem", "certs/deep/b.pem", ".conf.real", "part/one", "part/two"] {
        harness.write(&repo.join(file), "secret\n");
    }
    symlink(".conf.real", repo.join(".conf")).expect("linked");
    symlink("a.pem", repo.join("certs/link")).expect("linked");
    repo
}

fn is_safe(harness: &Harness, id: &str) -> bool {
    let seen = harness.ok(&["rm", id, "--dry-run"]);
    seen["safe"].as_bool().unwrap_or_else(|| panic!("not reported: {seen:#}"))
}

/// Included files are copies; git is not asked about them.
#[test]
fn untouched_copies_need_no_force() {
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    assert!(path.join("certs/deep/b.pem").exists() && path.join(".conf").is_symlink());
    assert!(!path.join("part/two").exists(), "the list does not name it");
    let before = started(&harness);
    assert!(is_safe(&harness, "demo"));
    assert_eq!(started(&harness), before, "git was asked");
    // The same holds beside a change that only git can judge.
    harness.write(&path.join("README"), "edited\n");
    assert!(!is_safe(&harness, "demo"));
    harness.write(&path.join("README"), "hello\n");
    assert!(is_safe(&harness, "demo"));
    // The record of included files survives a removal and a restore.
    harness.ok(&["rm", "demo"]);
    harness.ok(&["restore", "demo"]);
    for file in [".env", "certs/a.pem", "part/one", ".conf.real"] {
        harness.write(&repo.join(file), "another secret\n");
    }
    assert!(is_safe(&harness, "demo"), "untouched although the source has changed");
    harness.write(&path.join("certs/a.pem"), "SECRET\n");
    assert!(!is_safe(&harness, "demo"));
    harness.ok(&["rm", "demo", "--force"]);
    harness.check(&[&repo]);
}

#[test]
fn gc_keeps_edited_copies_only() {
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    harness.new_env("clean", &repo, &[]);
    let path = harness.new_env("edited", &repo, &[]);
    harness.write(&path.join("certs/deep/b.pem"), "SECRET\n");
    harness.ok(&["gc"]);
    assert_eq!(harness.phase("clean"), "tombstoned");
    assert_eq!(harness.phase("edited"), "ready");
    harness.check(&[&repo]);
}

#[test]
fn changed_copies_are_reported_as_work() {
    type Change = fn(&Harness, &Path);
    let cases: [(&str, &str, Change); 8] = [
        ("file-edited", "ignored: .env", |b, at| b.write(&at.join(".env"), "SECRET\n")),
        ("edited", "ignored: certs/", |b, at| b.write(&at.join("certs/a.pem"), "SECRET\n")),
        ("added", "ignored: certs/", |b, at| b.write(&at.join("certs/deep/new"), "x")),
        ("removed", "ignored: certs/", |_, at| {
            std::fs::remove_file(at.join("certs/deep/b.pem")).expect("removed");
        }),
        ("link-changed", "ignored: .conf", |_, at| {
            std::fs::remove_file(at.join(".conf")).expect("removed");
            symlink("README", at.join(".conf")).expect("linked");
        }),
        ("link-to-file", "ignored: .conf", |b, at| {
            std::fs::remove_file(at.join(".conf")).expect("removed");
            b.write(&at.join(".conf"), "a file of its own\n");
        }),
        ("link-inside", "ignored: certs/", |_, at| {
            std::fs::remove_file(at.join("certs/link")).expect("removed");
            symlink("deep/b.pem", at.join("certs/link")).expect("linked");
        }),
        ("repository", "repository: part", |b, at| {
            b.git(&at.join("part"), &["init", "-q"]);
        }),
    ];
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    for (id, named, change) in cases {
        let path = harness.new_env(id, &repo, &[]);
        assert!(is_safe(&harness, id), "{id}: before");
        change(&harness, &path);
        let error = harness.refused(&["rm", id]).1;
        assert_eq!(error["code"], "unsafe_to_remove", "{id}: {error:#}");
        assert!(error["evidence"].to_string().contains(named), "{id}: {error:#}");
    }
}

#[test]
fn copies_with_new_stat_are_compared() {
    let harness = Harness::new();
    let repo = repository(&harness);
    let _daemon = Daemon::start(&harness);
    let path = harness.new_env("demo", &repo, &[]);
    // As after a move to another disk: other inodes and times, but the same bytes.
    for name in ["certs", ".env", ".conf"] {
        let (place, aside) = (path.join(name), path.join("aside"));
        let copy = |from: &Path, to: &Path| {
            let mut command = std::process::Command::new("cp");
            let status = command.arg("-R").arg("-P").arg(from).arg(to).status();
            assert!(status.expect("cp runs").success());
        };
        copy(&place, &aside);
        if place.is_dir() {
            std::fs::remove_dir_all(&place).expect("removed");
        } else {
            std::fs::remove_file(&place).expect("removed");
        }
        std::fs::rename(&aside, &place).expect("moved");
    }
    assert!(is_safe(&harness, "demo"));
    harness.write(&repo.join("certs/a.pem"), "SECRET\n");
    assert!(!is_safe(&harness, "demo"), "the last copy of these bytes");
}

#[test]
fn hidden_files_count_only_if_edited() {
    let harness = Harness::new();
    let repo = harness.repo("project", 5);
    harness.write(&repo.join(".gitattributes"), "*.crlf text eol=crlf\n");
    harness.write(&repo.join("lines.crlf"), "one\ntwo\n");
    harness.commit(&repo, "line endings");
    let _daemon = Daemon::start(&harness);
    for flag in ["--skip-worktree", "--assume-unchanged"] {
        for name in ["README", "lines.crlf"] {
            let id = format!("{}-{}", flag.trim_start_matches('-'), &name[..2].to_lowercase());
            let path = harness.new_env(&id, &repo, &[]);
            harness.git(&path, &["update-index", flag, name]);
            let file = path.join(name);
            assert!(is_safe(&harness, &id), "{id}");
            let text = std::fs::read_to_string(&file).expect("read");
            harness.write(&file, &text);
            assert!(is_safe(&harness, &id), "{id}: written again");
            let time = file.metadata().and_then(|m| m.modified()).expect("a time");
            harness.write(&file, &text.to_uppercase().replace("HELLO", "Hello"));
            let opened = std::fs::File::options().write(true).open(&file);
            opened.and_then(|f| f.set_modified(time)).expect("dated");
            let error = harness.refused(&["rm", &id]).1;
            let named = format!("hidden from status: {name}");
            assert!(error["evidence"].to_string().contains(&named), "{id}: {error:#}");
            std::fs::remove_file(&file).expect("removed");
            assert!(is_safe(&harness, &id), "{id}: left out, as a sparse checkout does");
            harness.ok(&["rm", &id]);
        }
    }
    harness.check(&[&repo]);
}
