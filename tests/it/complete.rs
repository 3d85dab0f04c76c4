//! A rescue is complete, or it names what it lacks, and then the trash entry is not unlinked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::{Harness, wait_for};

/// Creates a repository with `.gitattributes`, and an environment on it.
fn environment(harness: &Harness, attributes: &str, files: &[(&str, &str)]) -> (PathBuf, PathBuf) {
    let repo = harness.repo("project", 6);
    harness.write(&repo.join(".gitattributes"), attributes);
    for (name, text) in files {
        harness.write(&repo.join(name), text);
    }
    harness.commit(&repo, "files");
    let path = harness.new_env("demo", &repo, &[]);
    (repo, path)
}

/// Removes with `--force`, empties the trash, and restores from the rescue ref.
fn restore_from_rescue(harness: &Harness) -> serde_json::Value {
    let removed = harness.ok(&["rm", "demo", "--force"]);
    assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{removed:#}");
    harness.ok(&["restore", "demo"]);
    removed
}

/// Each time that git writes an index, it reads every file that is as young as that index, and runs
/// its filters.
#[test]
fn broken_filter_excludes_only_its_file() {
    let harness = Harness::new();
    let set = |repo: &Path, clean: &str| {
        harness.git(repo, &["config", "filter.crypt.required", "true"]);
        harness.git(repo, &["config", "filter.crypt.smudge", "cat"]);
        harness.git(repo, &["config", "filter.crypt.clean", clean]);
    };
    let (repo, path) = environment(&harness, "*.bin filter=crypt\n", &[("m.bin", "data\n")]);
    set(&repo, "cat");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let file = std::fs::File::options().write(true).open(path.join("m.bin")).expect("opened");
    file.set_modified(later).expect("dated");
    harness.git(&path, &["update-index", "--refresh"]);
    harness.write(&path.join("note"), "work\n");
    set(&repo, "no-such-program");
    let removed = harness.ok(&["rm", "demo", "--force"]);
    let rescue = removed["rescue"][0].as_str().expect("a ref");
    assert_eq!(harness.git(&repo, &["show", &format!("{rescue}:note")]), "work", "{removed:#}");
}

/// With `core.ignoreCase`, no status lists a directory named `.git` in other letter case.
#[test]
fn git_named_directory_counts_as_work() {
    let harness = Harness::new();
    let (repo, path) = environment(&harness, "", &[]);
    harness.git(&repo, &["config", "core.ignoreCase", "true"]);
    harness.write(&path.join("sub/.GIT/deep/note"), "work\n");
    harness.write(&path.join("other/.Git"), "more\n");
    harness.write(&path.join("plain"), "listed\n");
    std::fs::create_dir(path.join(".giT")).expect("made");
    harness.write(&path.join(".giT/top"), "top\n");
    let (code, error) = harness.refused(&["rm", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
    for name in ["sub/.GIT", "other/.Git", ".giT"] {
        assert!(error["evidence"].to_string().contains(name), "{name}: {error:#}");
    }
    restore_from_rescue(&harness);
    for (name, text) in [
        ("sub/.GIT/deep/note", "work\n"),
        ("other/.Git", "more\n"),
        ("plain", "listed\n"),
        (".giT/top", "top\n"),
    ] {
        assert_eq!(std::fs::read_to_string(path.join(name)).ok().as_deref(), Some(text), "{name}");
    }
}

type Break = fn(&Harness, &Path, &Path);

/// Files that git cannot add, by name: attributes of the repository, and what breaks it.
const BREAKS: [(&str, &str, Break); 8] = [
    ("filter", "*.bin filter=crypt\n", |harness, repo, path| {
        harness.git(repo, &["config", "filter.crypt.required", "true"]);
        harness.git(repo, &["config", "filter.crypt.smudge", "cat"]);
        harness.git(repo, &["config", "filter.crypt.clean", "no-such-program"]);
        std::fs::write(path.join("m.bin"), "edited").expect("written");
    }),
    ("encoding", "*.bin working-tree-encoding=no-such-encoding\n", |_, _, path| {
        std::fs::write(path.join("m.bin"), "edited").expect("written");
    }),
    ("bytes", "*.bin working-tree-encoding=UTF-16\n", |_, _, path| {
        std::fs::write(path.join("m.bin"), "edited").expect("written");
    }),
    ("name", "", |harness, _, path| harness.write(&path.join("sub/.GIT/m.bin"), "edited")),
    ("short name", "", |harness, _, path| harness.write(&path.join("git~1/m.bin"), "edited")),
    ("unborn", "", |harness, _, path| {
        harness.write(&path.join("inner/m.bin"), "edited");
        harness.git(&path.join("inner"), &["init", "-q"]);
    }),
    ("broken", "", |harness, _, path| {
        harness.write(&path.join("inner/.git"), "gitdir: /nowhere\n");
        harness.write(&path.join("inner/m.bin"), "edited");
    }),
    ("object store", "", |_, repo, path| {
        std::fs::write(path.join("m.bin"), "edited").expect("written");
        // The hash of the blob begins with `de`, so git cannot write the object.
        let folder = repo.join(".git/objects/de");
        drop(std::fs::remove_dir_all(&folder));
        std::fs::write(folder, "in the way").expect("written");
    }),
];

/// A file that git does not accept is copied or named; all others are rescued.
#[test]
fn unreadable_file_excludes_nothing_else() {
    for (name, attributes, breaks) in BREAKS {
        let harness = Harness::new();
        let files: &[(&str, &str)] = if name == "filter" { &[("m.bin", "data\n")] } else { &[] };
        let (repo, path) = environment(&harness, attributes, files);
        for note in ["a-note", "z-note"] {
            harness.write(&path.join(note), "work\n");
        }
        harness.write(&path.join("README"), "changed\n");
        breaks(&harness, &repo, &path);
        let bad = ["m.bin", "sub/.GIT/m.bin", "git~1/m.bin", "inner/m.bin"];
        let bad = bad.iter().map(|bad| path.join(bad)).find(|bad| bad.exists()).expect("one");
        if name == "filter" {
            // The filter works again before the restore.
            harness.ok(&["rm", "demo", "--force"]);
            harness.git(&repo, &["config", "filter.crypt.clean", "cat"]);
            harness.ok(&["trash", "empty", "demo"]);
            harness.ok(&["restore", "demo"]);
        } else {
            let removed = restore_from_rescue(&harness);
            assert_eq!(removed["lacks"], serde_json::json!([]), "{name}: {removed:#}");
        }
        for (file, text) in [("a-note", "work\n"), ("z-note", "work\n"), ("README", "changed\n")] {
            let found = std::fs::read_to_string(path.join(file)).unwrap_or_default();
            assert_eq!(found, text, "{name}: {file}");
        }
        assert_eq!(std::fs::read_to_string(&bad).unwrap_or_default(), "edited", "{name}");
    }
}

/// Covers filters, line-ending conversion and encodings.
#[test]
fn rescue_restores_exact_bytes() {
    let strips =
        "[filter \"nb\"]\n clean = grep -v OUTPUT || true\n smudge = cat\n required = true\n";
    let crlf = "[core]\n autocrlf = input\n";
    let both = "[core]\n autocrlf = true\n";
    let cases: [(&str, &str, &str, Option<&str>, &[u8]); 9] = [
        ("stripped", strips, "n filter=nb\n", Some("code\n"), b"new\nOUTPUT of hours\n"),
        ("clean to git", strips, "n filter=nb\n", Some("code\n"), b"code\nOUTPUT of hours\n"),
        ("line ends", crlf, "", None, b"a\r\nb\r\n"),
        ("mixed line ends", both, "", Some("a\nb\n"), b"a\r\nb\nc\r\n"),
        ("unix line ends", both, "", None, b"a\nb\n"),
        ("eol", "", "n text eol=crlf\n", Some("a\nb\n"), b"a\nb\nc\n"),
        ("ident", "", "n ident\n", Some("$Id$\n"), b"$Id: mine $\nmore\n"),
        ("utf-16", "", "n working-tree-encoding=UTF-16\n", None, b"\xfe\xff\0h\0\n"),
        ("plain", "", "", None, b"\0\xff\r\n"),
    ];
    for (name, config, attributes, before, after) in cases {
        let harness = Harness::new();
        let global = harness.path("home/.gitconfig");
        let text = std::fs::read_to_string(&global).expect("read") + config;
        std::fs::write(&global, text).expect("written");
        let files: Vec<(&str, &str)> = before.iter().map(|text| ("n", *text)).collect();
        let (repo, path) = environment(&harness, attributes, &files);
        std::fs::write(path.join("n"), after).expect("written");
        std::fs::set_permissions(path.join("n"), std::fs::Permissions::from_mode(0o640))
            .expect("set");
        harness.write(&path.join("other"), "so that there is work for sure\n");
        restore_from_rescue(&harness);
        assert_eq!(std::fs::read(path.join("n")).unwrap_or_default(), after, "{name}");
        let mode = path.join("n").metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
        // Content that a filter removes may be a secret, so no object may contain it.
        let all = harness.git(&repo, &["cat-file", "--batch-all-objects", "--batch-check"]);
        for oid in all.lines().filter(|l| l.contains(" blob ")).filter_map(|l| l.get(..40)) {
            let blob = harness.git_raw(&repo, &["cat-file", "blob", oid]).stdout;
            assert!(!blob.windows(6).any(|part| part == b"OUTPUT"), "{name}: {oid}");
        }
    }
}

/// Creates a file whose path exceeds the limit of the system, so that no rescue can hold it.
fn create_deep_path(path: &Path) {
    let script = "mkdir node_modules; cd node_modules; n=0; while [ $n -lt 2500 ]; do mkdir d && \
                  cd -P d || exit 1; n=$((n+1)); done; echo deep > file";
    let made = std::process::Command::new("sh").args(["-c", script]).current_dir(path).status();
    assert!(made.expect("sh runs").success());
}

/// The rescue lacks something, so the trash entry holds the last copy.
#[test]
fn last_copy_purged_only_by_name() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.write(&repo.join(".gitignore"), "node_modules/\n");
    harness.commit(&repo, "ignore");
    let path = harness.new_env("demo", &repo, &[]);
    harness.write(&path.join("work"), "work\n");
    create_deep_path(&path);
    let (_, error) = harness.refused(&["rm", "demo"]);
    assert!(error["evidence"].to_string().contains("node_modules"), "{error:#}");
    let removed = harness.ok(&["rm", "demo", "--force"]);
    assert!(removed["lacks"].to_string().contains("node_modules"), "{removed:#}");
    harness.drain();
    let trash = PathBuf::from(removed["trash"].as_str().expect("a path"));
    harness.ok(&["trash", "empty"]);
    assert!(trash.exists(), "the entry was not requested by name");
    let (code, error) = harness.refused(&["trash", "empty", "demo"]);
    assert_eq!((code, error["code"].as_str()), (1, Some("unsafe_to_remove")), "{error:#}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("--lose")), "{error:#}");
    assert_eq!(harness.gk(&["trash", "empty", "--lose"]).0, 64, "it takes a name");
    for (verb, field) in [("trash", "only_copy_of"), ("rescue", "lacks")] {
        let list = harness.ok(&[verb, "ls"]);
        assert!(list[0][field].to_string().contains("node_modules"), "{verb}: {list:#}");
    }
    let (usage, doctor) = (harness.ok(&["df"]), harness.ok(&["doctor"]));
    assert!(usage["pinned_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{usage:#}");
    assert!(doctor.to_string().contains("only copy"), "{doctor:#}");
    let left = harness.ok(&["trash", "empty", "demo", "--lose"]);
    assert_eq!(left, serde_json::json!([]));
    assert!(!trash.exists());
    harness.ok(&["restore", "demo"]);
    assert_eq!(std::fs::read_to_string(path.join("work")).expect("back"), "work\n");
}

#[test]
fn missing_rescue_is_rebuilt_before_purge() {
    for how in ["deleted", "pruned by a mirror", "copies cut"] {
        let harness = Harness::new();
        let filter = "[filter \"nb\"]\n clean = grep -v OUTPUT || true\n smudge = cat\n";
        let global = harness.path("home/.gitconfig");
        let text = std::fs::read_to_string(&global).expect("read") + filter;
        std::fs::write(&global, text).expect("written");
        let (repo, path) = environment(&harness, "n filter=nb\n", &[("n", "code\n")]);
        harness.write(&path.join("work"), "work\n");
        harness.write(&path.join("n"), "code\nOUTPUT\n");
        let removed = harness.ok(&["rm", "demo", "--force"]);
        harness.drain();
        let reference = removed["rescue"][0].as_str().expect("a ref");
        match how {
            "deleted" => drop(harness.git(&repo, &["update-ref", "-d", reference])),
            "pruned by a mirror" => {
                let mirror = harness.path("mirror.git");
                let place = mirror.to_str().expect("text");
                harness.git(&repo, &["clone", "-q", "--mirror", ".", place]);
                harness.git(&mirror, &["update-ref", "-d", reference]);
                harness.git(&repo, &["remote", "add", "--mirror=fetch", "m", place]);
                drop(harness.git_raw(&repo, &["fetch", "-q", "--prune", "m"]));
            }
            _ => {
                let home = harness.data().join("rescue").read_dir().expect("a folder").next();
                let home = home.expect("one").expect("read").path();
                std::fs::write(home.join("1/0"), "").expect("cut");
            }
        }
        harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        harness.git(&repo, &["gc", "-q", "--prune=now"]);
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{how}");
        harness.ok(&["restore", "demo"]);
        let text = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        assert_eq!((text("work"), text("n")), ("work\n".into(), "code\nOUTPUT\n".into()), "{how}");
        harness.check_log();
    }
}

type Damage = fn(&Harness, &Path, &Path);

/// Damage to the git directory of a worktree, by name.
const DAMAGES: [(&str, Damage); 10] = [
    ("index", |_, admin, _| std::fs::write(admin.join("index"), "garbage").expect("written")),
    ("cut index", |_, admin, _| {
        let index = std::fs::read(admin.join("index")).expect("read");
        std::fs::write(admin.join("index"), &index[..100]).expect("written");
    }),
    ("half an index", |_, admin, _| {
        let index = std::fs::read(admin.join("index")).expect("read");
        std::fs::write(admin.join("index"), &index[..index.len() / 2]).expect("written");
    }),
    ("no registration", |_, admin, _| std::fs::remove_dir_all(admin).expect("removed")),
    ("no index", |_, admin, _| std::fs::remove_file(admin.join("index")).expect("removed")),
    ("HEAD", |_, admin, _| std::fs::write(admin.join("HEAD"), "\0\0").expect("written")),
    ("no HEAD", |_, admin, _| std::fs::remove_file(admin.join("HEAD")).expect("removed")),
    ("commondir", |_, admin, _| {
        std::fs::write(admin.join("commondir"), "/nowhere\n").expect("written");
    }),
    ("settings", |harness, admin, path| {
        harness.git(path, &["config", "extensions.worktreeConfig", "true"]);
        std::fs::write(admin.join("config.worktree"), "[[[\n").expect("written");
    }),
    ("no commit", |harness, _, path| {
        let commit = harness.commit(path, "mine");
        let repo = harness.path("project/.git/objects");
        let object = repo.join(&commit[..2]).join(&commit[2..]);
        std::fs::remove_file(object).expect("removed");
    }),
];

#[test]
fn damaged_git_data_never_blocks_removal() {
    for (name, damage) in DAMAGES {
        let harness = Harness::new();
        let repo = harness.repo("project", 6);
        let path = harness.new_env("demo", &repo, &[]);
        harness.write(&path.join("work"), "work\n");
        harness.write(&path.join("README"), "changed\n");
        harness.write(&path.join("later"), "later\n");
        harness.git(&path, &["add", "later"]);
        harness.git(&path, &["commit", "-qm", "later"]);
        let last = harness.git(&path, &["rev-parse", "HEAD"]);
        let admin = PathBuf::from(harness.git(&path, &["rev-parse", "--absolute-git-dir"]));
        damage(&harness, &admin, &path);
        let begun = std::time::Instant::now();
        let removed = harness.ok(&["rm", "demo", "--force"]);
        assert!(begun.elapsed().as_secs() < 20, "{name}: {:?}", begun.elapsed());
        let reference = removed["rescue"][0].as_str().unwrap_or_else(|| panic!("{name}: none"));
        let show = |file: &str| harness.git(&repo, &["show", &format!("{reference}:{file}")]);
        assert_eq!((show("work"), show("README")), ("work".into(), "changed".into()), "{name}");
        assert_eq!(show("dir0/file0.txt"), "0", "{name}: the unchanged file is there, too");
        if name == "no commit" {
            continue;
        }
        harness.ok(&["restore", "demo"]);
        assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), last, "{name}: the last commit");
        let status = harness.git(&path, &["status", "--porcelain"]);
        let mut lines: Vec<&str> = status.lines().map(str::trim).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["?? work", "M README"], "{name}: git works in what was restored");
        harness.git(&path, &["commit", "-qam", "after"]);
    }
}

/// If a filter removes a change, `git add` makes git report the file as unchanged.
#[test]
fn changes_hidden_by_filters_are_rescued() {
    let strips =
        "[filter \"nb\"]\n clean = grep -v OUTPUT || true\n smudge = cat\n required = true\n";
    for (name, force, split) in
        [("plain", false, false), ("forced", true, false), ("split index", false, true)]
    {
        let harness = Harness::new();
        let global = harness.path("home/.gitconfig");
        let text = std::fs::read_to_string(&global).expect("read") + strips;
        std::fs::write(&global, text).expect("written");
        let (_, path) = environment(&harness, "n filter=nb\n", &[("n", "code\n")]);
        if split {
            harness.git(&path, &["update-index", "--split-index"]);
        }
        std::fs::write(path.join("n"), "code\nOUTPUT of hours\n").expect("written");
        harness.git(&path, &["add", "n"]);
        assert_eq!(harness.git(&path, &["status", "--porcelain"]), "", "{name}");
        harness.ok(if force { &["rm", "demo", "--force"][..] } else { &["rm", "demo"] });
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{name}");
        harness.ok(&["restore", "demo"]);
        let found = std::fs::read_to_string(path.join("n")).expect("read");
        assert_eq!(found, "code\nOUTPUT of hours\n", "{name}");
        // After a restore from the trash, the change is as visible to a removal as before.
        harness.git(&path, &["add", "n"]);
        harness.ok(&["rm", "demo"]);
        harness.ok(&["restore", "demo"]);
        assert_eq!(harness.git(&path, &["status", "--porcelain"]), "", "{name}, through the trash");
        harness.ok(&["rm", "demo"]);
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{name}");
        harness.ok(&["restore", "demo"]);
        let found = std::fs::read_to_string(path.join("n")).expect("read");
        assert_eq!(found, "code\nOUTPUT of hours\n", "{name}, through the trash");
    }
}

/// What an agent does after `git add`, by name, so that no conversion applies any more; and the
/// file with its bytes, of which git stores fewer.
const FORMER_CONVERSIONS: [(&str, Break, &str, &[u8]); 4] = [
    (
        "orphan branch",
        |h, _, path| drop(h.git(path, &["switch", "-q", "--orphan", "new"])),
        "m",
        LOSSY,
    ),
    (
        "attributes removed",
        |harness, _, path| {
            harness.git(path, &["rm", "-q", ".gitattributes"]);
            harness.commit(path, "without attributes");
        },
        "m",
        LOSSY,
    ),
    (
        "attributes of the repository",
        |_, repo, _| std::fs::remove_file(repo.join(".git/info/attributes")).expect("removed"),
        "own",
        LOSSY,
    ),
    (
        "line endings",
        |harness, repo, _| drop(harness.git(repo, &["config", "core.autocrlf", "false"])),
        "crlf",
        b"one\r\ntwo\r\n",
    ),
];
const LOSSY: &[u8] = b"new\nOUTPUT of hours\n";

/// A conversion that applied when a file was added may be gone at its removal. git compares stat
/// data alone then, and finds the file unchanged.
#[test]
fn changes_hidden_by_former_conversion_are_rescued() {
    for (name, drop_conversion, file, bytes) in FORMER_CONVERSIONS {
        let harness = Harness::new();
        let (repo, path) = environment(&harness, "m filter=nb\n", &[]);
        harness.git(&repo, &["config", "filter.nb.clean", "grep -v OUTPUT || true"]);
        harness.git(&repo, &["config", "core.autocrlf", "input"]);
        harness.write(&repo.join(".git/info/attributes"), "own filter=nb\n");
        std::fs::write(path.join(file), bytes).expect("written");
        std::fs::write(path.join("other"), "other\n").expect("written");
        // Older than the index, so that git does not read it again.
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        let opened = std::fs::File::options().write(true).open(path.join(file)).expect("opened");
        opened.set_modified(before).expect("dated");
        drop(opened);
        harness.git(&path, &["add", file, "other"]);
        // With a new branch only what no commit has stays in the worktree.
        if name != "orphan branch" {
            harness.commit(&path, "work");
        }
        drop_conversion(&harness, &repo, &path);
        assert_eq!(std::fs::read(path.join(file)).expect("read"), bytes, "{name}");
        harness.ok(&["rm", "demo", "--force"]);
        assert_eq!(harness.ok(&["trash", "empty", "demo"]), serde_json::json!([]), "{name}");
        harness.ok(&["restore", "demo"]);
        let found = std::fs::read(path.join(file)).expect("read");
        assert_eq!(found, bytes, "{name}: {}", String::from_utf8_lossy(&found));
    }
}

/// The index of a stopped merge or cherry-pick refers to blobs and commits that no ref reaches.
#[test]
fn operation_in_progress_objects_are_rescued() {
    let harness = Harness::new();
    let (repo, path) = environment(&harness, "", &[("n", "one\n")]);
    harness.git(&repo, &["switch", "-q", "-c", "picked"]);
    let picked: Vec<String> = (0..3)
        .map(|n| {
            harness.write(&repo.join("n"), &format!("picked {n}\n"));
            harness.commit(&repo, "pick me")
        })
        .collect();
    harness.write(&path.join("n"), "mine\n");
    harness.commit(&path, "mine");
    let mut pick = vec!["cherry-pick"];
    pick.extend(picked.iter().map(String::as_str));
    assert!(!harness.git_raw(&path, &pick).status.success(), "it stops at a conflict");
    let side = harness.git(&path, &["rev-parse", ":3:n"]);
    harness.git(&repo, &["switch", "-q", "-"]);
    harness.git(&repo, &["branch", "-q", "-D", "picked"]);
    harness.git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    restore_from_rescue(&harness);
    harness.git(&repo, &["gc", "-q", "--prune=now"]);
    for object in picked.iter().chain([&side]) {
        harness.git(&repo, &["cat-file", "-e", object]);
    }
    let shown = harness.ok(&["rescue", "show", "demo"]).to_string();
    assert!(
        shown.contains("sides of its conflicts") && shown.contains("sequencer/todo"),
        "{shown}"
    );
}

/// A second rescue, of a trash entry, may be interrupted by a restore and leave its copies behind.
#[test]
fn restore_deletes_unlisted_copies() {
    let harness = Harness::new();
    let (_, path) = environment(&harness, "", &[]);
    let removed = harness.ok(&["rm", "demo"]);
    let trash = PathBuf::from(removed["trash"].as_str().expect("a place"));
    let folder = trash.parent().and_then(Path::file_name).expect("a folder");
    let copies = harness.data().join("rescue").join(folder);
    // The daemon removes empty folders of copies, also while this makes one.
    wait_for("a copy", || {
        std::fs::create_dir_all(copies.join("1")).is_ok()
            && std::fs::write(copies.join("1/0"), "a copy\n").is_ok()
    });
    harness.ok(&["restore", "demo"]);
    assert!(path.exists() && !copies.exists());
}
