//! Files that a provision copied are not work as long as they are unchanged: included files, and
//! files that git is told to skip.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::clean_check::started;
use crate::support::{Bench, Daemon};

/// Creates a repository whose `.worktreeinclude` names a file, directories and a link, all ignored.
fn repository(bench: &Bench) -> PathBuf {
    let repo = bench.repo("project", 5);
    let list = ".env\ncerts/\n.conf\n.conf.real\npart/one\n";
    bench.write(&repo.join(".gitignore"), ".env\ncerts/\n.conf\n.conf.real\npart/\n");
    bench.write(&repo.join(".worktreeinclude"), list);
    bench.commit(&repo, "ignore");
    for file in [".env", "certs/a.pem", "certs/deep/b.pem", ".conf.real", "part/one", "part/two"] {
        bench.write(&repo.join(file), "secret\n");
    }
    symlink(".conf.real", repo.join(".conf")).expect("linked");
    symlink("a.pem", repo.join("certs/link")).expect("linked");
    repo
}

fn is_safe(bench: &Bench, id: &str) -> bool {
    let seen = bench.ok(&["rm", id, "--dry-run"]);
    seen["safe"].as_bool().unwrap_or_else(|| panic!("not reported: {seen:#}"))
}

/// Included files are copies; git is not asked about them.
#[test]
fn untouched_copies_need_no_force() {
    let bench = Bench::new();
    let repo = repository(&bench);
    let _daemon = Daemon::start(&bench);
    let path = bench.new_env("demo", &repo, &[]);
    assert!(path.join("certs/deep/b.pem").exists() && path.join(".conf").is_symlink());
    assert!(!path.join("part/two").exists(), "the list does not name it");
    let before = started(&bench);
    assert!(is_safe(&bench, "demo"));
    assert_eq!(started(&bench), before, "git was asked");
    // The same holds beside a change that only git can judge.
    bench.write(&path.join("README"), "edited\n");
    assert!(!is_safe(&bench, "demo"));
    bench.write(&path.join("README"), "hello\n");
    assert!(is_safe(&bench, "demo"));
    // The record of included files survives a removal and a restore.
    bench.ok(&["rm", "demo"]);
    bench.ok(&["restore", "demo"]);
    for file in [".env", "certs/a.pem", "part/one", ".conf.real"] {
        bench.write(&repo.join(file), "another secret\n");
    }
    assert!(is_safe(&bench, "demo"), "untouched although the source has changed");
    bench.write(&path.join("certs/a.pem"), "SECRET\n");
    assert!(!is_safe(&bench, "demo"));
    bench.ok(&["rm", "demo", "--force"]);
    bench.check(&[&repo]);
}

#[test]
fn gc_keeps_edited_copies_only() {
    let bench = Bench::new();
    let repo = repository(&bench);
    let _daemon = Daemon::start(&bench);
    bench.new_env("clean", &repo, &[]);
    let path = bench.new_env("edited", &repo, &[]);
    bench.write(&path.join("certs/deep/b.pem"), "SECRET\n");
    bench.ok(&["gc"]);
    assert_eq!(bench.phase("clean"), "tombstoned");
    assert_eq!(bench.phase("edited"), "ready");
    bench.check(&[&repo]);
}

#[test]
fn changed_copies_are_reported_as_work() {
    type Change = fn(&Bench, &Path);
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
    let bench = Bench::new();
    let repo = repository(&bench);
    let _daemon = Daemon::start(&bench);
    for (id, named, change) in cases {
        let path = bench.new_env(id, &repo, &[]);
        assert!(is_safe(&bench, id), "{id}: before");
        change(&bench, &path);
        let error = bench.refused(&["rm", id]).1;
        assert_eq!(error["code"], "unsafe_to_remove", "{id}: {error:#}");
        assert!(error["evidence"].to_string().contains(named), "{id}: {error:#}");
    }
}

#[test]
fn copies_with_new_stat_are_compared() {
    let bench = Bench::new();
    let repo = repository(&bench);
    let _daemon = Daemon::start(&bench);
    let path = bench.new_env("demo", &repo, &[]);
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
    assert!(is_safe(&bench, "demo"));
    bench.write(&repo.join("certs/a.pem"), "SECRET\n");
    assert!(!is_safe(&bench, "demo"), "the last copy of these bytes");
}

#[test]
fn hidden_files_count_only_if_edited() {
    let bench = Bench::new();
    let repo = bench.repo("project", 5);
    bench.write(&repo.join(".gitattributes"), "*.crlf text eol=crlf\n");
    bench.write(&repo.join("lines.crlf"), "one\ntwo\n");
    bench.commit(&repo, "line endings");
    let _daemon = Daemon::start(&bench);
    for flag in ["--skip-worktree", "--assume-unchanged"] {
        for name in ["README", "lines.crlf"] {
            let id = format!("{}-{}", flag.trim_start_matches('-'), &name[..2].to_lowercase());
            let path = bench.new_env(&id, &repo, &[]);
            bench.git(&path, &["update-index", flag, name]);
            let file = path.join(name);
            assert!(is_safe(&bench, &id), "{id}");
            let text = std::fs::read_to_string(&file).expect("read");
            bench.write(&file, &text);
            assert!(is_safe(&bench, &id), "{id}: written again");
            let time = file.metadata().and_then(|m| m.modified()).expect("a time");
            bench.write(&file, &text.to_uppercase().replace("HELLO", "Hello"));
            let opened = std::fs::File::options().write(true).open(&file);
            opened.and_then(|f| f.set_modified(time)).expect("dated");
            let error = bench.refused(&["rm", &id]).1;
            let named = format!("hidden from status: {name}");
            assert!(error["evidence"].to_string().contains(&named), "{id}: {error:#}");
            std::fs::remove_file(&file).expect("removed");
            assert!(is_safe(&bench, &id), "{id}: left out, as a sparse checkout does");
            bench.ok(&["rm", &id]);
        }
    }
    bench.check(&[&repo]);
}
