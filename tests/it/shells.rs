//! The shell function and the completions, in real shells. A shell that is not installed is named.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Harness;

/// Runs a script in a shell that has read what `init` prints; returns what it printed, or none
/// where the shell is not installed.
fn run(harness: &Harness, shell: &str, place: &Path, script: &str) -> Option<String> {
    let found = Command::new(shell).arg("-c").arg("exit").stdin(Stdio::null()).status();
    if found.is_err() {
        eprintln!("{shell} is not installed; its function and completions are not tried");
        return None;
    }
    let file = harness.path("init.nu");
    let begin = match shell {
        "nu" => {
            let printed = harness.command(&["init", "nu"]).output().expect("runs").stdout;
            std::fs::write(&file, printed).expect("written");
            &format!("source '{}'", file.display())
        }
        "fish" => "groundskeeper init fish | source",
        "zsh" => "autoload -U compinit; compinit -u; eval \"$(groundskeeper init zsh)\"",
        _ => "eval \"$(groundskeeper init bash)\"",
    };
    let program = harness.command(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().expect("a folder").to_owned();
    let paths = std::env::var("PATH").expect("a path");
    let mut command = Command::new(shell);
    // The settings of the harness, without its program.
    for (name, value) in harness.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", format!("{}:{paths}", folder.display()));
    command.env("GROUNDSKEEPER_HOME", harness.data()).env("PWD", place).current_dir(place);
    if shell == "nu" {
        command.arg("--no-config-file");
    }
    let output = command.args(["-c", &format!("{begin}\n{script}")]).output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shell}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn function_changes_directory() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for shell in ["bash", "zsh", "fish", "nu"] {
        let id = format!("in-{shell}");
        let pwd = if shell == "nu" { "print (pwd)" } else { "pwd" };
        let script = format!("gk new {id}; {pwd}; cd /; gk cd {id}; {pwd}; gk rm .; {pwd}");
        let Some(printed) = run(&harness, shell, &repo, &script) else { continue };
        let worktree = harness.data().join("worktrees").join(&id).join("project");
        let expected =
            [worktree.as_path(), &worktree, &repo].map(|path| path.display().to_string());
        assert_eq!(printed, expected.join("\n"), "{shell}");
    }
    harness.check(&[&repo]);
}

#[test]
fn function_keeps_exit_code_and_output() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    for (shell, code) in [("bash", "$?"), ("zsh", "$?"), ("fish", "$status")] {
        let script = format!("gk show nowhere; echo code {code}; gk ls --json; gk cd nowhere; pwd");
        let Some(printed) = run(&harness, shell, &repo, &script) else { continue };
        assert_eq!(printed, format!("code 3\n[]\n{}", repo.display()), "{shell}");
    }
    let script = "try { gk show nowhere }; print $'code ($env.LAST_EXIT_CODE)'; gk ls --json; \
                  try { gk cd nowhere }; print (pwd); exit 0";
    if let Some(printed) = run(&harness, "nu", &repo, script) {
        assert_eq!(printed, format!("code 3\n[]\n{}", repo.display()), "nu");
    }
}

#[test]
fn ids_branches_and_values_are_completed_and_files_are_not() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    harness.git(&repo, &["branch", "feature-x"]);
    harness.new_env("demo-one", &repo, &[]);
    harness.new_env("demo-two", &repo, &[]);
    harness.write(&repo.join("demo-file"), "not an id\n");
    for (line, expected) in [
        ("groundskeeper show demo", "demo-one demo-two"),
        ("gk rm demo-t", "demo-two"),
        ("groundskeeper show zzz", ""),
        ("groundskeeper new --base feat", "feature-x"),
        ("groundskeeper rm demo-one --branch de", "delete delete-if-merged"),
        ("gk resto", "restore"),
        ("gk rm demo-one --forc", "--force"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (command, last) = (words[0], words.len() - 1);
        let script = format!(
            "COMP_WORDS=({line}); COMP_CWORD={last}; COMP_TYPE=9
             _clap_complete_{command} {command} {} {}
             printf '%s\\n' \"${{COMPREPLY[@]}}\" | sort | xargs",
            words[last],
            words[last - 1],
        );
        let printed = run(&harness, "bash", &repo, &script).expect("bash is installed");
        assert_eq!(printed, expected, "{line}");
        if let Some(values) = offered_by_nu(&harness, &repo, line) {
            assert_eq!(values, expected, "nu: {line}");
        }
        if let Some(printed) = run(&harness, "fish", &repo, &format!("complete -C '{line}'")) {
            let values = printed.lines().filter_map(|line| line.split('\t').next());
            let mut values: Vec<&str> = values.collect();
            values.sort_unstable();
            assert_eq!(values.join(" "), expected, "fish: {line}");
        }
    }
}

/// Returns what nu offers at the end of a line, sorted; none where it is not installed.
fn offered_by_nu(harness: &Harness, place: &Path, line: &str) -> Option<String> {
    let file = harness.path("typed.nu");
    let init = harness.command(&["init", "nu"]).output().expect("runs").stdout;
    let typed = [&init, line.as_bytes()].concat();
    std::fs::write(&file, &typed).expect("written");
    let ask = format!("nu --no-config-file --ide-complete {} '{}'", typed.len(), file.display());
    let printed = run(harness, "nu", place, &ask)?;
    let found: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let all = found["completions"].as_array().expect("a list").iter();
    let mut values: Vec<&str> = all.filter_map(serde_json::Value::as_str).collect();
    values.sort_unstable();
    Some(values.join(" "))
}

#[test]
fn program_runs_in_new_environment() {
    let harness = Harness::new();
    let repo = harness.repo("project", 3);
    let repo = repo.to_str().expect("text");
    let run = |args: &[&str]| {
        let output = harness.command(args).output().expect("runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), printed)
    };
    let place = |id: &str| harness.data().join("worktrees").join(id).join("project");
    let script = "pwd; echo \"$GROUNDSKEEPER_ENV\"; exit 7";
    let (code, printed) = run(&["new", "one", "--repo", repo, "-x", "sh", "--", "-c", script]);
    let one = place("one").display().to_string();
    assert_eq!((code, printed), (Some(7), format!("{one}\n{one}\none\n")));
    let (code, printed) = run(&["new", "two", "--repo", repo, "--open", "ls"]);
    assert_eq!(code, Some(0));
    assert!(printed.ends_with("README\n") || printed.contains("README"), "{printed}");
    assert_eq!(run(&["new", "three", "--repo", repo, "-x", "no-such-program"]).0, Some(127));
    assert!(place("three").exists(), "it is there all the same");
}
