//! Values that sample events are built from: ids, actor, fault, plan, worktree.

use groundskeeper_core::event::{
    Actor, CheckoutMethod, NestedRescue, Origin, Plan, RawCopies, Repository, Rescue, Worktree,
};
use groundskeeper_core::{Code, EnvironmentId, Fault, HostPath, Nonce};

pub(crate) fn env() -> EnvironmentId {
    EnvironmentId::parse("demo").expect("an id")
}

pub(crate) fn actor() -> Actor {
    Actor { origin: Origin::Api, uid: 1000, pid: 4242 }
}

pub(crate) fn fault() -> Fault {
    Fault::new(Code::HookFailed, "the setup hook ended with exit code 3", "read the transcript")
        .because("exit status: 3")
        .with_evidence(["npm ERR!".to_owned()])
        .transient()
}

pub(crate) fn plan() -> Plan {
    Plan {
        repository: Repository {
            common_dir: HostPath(b"/home/u/project/.git".to_vec()),
            source: Some(HostPath(b"/home/u/pro\xffject".to_vec())),
            name: "project".into(),
            object_format: "sha1".into(),
        },
        path: "/home/u/.local/share/groundskeeper/worktrees/demo/project".into(),
        base: Some("v1.0".into()),
        branch: "gk/demo".into(),
        reuse_branch: false,
        fetch: true,
        fetch_limit_ms: 30_000,
        keep_failed: true,
        setup_path: Some(".groundskeeper/setup".into()),
        setup_limit_ms: 900_000,
    }
}

pub(crate) fn worktree() -> Worktree {
    Worktree {
        admin_dir: "/home/u/project/.git/worktrees/gk-demo-1".into(),
        device: 64_769,
        inode: 1_234_567,
        checkout: CheckoutMethod::Git,
        checkout_reason: Some("attribute filter".into()),
        files: 60,
        racy: true,
        has_include: true,
        has_setup: true,
    }
}

pub(crate) fn commit() -> String {
    "0123456789012345678901234567890123456789".into()
}

pub(crate) fn nonce() -> Nonce {
    Nonce::parse("0123456789abcdef0123456789abcdef").expect("a nonce")
}

pub(crate) fn rescue() -> Rescue {
    Rescue {
        reference: Some("refs/groundskeeper/rescue/demo/2".into()),
        commit: Some(commit()),
        holds: vec!["3 untracked files".into()],
        lacks: vec!["nested: a repository of its own".into()],
        raw: Some(RawCopies {
            folder: "/data/rescue/demo.2".into(),
            files: 3,
            bytes: 4_096,
            digest: "cd".repeat(32),
        }),
        nested: vec![NestedRescue {
            path: HostPath(b"vendor/\xffdep".to_vec()),
            reference: Some("refs/groundskeeper/rescue/demo/2.nested.1".into()),
            commit: Some(commit()),
            head: Some(commit()),
        }],
    }
}
