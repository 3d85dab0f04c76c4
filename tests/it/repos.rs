//! All kinds of repositories and bases, and refusals that name the next step.

use std::path::Path;

use crate::support::Bench;

fn new_args<'a>(id: &'a str, repo: &'a Path) -> Vec<&'a str> {
    vec!["new", id, "--repo", repo.to_str().expect("text")]
}

fn code_of(bench: &Bench, id: &str, repo: &Path, more: &[&str]) -> (i32, String) {
    let mut args = new_args(id, repo);
    args.extend(more);
    let (exit, error) = bench.refused(&args);
    (exit, error["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn bases_resolve_like_git() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    let first = bench.git(&repo, &["rev-parse", "HEAD"]);
    bench.git(&repo, &["tag", "v1"]);
    bench.write(&repo.join("more"), "more\n");
    let second = bench.commit(&repo, "second");
    bench.git(&repo, &["switch", "-q", "-c", "feature"]);
    bench.write(&repo.join("feature"), "f\n");
    let third = bench.commit(&repo, "third");

    for (id, base, commit) in [
        ("default", None, &second),
        ("branch", Some("feature"), &third),
        ("tag", Some("v1"), &first),
        ("commit", Some(first.as_str()), &first),
        ("expression", Some("feature~2"), &first),
        ("head", Some("HEAD"), &third),
    ] {
        let more: Vec<&str> = base.map(|b| vec!["--base", b]).unwrap_or_default();
        let path = bench.new_env(id, &repo, &more);
        assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]), *commit, "{id}");
        assert_eq!(bench.ok(&["show", id])["base"], commit.as_str());
    }
    let refused = code_of(&bench, "x", &repo, &["--base", "no-such"]);
    assert_eq!(refused, (1, "base_not_found".into()));
    assert_eq!(bench.phase("x"), "failed");
    bench.new_env("x", &repo, &["--base", "v1"]);
    bench.check(&[&repo]);
}

/// The answer says how far the base is behind the remote.
#[test]
fn clone_base_is_remote_default() {
    let bench = Bench::new();
    let origin = bench.repo("origin", 3);
    bench.git(&origin, &["branch", "-m", "main", "trunk"]);
    bench.git(&bench.path("."), &["clone", "-q", "origin", "clone"]);
    let clone = bench.path("clone");
    bench.git(&clone, &["switch", "-q", "-c", "elsewhere"]);
    bench.write(&origin.join("new"), "1\n");
    bench.commit(&origin, "one");
    bench.write(&origin.join("new"), "2\n");
    let newest = bench.commit(&origin, "two");

    bench.new_env("stale", &clone, &[]);
    let stale = bench.ok(&["show", "stale"]);
    assert_eq!(
        (stale["base_ref"].as_str(), stale["behind"].as_u64()),
        (Some("refs/heads/trunk"), Some(0))
    );

    let path = bench.new_env("fresh", &clone, &["--fetch"]);
    let fresh = bench.ok(&["show", "fresh"]);
    assert_eq!(fresh["fetch"], "done");
    assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]), newest);

    bench.new_env("behind", &clone, &[]);
    assert_eq!(
        bench.ok(&["show", "behind"])["behind"],
        2,
        "local trunk is behind what was fetched"
    );

    bench.git(&origin, &["branch", "remote-only"]);
    bench.git(&clone, &["fetch", "-q"]);
    bench.new_env("remote", &clone, &["--base", "remote-only"]);
    assert_eq!(bench.ok(&["show", "remote"])["base_ref"], "refs/remotes/origin/remote-only");

    std::fs::rename(&origin, bench.path("offline")).expect("renamed");
    bench.new_env("offline", &clone, &["--fetch"]);
    let offline = bench.ok(&["show", "offline"]);
    assert!(offline["fetch"].as_str().is_some_and(|f| f.starts_with("not done")), "{offline:#}");
    bench.check(&[&clone]);
}

#[test]
fn existing_branch_is_never_reset() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.git(&repo, &["branch", "gk/demo"]);
    assert_eq!(code_of(&bench, "demo", &repo, &[]), (1, "branch_exists".into()));
    assert_eq!(
        bench.git(&repo, &["branch", "--list", "gk/demo"]).trim(),
        "gk/demo",
        "the branch stays"
    );

    bench.git(&repo, &["branch", "work"]);
    let path = bench.new_env("demo", &repo, &["--branch", "work"]);
    assert_eq!(bench.git(&path, &["branch", "--show-current"]), "work");
    assert_eq!(code_of(&bench, "b", &repo, &["--branch", "work"]), (1, "branch_exists".into()));
    assert_eq!(code_of(&bench, "c", &repo, &["--branch", "main"]), (1, "branch_exists".into()));
    assert_eq!(code_of(&bench, "d", &repo, &["--branch", "none"]), (1, "branch_not_found".into()));
    bench.ok(&["rm", "demo"]);
    assert_eq!(
        bench.git(&repo, &["branch", "--list", "work"]).trim(),
        "work",
        "not ours to delete"
    );
    bench.check(&[&repo]);
}

/// A branch `gk` prevents branches below `gk/`.
#[test]
fn branch_blocking_prefix_is_reported() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.git(&repo, &["branch", "gk"]);
    let mut args = new_args("demo", &repo);
    args.push("--no-setup");
    let (code, error) = bench.refused(&args);
    assert_eq!((code, error["code"].as_str()), (1, Some("branch_exists")), "{error:#}");
    bench.check(&[&repo]);
}

#[test]
fn bare_linked_and_submodule_repositories_work() {
    let bench = Bench::new();
    let repo = bench.repo("project", 3);
    bench.git(&bench.path("."), &["clone", "-q", "--bare", "project", "bare.git"]);
    let bare = bench.path("bare.git");
    let path = bench.new_env("bare", &bare, &[]);
    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("bare"));

    bench.git(&repo, &["worktree", "add", "-q", "../linked"]);
    let linked = bench.path("linked");
    let path = bench.new_env("linked", &linked, &[]);
    assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("project"));
    bench.new_env("inside", &linked.join("dir0"), &[]);

    let outer = bench.repo("outer", 3);
    bench.git(&outer, &["submodule", "--quiet", "add", "../project", "sub"]);
    bench.commit(&outer, "submodule");
    let path = bench.new_env("outer", &outer, &[]);
    assert_eq!(std::fs::read_dir(path.join("sub")).expect("a folder").count(), 0);
    bench.new_env("sub", &outer.join("sub"), &[]);

    for id in ["bare", "linked", "inside", "outer"] {
        bench.ok(&["rm", id]);
    }
    bench.check(&[&repo, &bare, &outer, &outer.join("sub")]);
}

#[test]
fn sha256_repositories_work() {
    let bench = Bench::new();
    let repo = bench.path("sha256");
    std::fs::create_dir(&repo).expect("a folder");
    bench.git(&repo, &["init", "-q", "--object-format=sha256"]);
    bench.commit_files(&repo, 450);
    let path = bench.new_env("demo", &repo, &[]);
    assert_eq!(bench.git(&path, &["rev-parse", "HEAD"]).len(), 64);
    assert_eq!(bench.ok(&["show", "demo"])["checkout"]["by"], "parallel");
    assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
    bench.git(&path, &["fsck"]);
    bench.check(&[&repo]);
}

#[test]
fn reftable_repositories_are_refused() {
    let bench = Bench::new();
    let repo = bench.path("reftable");
    std::fs::create_dir(&repo).expect("a folder");
    let made = bench.git_raw(&repo, &["init", "-q", "--ref-format=reftable"]);
    if !made.status.success() {
        return;
    }
    bench.commit_files(&repo, 3);
    assert_eq!(code_of(&bench, "demo", &repo, &[]), (1, "unsupported_repository".into()));
    bench.check(&[&repo]);
}

/// Covers blanks, Unicode, newlines, quotes and a leading dash.
#[test]
fn unusual_paths_are_supported() {
    let bench = Bench::new();
    for (n, name) in ["with blank", "ünï/cödé", "new\nline", "-dash", "quo\"te'"].iter().enumerate()
    {
        let repo = bench.repo(name, 3);
        bench.write(&repo.join("file with\nnewline"), "x\n");
        bench.commit(&repo, "odd name");
        let id = format!("e{n}");
        let path = bench.new_env(&id, &repo, &[]);
        assert!(path.join("file with\nnewline").exists(), "{name:?}");
        assert_eq!(bench.git(&path, &["status", "--porcelain"]), "");
        bench.check(&[&repo]);
        bench.ok(&["rm", &id]);
        bench.check(&[&repo]);
    }
}

#[test]
fn non_repositories_are_refused_without_trace() {
    let bench = Bench::new();
    let empty = bench.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    assert_eq!(code_of(&bench, "a", &empty, &[]), (1, "not_git_repo".into()));
    bench.git(&empty, &["init", "-q"]);
    assert_eq!(code_of(&bench, "b", &empty, &[]), (1, "no_commits".into()));
    let (exit, code) = code_of(&bench, "c", &bench.path("missing"), &[]);
    assert_eq!((exit, code.as_str()), (3, "path_not_found"));
    let file = bench.path("file");
    bench.write(&file, "");
    assert_eq!(code_of(&bench, "d", &file, &[]), (1, "not_git_repo".into()));
    for bad in ["../x", "a/b", ".", "a b"] {
        let (exit, _) = code_of(&bench, bad, &empty, &[]);
        assert_eq!(exit, 64, "{bad:?}");
    }
    assert_eq!(bench.ok(&["ls"]).as_array().map(Vec::len), Some(1), "only b has a record");
    bench.check(&[&empty]);
}
