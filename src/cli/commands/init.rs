//! `init` prints the shell function `gk`, with completions for it and for `groundskeeper`; `cd`
//! names the directory of an environment. Neither changes a file.

use std::process::ExitCode;

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use hyper::Method;

use crate::api::types::EnvironmentView;
use crate::cli::args::{Global, Shell};
use crate::cli::client::Client;
use crate::cli::named;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::{render, shell};
use crate::core::{Code, Fault};

/// Variable that asks for completions instead of a command.
pub(in crate::cli) const COMPLETE: &str = "COMPLETE";

/// The function for bash and zsh. The program writes the directory to go to into a file. In a
/// subshell, which goes nowhere, it prints it.
const POSIX: &str = r#"gk() {
    if [ "${BASH_SUBSHELL:-${ZSH_SUBSHELL:-0}}" -gt 0 ]; then
        command groundskeeper "$@"
        return
    fi
    local file code=0 directory
    file=$(mktemp) || return
    GROUNDSKEEPER_CD_FILE=$file command groundskeeper "$@" || code=$?
    directory=$(cat "$file")
    rm -f "$file"
    if [ -n "$directory" ]; then
        cd -- "$directory" || return
    fi
    return $code
}
"#;

/// The same for fish.
const FISH: &str = r#"function gk --description 'groundskeeper, and change directory with it'
    if status is-command-substitution
        command groundskeeper $argv
        return
    end
    set -l file (mktemp); or return
    GROUNDSKEEPER_CD_FILE=$file command groundskeeper $argv
    set -l code $status
    set -l directory (cat $file | string collect)
    rm -f $file
    if test -n "$directory"
        cd -- $directory; or return
    end
    return $code
end
"#;

/// The same for nu, from version 0.108 on. Its own commands fail while the directory that it
/// stands in does not exist.
const NU: &str = r#"@complete "nu-complete groundskeeper"
def --env --wrapped gk [...arguments] {
    let file = (mktemp)
    let code = (try {
        with-env { GROUNDSKEEPER_CD_FILE: $file } { ^groundskeeper ...$arguments }
        0
    } catch {|failed| $failed.exit_code? | default 1 })
    let here = $env.PWD
    cd /
    let directory = (open --raw $file)
    rm $file
    if ($directory | is-not-empty) { cd $directory } else if ($here | path exists) { cd $here }
    if $code != 0 { ^sh -c $"exit ($code)" }
}
"#;

/// The completions for nu, which clap has only as a static list. They are asked for as fish does:
/// each in a line, with a description after a tab.
const NU_COMPLETIONS: &str = r#"def "nu-complete groundskeeper" [words: list<string>] {
    with-env { COMPLETE: fish } { ^groundskeeper -- ...$words }
    | lines
    | each {|line|
        let parts = ($line | split row "\t")
        { value: $parts.0, description: ($parts.1? | default "") }
    }
}
@complete "nu-complete groundskeeper"
extern groundskeeper [...arguments]
"#;

#[expect(clippy::unnecessary_wraps, reason = "every verb ends with it")]
pub(in crate::cli) fn init(wanted: Shell) -> CommandResult {
    let function = match wanted {
        Shell::Bash | Shell::Zsh => POSIX,
        Shell::Fish => FISH,
        Shell::Nu => NU,
    };
    let registered = |command| registration(wanted, command);
    let text = match wanted {
        // It knows no function before its definition.
        Shell::Nu => format!("{}{function}", registered("groundskeeper")),
        _ => format!("{function}{}{}", registered("groundskeeper"), registered("gk")),
    };
    render::out(&text);
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::unnecessary_wraps, reason = "every verb ends with it")]
pub(in crate::cli) fn completions(wanted: Shell) -> CommandResult {
    render::out(&registration(wanted, "groundskeeper"));
    Ok(ExitCode::SUCCESS)
}

/// Returns the script that has a shell ask this program for the completions of a command.
fn registration(wanted: Shell, command: &str) -> String {
    let completer: &dyn EnvCompleter = match wanted {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Nu => return NU_COMPLETIONS.to_owned(),
    };
    let mut text = Vec::new();
    drop(completer.write_registration(COMPLETE, command, command, "groundskeeper", &mut text));
    // With this option bash offers files where there is no id.
    let text = String::from_utf8_lossy(&text).replace(" -o bashdefault", "");
    match wanted {
        // Without compinit zsh has no completions, and no such function.
        Shell::Zsh => format!("if (( $+functions[compdef] )); then\n{text}\nfi\n"),
        _ => text,
    }
}

pub(in crate::cli) async fn cd(global: &Global, id: Option<&str>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = named::any(&mut client, id).await?;
    let path = format!("/v1/environments/{}", encode(&id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    if found.missing {
        let message = format!("the directory of {id} does not exist");
        let hint = format!("`groundskeeper show {id}` tells where it was");
        return Err(Fault::new(Code::PathNotFound, message, hint).into());
    }
    if global.json {
        return show_one(global, &serde_json::json!({ "id": id, "path": found.path }), "");
    }
    shell::print_or_go(global, &found.path);
    Ok(ExitCode::SUCCESS)
}
