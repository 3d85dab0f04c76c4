//! `new`: creates an environment and shows its steps as they happen.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use hyper::Method;

use crate::api::types::{EnvironmentView, NewEnvironment, Problem};
use crate::cli::args::{Global, New};
use crate::cli::client::{self, Client};
use crate::cli::commands::exec;
use crate::cli::error::CliError;
use crate::cli::event_stream::{ACCEPT, EventStream};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{CommandResult, NOTHING, WAIT_SECONDS, encode, show_one};
use crate::cli::{completion, named, render, shell, tracking};
use crate::core::{Code, Fault};
use crate::format::count as plural;
use crate::world::fs::paths;

/// Most numbers that are tried after an id that is taken.
const FREE_IDS_TRIED: u32 = 20;

pub(in crate::cli) async fn new(global: &Global, wanted: New) -> CommandResult {
    let repo = wanted.repo.canonicalize().map_err(|e| paths::fault("find", &wanted.repo, &e))?;
    let repo = repo.into_os_string().into_string().map_err(|path| {
        let message = format!("the path {} is not UTF-8", Path::new(&path).display());
        Fault::new(Code::InvalidRequest, message, "rename the directory to a UTF-8 name")
    })?;
    let branch = match &wanted.branch {
        Some(branch) if is_branch_name(branch) => {
            Some(tracking::local_branch(global, &wanted.repo, branch)?)
        }
        other => other.clone(),
    };
    let (id, named) = wanted.id.as_deref().map_or((None, None), id_and_branch);
    let base = wanted.base.clone();
    let exec =
        wanted.exec.map(|program| std::iter::once(program).chain(wanted.arguments).collect());
    let program = Program { open: wanted.open, exec };
    program.check(global)?;
    let body = NewEnvironment {
        id,
        repo,
        base: wanted.base,
        new_branch: wanted.new_branch.or(named.filter(|_| branch.is_none())),
        branch,
        fetch: wanted.fetch,
        keep_failed: wanted.keep_failed,
        no_setup: wanted.no_setup,
        // `git worktree add` would obey this variable of the caller; the daemon does not have it.
        attributes: std::env::var("GIT_ATTR_SOURCE").ok().filter(|tree| !tree.is_empty()),
    };
    let mut client = Client::connect(global).await?;
    let made = client.call(Method::POST, "/v1/environments", Some(&body)).await;
    let mut found: EnvironmentView = match made {
        Ok(found) => found,
        Err(refused) => return Err(with_free_id(&mut client, refused, &body).await),
    };
    if found.phase == "provisioning" {
        let steps = render::Steps::new(global.quiet || global.json);
        let id = &found.id;
        let interrupt = Interrupt::told(format!(
            "{id}: the provision goes on; `groundskeeper cancel {id}` stops it"
        ));
        let followed = follow_provision(&mut client, &found, &steps).await;
        steps.finish();
        followed?;
        // The event stream may end early. The same request again joins the first one; usually the
        // provision has ended and there is nothing left to wait for.
        let again = NewEnvironment { id: Some(found.id.clone()), ..body };
        found = wait_for_end(global, &found, &again).await?;
        drop(interrupt);
    }
    match (&found.error, found.phase.as_str()) {
        (Some(problem), "failed") => {
            Err(with_near_base(problem.clone(), base.as_deref(), &wanted.repo))
        }
        (_, "provisioning") => {
            let message = format!("the daemon stopped before {} was ready", found.id);
            let hint =
                "run the same command again to wait for it; it continues after the next start";
            Err(Fault::new(Code::ShuttingDown, message, hint).into())
        }
        _ => ready(global, &found, &program).await,
    }
}

/// Adds the branches and tags that a misspelt base is near to.
fn with_near_base(mut problem: Problem, base: Option<&str>, repo: &Path) -> CliError {
    if let Some(base) = base.filter(|_| problem.code == Code::BaseNotFound.as_str()) {
        let known = completion::refs(repo, &["refs/heads", "refs/remotes", "refs/tags"]);
        let near = named::nearest(base, known.iter().map(String::as_str));
        if !near.is_empty() {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            problem.hint = format!("did you mean {}? --fetch updates them", near.join(" or "));
        }
    }
    CliError(Box::new(problem))
}

/// What to start in an environment that is ready.
struct Program {
    open: Option<OsString>,
    exec: Option<Vec<OsString>>,
}

impl Program {
    /// Checks that what the program prints would not follow JSON on the same stream.
    fn check(&self, global: &Global) -> Result<(), Fault> {
        if !global.json || (self.open.is_none() && self.exec.is_none()) {
            return Ok(());
        }
        let message = "a program that is started prints to stdout, and so does --json";
        let hint = "leave out --json, or run the program when the environment is ready";
        Err(Fault::new(Code::InvalidRequest, message, hint))
    }
}

/// Shows an environment that is ready, and starts what was asked for.
async fn ready(global: &Global, env: &EnvironmentView, program: &Program) -> CommandResult {
    if global.json {
        show_one(global, env, "")?;
    } else {
        if !global.quiet {
            let from = env.base_ref.as_deref().map(|from| format!(" from {from}"));
            let from = from.unwrap_or_default();
            render::note(&format!("{} is ready: branch {}{from}", env.id, env.branch));
        }
        shell::print_or_go(global, &env.path);
    }
    if let Some(command) = &program.exec {
        return exec::run(global, &env.id, command).await;
    }
    let Some(open) = &program.open else { return Ok(ExitCode::SUCCESS) };
    let mut command = std::process::Command::new(open);
    command.arg(&env.path).current_dir(&env.path).env_remove(shell::VARIABLE);
    let status = command.status().map_err(|e| {
        let message = format!("cannot start {}", open.display());
        let place = paths::as_argument(Path::new(&env.path));
        let hint = format!("{} is ready; it is in {place}", env.id);
        let is_gone = e.kind() == std::io::ErrorKind::NotFound;
        let code = if is_gone { Code::PathNotFound } else { Code::PermissionDenied };
        Fault::new(code, message, hint).because(e)
    })?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Returns whether git can be asked for a branch of this name: others are refused by the daemon.
fn is_branch_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && !name.contains(['*', '?', '[', '\0'])
}

/// Returns the id that a name stands for, and the branch that it names: people name environments
/// like branches, and an id has no slash.
fn id_and_branch(name: &str) -> (Option<String>, Option<String>) {
    let branch = name.contains('/').then(|| name.to_owned());
    (Some(name.replace('/', "-")), branch)
}

/// Adds a free id to the hint, where an id is taken by another environment.
async fn with_free_id(
    client: &mut Client,
    mut refused: CliError,
    wanted: &NewEnvironment,
) -> CliError {
    let taken = refused.0.code == Code::EnvironmentExists.as_str();
    let Some(id) = wanted.id.as_deref().filter(|_| taken) else { return refused };
    for number in 2..=FREE_IDS_TRIED {
        let free = format!("{id}-{number}");
        let path = format!("/v1/environments/{}?all=true", encode(&free));
        let found: Result<EnvironmentView, CliError> =
            client.call(Method::GET, &path, NOTHING).await;
        let Err(CliError(problem)) = found else { continue };
        if problem.code == Code::EnvironmentNotFound.as_str() {
            let more = |flag: &str, value: &Option<String>, end: &str| {
                let word = |value: &String| paths::as_argument(Path::new(&format!("{value}{end}")));
                value.as_ref().map(|value| format!(" {flag} {}", word(value))).unwrap_or_default()
            };
            let repo = more("--repo", &Some(wanted.repo.clone()), "");
            let base = more("--base", &wanted.base, "");
            // The branch of the same name may be in use, too.
            let branch = more("-b", &wanted.new_branch, &format!("-{number}"));
            let command = format!("groundskeeper new {free}{repo}{base}{branch}");
            refused.0.hint = format!("run `{command}`, or `groundskeeper rm {id}` first");
            return refused;
        }
    }
    refused
}

pub(in crate::cli) async fn wait_for_end(
    global: &Global,
    env: &EnvironmentView,
    again: &NewEnvironment,
) -> Result<EnvironmentView, CliError> {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}", encode(&env.id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    if found.phase != "provisioning" || found.incarnation != env.incarnation {
        return Ok(found);
    }
    let path = format!("/v1/environments?wait={WAIT_SECONDS}");
    client.call(Method::POST, &path, Some(again)).await
}

/// Shows the steps of a provision until it has ended in success or failure.
pub(in crate::cli) async fn follow_provision(
    client: &mut Client,
    env: &EnvironmentView,
    steps: &render::Steps,
) -> Result<(), CliError> {
    let path = format!("/v1/events?environment={}&since={}", encode(&env.id), env.seq);
    let answer = client.send(Method::GET, &path, &ACCEPT, None).await?;
    if !answer.status().is_success() {
        // The limit of open streams is reached. The environment is created all the same.
        drop(client::read(answer).await);
        steps.step("waiting");
        return Ok(());
    }
    let mut events = EventStream::of(answer);
    while let Some(event) = events.next().await.map_err(|e| broken(&env.id, &e))? {
        if show_step(steps, &event) {
            break;
        }
    }
    Ok(())
}

fn broken(id: &str, error: &hyper::Error) -> Fault {
    let hint =
        format!("check with `groundskeeper show {id}`; it continues after the daemon's next start");
    Fault::new(Code::DaemonUnreachable, "the connection to the daemon broke", hint).caused_by(error)
}

/// Shows one event. Returns true if the provision has ended.
pub(in crate::cli) fn show_step(steps: &render::Steps, json: &serde_json::Value) -> bool {
    if let Some(line) = json.get("line").and_then(|l| l.as_str()) {
        steps.output(line);
        return false;
    }
    let at = |path: &str| json.pointer(path).and_then(|v| v.as_str()).unwrap_or_default();
    let count = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0);
    match at("/kind") {
        "BaseResolved" => {
            let commit = at("/base/commit");
            let short = commit.get(..10).unwrap_or(commit);
            let behind = count("/base/behind");
            let behind =
                if behind > 0 { format!(", {behind} behind its upstream") } else { String::new() };
            steps.step(&format!("base {} {short}{behind}", at("/base/reference")));
            if at("/base/fetch").starts_with("not") {
                steps.step(&format!("fetch {}", at("/base/fetch")));
            }
        }
        "WorktreeAdded" => {
            steps.step(&format!(
                "{} checked out",
                plural(count("/worktree/files"), "file", "files")
            ));
        }
        "FilesIncluded" => {
            let copied = plural(count("/included/files"), "ignored file", "ignored files");
            steps.step(&format!("{copied} copied"));
            for skipped in
                json.pointer("/included/skipped").and_then(|s| s.as_array()).into_iter().flatten()
            {
                steps.step(&format!("skipped {}", skipped.as_str().unwrap_or_default()));
            }
        }
        "SetupStarted" => steps.step("running the setup hook"),
        "SetupFinished" => steps.step("setup hook finished"),
        "AttemptFailed" => steps.step(&format!("retrying after: {}", at("/fault/message"))),
        "ProvisionFailed" => {
            steps.step(&format!("failed: {}", at("/fault/message")));
            return json.get("kept").and_then(serde_json::Value::as_bool).unwrap_or(false);
        }
        "CancelRequested" | "DestroyRequested" => steps.step("rolling back"),
        "EnvironmentReady" | "RolledBack" | "Tombstoned" => return true,
        _ => {}
    }
    false
}
