//! The torture proves something only if each of its checks can fail: every promise is broken once,
//! and every check has to see it. A few quick histories show that it is green otherwise.

use std::process::Command;

fn torture(args: &[&str]) -> (Option<i32>, String) {
    let place = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    let output = command.args(args).arg("--place").arg(place.path()).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_check_fails_on_broken_promise() {
    let (code, said) = torture(&["--self-test"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches(" red ").count(), 28, "{said}");
}

#[test]
fn invalid_arguments_are_named() {
    for (args, word) in [
        (["--only", "kil"], "kil is no kind of fault"),
        (["--point", "add.nothing"], "add.nothing is no point"),
        (["--program", "/nowhere"], "/nowhere"),
    ] {
        let (code, said) = torture(&args);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(word) && said.contains("hint: "), "{said}");
    }
}
