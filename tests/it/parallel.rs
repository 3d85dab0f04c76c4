//! Many concurrent environments in one repository, beside other programs that use it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::Harness;

/// Another program that prunes and lists worktrees is not disturbed either.
#[test]
fn parallel_environments_do_not_interfere() {
    let harness = Harness::new();
    let repo = harness.repo("project", 20);
    harness.ok(&["ls"]);
    let (over, listed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                harness.git(&repo, &["worktree", "list", "--porcelain"]);
                harness.git(&repo, &["worktree", "prune"]);
                harness.git(&repo, &["for-each-ref"]);
                listed.fetch_add(1, Ordering::Relaxed);
            }
        });
        let makers: Vec<_> = (0..32)
            .map(|n| {
                let (harness, repo) = (&harness, &repo);
                scope.spawn(move || harness.new_env(&format!("e{n}"), repo, &[]))
            })
            .collect();
        for maker in makers {
            maker.join().expect("made");
        }
        let removers: Vec<_> = (0..16)
            .map(|n| {
                let harness = &harness;
                scope.spawn(move || harness.ok(&["rm", &format!("e{n}")]))
            })
            .collect();
        for remover in removers {
            remover.join().expect("removed");
        }
        over.store(true, Ordering::Relaxed);
        bystander.join().expect("the bystander does not fail");
    });
    assert!(listed.into_inner() > 0);
    harness.drain();
    assert_eq!(harness.ok(&["ls"]).as_array().map(Vec::len), Some(16));
    let config = std::fs::read_to_string(repo.join(".git/config")).expect("read");
    assert!(!config.contains("gk"), "the shared configuration is never written");
    harness.check(&[&repo]);
}

#[test]
fn failed_provision_stops_no_other() {
    let harness = Harness::new();
    let good = harness.repo("good", 3);
    let bad = harness.repo("bad", 3);
    harness.hook(&bad, "#!/bin/sh\nexit 3\n");
    harness.ok(&["trust", "--repo", bad.to_str().expect("text")]);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (harness, good, bad) = (&harness, &good, &bad);
            scope.spawn(move || harness.new_env(&format!("g{n}"), good, &[]));
            scope.spawn(move || {
                let id = format!("b{n}");
                let (code, error) =
                    harness.refused(&["new", &id, "--repo", bad.to_str().expect("text")]);
                assert_eq!((code, error["code"].as_str()), (2, Some("hook_failed")), "{error:#}");
            });
        }
    });
    harness.check(&[&good, &bad]);
}
