//! The torture proves something only if each of its checks can fail: every promise is broken once,
//! and every check has to see it. A few quick histories show that it is green otherwise.

#![allow(clippy::expect_used, reason = "test code: a failed expectation ends the test")]

use std::process::Command;

fn torture(args: &[&str]) -> (Option<i32>, String) {
    let place = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    let output = command.args(args).arg("--place").arg(place.path()).output().expect("it runs");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn every_check_fails_on_broken_promise() {
    let (code, printed) = torture(&["--self-test"]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(printed.matches(" red ").count(), 28, "{printed}");
}

#[test]
fn invalid_arguments_are_named() {
    for (args, word) in [
        (["--only", "kil"], "kil is no kind of fault"),
        (["--point", "add.nothing"], "add.nothing is no point"),
        (["--program", "/nowhere"], "/nowhere"),
    ] {
        let (code, printed) = torture(&args);
        assert_eq!(code, Some(3), "{printed}");
        assert!(printed.contains(word) && printed.contains("hint: "), "{printed}");
    }
}
