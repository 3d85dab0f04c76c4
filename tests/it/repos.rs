//! All kinds of repositories and bases, and refusals that name the next step.

use std::path::Path;

use crate::support::Harness;

fn new_args<'a>(id: &'a str, repo: &'a Path) -> Vec<&'a str> {
    vec!["new", id, "--repo", repo.to_str().expect("text")]
}

fn code_of(harness: &Harness, id: &str, repo: &Path, more: &[&str]) -> (i32, String) {
    let mut args = new_args(id, repo);
    args.extend(more);
    let (exit, error) = harness.refused(&args);
    (exit, error["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn bases_resolve_like_git() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let first = harness.git(&repo, &["rev-parse", "HEAD"]);
    harness.git(&repo, &["tag", "v1"]);
    harness.write(&repo.join("more"), "more\n");
    let second = harness.commit(&repo, "second");
    harness.git(&repo, &["switch", "-q", "-c", "feature"]);
    harness.write(&repo.join("feature"), "f\n");
    let third = harness.commit(&repo, "third");

    for (id, base, commit) in [
        ("default", None, &second),
        ("branch", Some("feature"), &third),
        ("tag", Some("v1"), &first),
        ("commit", Some(first.as_str()), &first),
        ("expression", Some("feature~2"), &first),
        ("head", Some("HEAD"), &third),
    ] {
        let more: Vec<&str> = base.map(|b| vec!["--base", b]).unwrap_or_default();
        let path = harness.new_env(id, &repo, &more);
        assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), *commit, "{id}");
        assert_eq!(harness.ok(&["show", id])["base"], commit.as_str());
    }
    let refused = code_of(&harness, "x", &repo, &["--base", "no-such"]);
    assert_eq!(refused, (1, "base_not_found".into()));
    assert_eq!(harness.phase("x"), "failed");
    harness.new_env("x", &repo, &["--base", "v1"]);
    harness.check(&[&repo]);
}

/// The answer says how far the base is behind the remote.
#[test]
fn clone_base_is_remote_default() {
    let harness = Harness::new();
    let origin = harness.repo("origin", 3);
    harness.git(&origin, &["branch", "-m", "main", "trunk"]);
    harness.git(&harness.path("."), &["clone", "-q", "origin", "clone"]);
    let clone = harness.path("clone");
    harness.git(&clone, &["switch", "-q", "-c", "elsewhere"]);
    harness.write(&origin.join("new"), "1\n");
    harness.commit(&origin, "one");
    harness.write(&origin.join("new"), "2\n");
    let newest = harness.commit(&origin, "two");

    harness.new_env("stale", &clone, &[]);
    let stale = harness.ok(&["show", "stale"]);
    assert_eq!(
        (stale["base_ref"].as_str(), stale["behind"].as_u64()),
        (Some("refs/heads/trunk"), Some(0))
    );

    let path = harness.new_env("fresh", &clone, &["--fetch"]);
    let fresh = harness.ok(&["show", "fresh"]);
    assert_eq!(fresh["fetch"], "done");
    assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]), newest);

    harness.new_env("behind", &clone, &[]);
    assert_eq!(
        harness.ok(&["show", "behind"])["behind"],
        2,
        "local trunk is behind what was fetched"
    );

    harness.git(&origin, &["branch", "remote-only"]);
    harness.git(&clone, &["fetch", "-q"]);
    harness.new_env("remote", &clone, &["--base", "remote-only"]);
    assert_eq!(harness.ok(&["show", "remote"])["base_ref"], "refs/remotes/origin/remote-only");

    std::fs::rename(&origin, harness.path("offline")).expect("renamed");
    harness.new_env("offline", &clone, &["--fetch"]);
    let offline = harness.ok(&["show", "offline"]);
    assert!(offline["fetch"].as_str().is_some_and(|f| f.starts_with("not done")), "{offline:#}");
    harness.check(&[&clone]);
}

#[test]
fn existing_branch_is_never_reset() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&repo, &["branch", "gk/demo"]);
    assert_eq!(code_of(&harness, "demo", &repo, &[]), (1, "branch_exists".into()));
    assert_eq!(
        harness.git(&repo, &["branch", "--list", "gk/demo"]).trim(),
        "gk/demo",
        "the branch stays"
    );

    harness.git(&repo, &["branch", "work"]);
    let path = harness.new_env("demo", &repo, &["--branch", "work"]);
    assert_eq!(harness.git(&path, &["branch", "--show-current"]), "work");
    assert_eq!(code_of(&harness, "b", &repo, &["--branch", "work"]), (1, "branch_exists".into()));
    assert_eq!(code_of(&harness, "c", &repo, &["--branch", "main"]), (1, "branch_exists".into()));
    assert_eq!(
        code_of(&harness, "d", &repo, &["--branch", "none"]),
        (1, "branch_not_found".into())
    );
    harness.ok(&["rm", "demo"]);
    assert_eq!(
        harness.git(&repo, &["branch", "--list", "work"]).trim(),
        "work",
        "not ours to delete"
    );
    harness.check(&[&repo]);
}

/// A branch `gk` prevents branches below `gk/`.
#[test]
fn branch_blocking_prefix_is_reported() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&repo, &["branch", "gk"]);
    let mut args = new_args("demo", &repo);
    args.push("--no-setup");
    let (code, error) = harness.refused(&args);
    assert_eq!((code, error["code"].as_str()), (1, Some("branch_exists")), "{error:#}");
    harness.check(&[&repo]);
}

#[test]
fn bare_linked_and_submodule_repositories_work() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&harness.path("."), &["clone", "-q", "--bare", "project", "bare.git"]);
    let bare = harness.path("bare.git");
    let path = harness.new_env("bare", &bare, &[]);
    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("bare"));

    harness.git(&repo, &["worktree", "add", "-q", "../linked"]);
    let linked = harness.path("linked");
    let path = harness.new_env("linked", &linked, &[]);
    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("project"));
    harness.new_env("inside", &linked.join("dir0"), &[]);

    let outer = harness.repo("outer", 3);
    harness.git(&outer, &["submodule", "--quiet", "add", "../project", "sub"]);
    harness.commit(&outer, "submodule");
    let path = harness.new_env("outer", &outer, &[]);
    assert_eq!(std::fs::read_dir(path.join("sub")).expect("a folder").count(), 0);
    harness.new_env("sub", &outer.join("sub"), &[]);

    for id in ["bare", "linked", "inside", "outer"] {
        harness.ok(&["rm", id]);
    }
    harness.check(&[&repo, &bare, &outer, &outer.join("sub")]);
}

#[test]
fn sha256_repositories_work() {
    let harness = Harness::new();
    let repo = harness.path("sha256");
    std::fs::create_dir(&repo).expect("a folder");
    harness.git(&repo, &["init", "-q", "--object-format=sha256"]);
    harness.commit_files(&repo, 450);
    let path = harness.new_env("demo", &repo, &[]);
    assert_eq!(harness.git(&path, &["rev-parse", "HEAD"]).len(), 64);
    assert_eq!(harness.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
    harness.git(&path, &["fsck"]);
    harness.check(&[&repo]);
}

#[test]
fn reftable_repositories_are_refused() {
    let harness = Harness::new();
    let repo = harness.path("reftable");
    std::fs::create_dir(&repo).expect("a folder");
    let made = harness.git_raw(&repo, &["init", "-q", "--ref-format=reftable"]);
    if !made.status.success() {
        return;
    }
    harness.commit_files(&repo, 3);
    assert_eq!(code_of(&harness, "demo", &repo, &[]), (1, "unsupported_repository".into()));
    harness.check(&[&repo]);
}

/// Covers blanks, Unicode, newlines, quotes and a leading dash.
#[test]
fn unusual_paths_are_supported() {
    let harness = Harness::new();
    for (n, name) in ["with blank", "ünï/cödé", "new\nline", "-dash", "quo\"te'"].iter().enumerate()
    {
        let repo = harness.repo(name, 3);
        harness.write(&repo.join("file with\nnewline"), "x\n");
        harness.commit(&repo, "odd name");
        let id = format!("e{n}");
        let path = harness.new_env(&id, &repo, &[]);
        assert!(path.join("file with\nnewline").exists(), "{name:?}");
        assert_eq!(harness.git(&path, &["status", "--porcelain"]), "");
        harness.check(&[&repo]);
        harness.ok(&["rm", &id]);
        harness.check(&[&repo]);
    }
}

#[test]
fn non_repositories_are_refused_without_trace() {
    let harness = Harness::new();
    let empty = harness.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    assert_eq!(code_of(&harness, "a", &empty, &[]), (1, "not_git_repo".into()));
    harness.git(&empty, &["init", "-q"]);
    assert_eq!(code_of(&harness, "b", &empty, &[]), (1, "no_commits".into()));
    let (exit, code) = code_of(&harness, "c", &harness.path("missing"), &[]);
    assert_eq!((exit, code.as_str()), (3, "path_not_found"));
    let file = harness.path("file");
    harness.write(&file, "");
    assert_eq!(code_of(&harness, "d", &file, &[]), (1, "not_git_repo".into()));
    for bad in ["../x", "a:b", ".", "a b"] {
        let (exit, _) = code_of(&harness, bad, &empty, &[]);
        assert_eq!(exit, 64, "{bad:?}");
    }
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(1), "only b has a record");
    harness.check(&[&empty]);
}
