//! One function per verb.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, Parser as _};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde::Serialize;
use serde_json::json;

use super::args::{Arguments, Global, New, Start, Verb};
use super::client::{self, Client, Failed};
use super::{doctor, exec, gc, inside, kept, live, migrate, render, server, status};
use crate::api::types::{
    EnvironmentView, LeaseView, NewEnvironment, NewLease, Problem, RemoveQuery, RemovedView,
    TrustRequest, TrustView,
};
use crate::core::{Class, Code, Fault};
use crate::daemon::run::Extra;
use crate::world::fs::paths;

pub(super) type Done = Result<ExitCode, Failed>;
pub(super) const NOTHING: Option<&()> = None;
/// Longest wait for an operation, in seconds: hooks may take long.
pub(super) const WAIT_SECONDS: u64 = 24 * 3_600;
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            drop(e.print());
            let usage = e.use_stderr();
            return if usage {
                ExitCode::from(Class::Usage.exit_code())
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let global = arguments.global.clone();
    match run(arguments) {
        Ok(code) => code,
        Err(Failed(problem)) => {
            if global.json {
                let Problem { code, message, causes, evidence, hint, .. } = problem.as_ref();
                print_json(&json!({ "error": {
                    "code": code, "message": message, "causes": causes,
                    "evidence": evidence, "hint": hint,
                }}));
            } else {
                render::problem(&problem);
            }
            ExitCode::from(exit_code(&problem.code))
        }
    }
}

fn exit_code(code: &str) -> u8 {
    let known = Code::ALL.iter().find(|c| c.as_str() == code);
    known.map_or(Class::Fault, |c| c.class()).exit_code()
}

pub(super) fn print_json(value: &impl Serialize) {
    render::out(&format!("{}\n", serde_json::to_string(value).unwrap_or_default()));
}

fn run(arguments: Arguments) -> Done {
    let global = &arguments.global;
    match arguments.verb {
        Verb::Daemon { detach, how } => return daemon(global, detach, &how),
        Verb::Server(wanted) => return server::server(global, &wanted),
        Verb::Up(wanted) => return server::up(global, &wanted),
        Verb::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "groundskeeper", &mut out);
            render::out(&String::from_utf8_lossy(&out));
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Man => {
            let mut out = Vec::new();
            drop(clap_mangen::Man::new(Arguments::command()).render(&mut out));
            render::out(&String::from_utf8_lossy(&out));
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Fault::new(Code::Io, "cannot start the runtime", "see the cause").because(e)
    })?;
    runtime.block_on(ask(global, arguments.verb))
}

async fn ask(global: &Global, verb: Verb) -> Done {
    match verb {
        Verb::New(wanted) => new(global, wanted).await,
        Verb::Ls { all } => ls(global, all).await,
        Verb::Show { id } => show(global, &id).await,
        Verb::Status { id, watch: true } => status::watch(global, id.as_deref()).await,
        Verb::Status { id, .. } => status::status(global, id.as_deref()).await,
        Verb::Diff { id, head, bytes } => status::diff(global, &id, head, bytes).await,
        Verb::Rm { id, dry_run: true, .. } => inside::evidence(global, &id).await,
        Verb::Rm { id, force, branch, no_teardown, end_bystanders, no_rescue, .. } => {
            let wait = Some(WAIT_SECONDS);
            let how = RemoveQuery {
                force,
                branch,
                no_teardown,
                end_bystanders,
                no_rescue,
                wait,
                ..RemoveQuery::default()
            };
            rm(global, &id, &how).await
        }
        Verb::Restore { id, incarnation } => kept::restore(global, &id, incarnation).await,
        Verb::Exec { id, command } => exec::run(global, &id, &command).await,
        Verb::Ps { id } => inside::ps(global, &id).await,
        Verb::Adopt { path, id } => inside::adopt(global, &path, id).await,
        Verb::Trash(what) => kept::trash(global, what).await,
        Verb::Rescue(what) => kept::rescue(global, what).await,
        Verb::Sweep { apply, limit, .. } => kept::sweep(global, apply, limit).await,
        Verb::Gc(which) => gc::run(global, &which).await,
        Verb::Df => inside::df(global).await,
        Verb::Host { what, server_dir } => server::host(global, what, server_dir.as_deref()).await,
        Verb::Reconcile { confirm: Some(epoch), .. } => live::confirm(global, epoch).await,
        Verb::Reconcile { live, epoch, .. } => {
            live::reconcile(global, live, epoch.unwrap_or(0)).await
        }
        Verb::Migrate(what) => migrate::run(global, what).await,
        Verb::Clean { id, undo: true, .. } => inside::undo_clean(global, &id).await,
        Verb::Clean { id, now, .. } => inside::clean(global, &id, now).await,
        Verb::Cancel { id } => {
            let mut client = Client::connect(global).await?;
            let path = format!("/v1/environments/{}/cancel", encode(&id));
            let found: EnvironmentView = client.call(Method::POST, &path, NOTHING).await?;
            show_one(global, &found, &format!("{} is being cancelled\n", found.id))
        }
        Verb::Lease { id, duration, purpose, lease } => {
            let mut client = Client::connect(global).await?;
            let path = format!("/v1/environments/{}/leases", encode(&id));
            let wanted = NewLease { seconds: duration, purpose, id: lease };
            let granted: LeaseView = client.call(Method::POST, &path, Some(&wanted)).await?;
            show_one(global, &granted, &format!("{}\n", granted.id))
        }
        Verb::Release { lease } => {
            let mut client = Client::connect(global).await?;
            let path = format!("/v1/leases/{}", encode(&lease));
            let _: Option<()> = client.call(Method::DELETE, &path, NOTHING).await?;
            show_one(global, &json!({ "id": lease, "released": true }), "")
        }
        Verb::Events { since, follow, env } => events(global, since, follow, env).await,
        Verb::Trust { repo, hash, show, revoke } => trust(global, &repo, hash, show, revoke).await,
        Verb::Stop => stop(global).await,
        Verb::Doctor => Ok(doctor::run(global).await),
        // These ran before there was a runtime.
        Verb::Daemon { .. }
        | Verb::Server(_)
        | Verb::Up(_)
        | Verb::Completions { .. }
        | Verb::Man => Ok(ExitCode::SUCCESS),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every verb ends with it")]
pub(super) fn show_one(global: &Global, value: &impl Serialize, text: &str) -> Done {
    if global.json {
        print_json(value);
    } else {
        render::out(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn daemon(global: &Global, detach: bool, how: &Start) -> Done {
    if detach {
        // Fails only for the leader of a process group, which needs no new session.
        let _led = rustix::process::setsid();
    }
    log_to_stderr(global);
    let extra = Extra {
        databases: migrate::at_start(how)?,
        ready: how.ready_format,
        listen: how.listen,
        ..Extra::default()
    };
    crate::daemon::run::run(client::layout(global)?.root(), extra)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn log_to_stderr(global: &Global) {
    let default = ["groundskeeper=info", "groundskeeper=debug", "debug"];
    let level = default[usize::from(global.verbose).min(2)];
    let filter = tracing_subscriber::EnvFilter::try_from_env("GROUNDSKEEPER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

async fn new(global: &Global, wanted: New) -> Done {
    let repo = wanted.repo.canonicalize().map_err(|e| paths::fault("find", &wanted.repo, &e))?;
    let repo = repo.into_os_string().into_string().map_err(|path| {
        let message = format!("{} is not UTF-8", Path::new(&path).display());
        Fault::new(Code::InvalidRequest, message, "name the repository by another path")
    })?;
    let body = NewEnvironment {
        id: wanted.id,
        repo,
        base: wanted.base,
        branch: wanted.branch,
        fetch: wanted.fetch,
        keep_failed: wanted.keep_failed,
        no_setup: wanted.no_setup,
        // git's own `worktree add` would heed it, here and now.
        attributes: std::env::var("GIT_ATTR_SOURCE").ok().filter(|tree| !tree.is_empty()),
    };
    let mut client = Client::connect(global).await?;
    let mut found: EnvironmentView =
        client.call(Method::POST, "/v1/environments", Some(&body)).await?;
    if found.phase == "provisioning" {
        let steps = render::Steps::new(global.quiet || global.json);
        let followed = follow_provision(&mut client, &found, &steps).await;
        steps.finish();
        followed?;
        // The same request again joins the first; normally there is nothing left to wait for.
        let again = NewEnvironment { id: Some(found.id.clone()), ..body };
        found = wait_for_end(global, &found, &again).await?;
    }
    match (&found.error, found.phase.as_str()) {
        (Some(problem), "failed") => Err(Failed(Box::new(problem.clone()))),
        (_, "provisioning") => {
            let message = format!("the daemon stopped before {} was ready", found.id);
            let hint = "it goes on after the next start; run the same command again to wait for it";
            Err(Fault::new(Code::ShuttingDown, message, hint).into())
        }
        _ => show_one(global, &found, &format!("{}\n", render::printable(&found.path))),
    }
}

async fn wait_for_end(
    global: &Global,
    env: &EnvironmentView,
    again: &NewEnvironment,
) -> Result<EnvironmentView, Failed> {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}", encode(&env.id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    if found.phase != "provisioning" || found.incarnation != env.incarnation {
        return Ok(found);
    }
    let path = format!("/v1/environments?wait={WAIT_SECONDS}");
    client.call(Method::POST, &path, Some(again)).await
}

/// Shows the steps of a provision until it is over, one way or the other.
async fn follow_provision(
    client: &mut Client,
    env: &EnvironmentView,
    steps: &render::Steps,
) -> Result<(), Failed> {
    let path = format!("/v1/events?environment={}&since={}", encode(&env.id), env.seq);
    let accept = [("accept", "text/event-stream")];
    let answer = client.send(Method::GET, &path, &accept, None).await?;
    if !answer.status().is_success() {
        // No room to watch; the environment is made all the same.
        drop(client::read(answer).await);
        steps.step("waiting");
        return Ok(());
    }
    let mut body = answer.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            let hint =
                "the daemon finishes it after its next start; look with `groundskeeper show`";
            Fault::new(Code::DaemonUnreachable, "the connection to the daemon broke", hint)
                .caused_by(&e)
        })?;
        text.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |d| d)));
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let data = event.lines().find_map(|l| l.strip_prefix("data: ")).unwrap_or("null");
            let json: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
            if show_step(steps, &json) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Shows one event; true when the provision is over.
fn show_step(steps: &render::Steps, json: &serde_json::Value) -> bool {
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
        "WorktreeAdded" => steps.step(&format!("{} files checked out", count("/worktree/files"))),
        "FilesIncluded" => {
            steps.step(&format!("{} ignored files copied", count("/included/files")));
            for skipped in
                json.pointer("/included/skipped").and_then(|s| s.as_array()).into_iter().flatten()
            {
                steps.step(&format!("skipped {}", skipped.as_str().unwrap_or_default()));
            }
        }
        "SetupStarted" => steps.step("setup hook runs"),
        "SetupFinished" => steps.step("setup hook done"),
        "AttemptFailed" => steps.step(&format!("again soon: {}", at("/fault/message"))),
        "ProvisionFailed" => {
            steps.step(&format!("failed: {}", at("/fault/message")));
            return json.get("kept").and_then(serde_json::Value::as_bool).unwrap_or(false);
        }
        "CancelRequested" | "DestroyRequested" => steps.step("stopping"),
        "EnvironmentReady" | "RolledBack" | "Tombstoned" => return true,
        _ => {}
    }
    false
}

async fn ls(global: &Global, all: bool) -> Done {
    let mut client = Client::connect(global).await?;
    let path = if all { "/v1/environments?all=true" } else { "/v1/environments" };
    let list: Vec<EnvironmentView> = client.call(Method::GET, path, NOTHING).await?;
    if list.is_empty() && !global.json && !global.quiet {
        render::note("no environments; `groundskeeper new` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    show_one(global, &list, &render::environments(&list))
}

async fn show(global: &Global, id: &str) -> Done {
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/environments/{}", encode(id));
    let found: EnvironmentView = client.call(Method::GET, &path, NOTHING).await?;
    show_one(global, &found, &render::environment(&found))
}

async fn rm(global: &Global, id: &str, how: &RemoveQuery) -> Done {
    let mut client = Client::connect(global).await?;
    let removed = remove(&mut client, id, how).await?;
    if !global.json && !global.quiet {
        render::removed(&removed);
    }
    show_one(global, &removed, "")
}

/// Removes an environment and waits for the end.
pub(super) async fn remove(
    client: &mut Client,
    id: &str,
    how: &RemoveQuery,
) -> Result<RemovedView, Failed> {
    let branch = how.branch.as_deref().map(|b| format!("&branch={}", encode(b)));
    let path = format!(
        "/v1/environments/{}?force={}&no_teardown={}&end_bystanders={}&no_rescue={}\
         &wait={WAIT_SECONDS}{}",
        encode(id),
        how.force,
        how.no_teardown,
        how.end_bystanders,
        how.no_rescue,
        branch.unwrap_or_default()
    );
    client.call(Method::DELETE, &path, NOTHING).await
}

async fn events(global: &Global, since: u64, follow: bool, env: Option<String>) -> Done {
    let mut client = Client::connect(global).await?;
    let only = env.map(|id| format!("&environment={}", encode(&id))).unwrap_or_default();
    let path = format!("/v1/events?since={since}&follow={follow}{only}");
    let answer = client.send(Method::GET, &path, &[], None).await?;
    if !answer.status().is_success() {
        client::read(answer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = answer.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            let hint = "run it again with --since and the last seq";
            Fault::new(Code::DaemonUnreachable, "the stream broke", hint).caused_by(&e)
        })?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
        let end = rest.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines: Vec<u8> = rest.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines);
        if global.json {
            render::out(&lines);
        } else {
            let shown: String = lines
                .lines()
                .map(|l| render::record(&serde_json::from_str(l).unwrap_or_default()))
                .collect();
            render::out(&shown);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn trust(
    global: &Global,
    repo: &Path,
    named: Option<String>,
    show: bool,
    revoke: bool,
) -> Done {
    let real = repo.canonicalize().map_err(|e| paths::fault("find", repo, &e))?;
    let repo = real.to_string_lossy().into_owned();
    let mut client = Client::connect(global).await?;
    let path = format!("/v1/trust?repo={}", encode(&repo));
    let mut view: TrustView = client.call(Method::GET, &path, NOTHING).await?;
    if revoke {
        let wanted = TrustRequest { repo, hash: None };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
        return show_one(global, &view, "nothing in this repository is trusted any more\n");
    }
    if let Some(hash) = named {
        let text = format!("hooks with sha256 {hash} are trusted\n");
        let wanted = TrustRequest { repo, hash: Some(hash) };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
        return show_one(global, &view, &text);
    }
    let (Some(hook), Some(hash)) = (view.hook.clone(), view.hash.clone()) else {
        return show_one(global, &view, "this repository has no setup hook\n");
    };
    if !show {
        let wanted = TrustRequest { repo, hash: Some(hash.clone()) };
        view = client.call(Method::PUT, "/v1/trust", Some(&wanted)).await?;
    }
    let is = if view.trusted.contains(&hash) { "is trusted" } else { "is not trusted" };
    show_one(global, &view, &format!("{} {is}\nsha256 {hash}\n", render::printable(&hook)))
}

async fn stop(global: &Global) -> Done {
    let layout = client::layout(global)?;
    let pid = crate::daemon::run::read_info(&layout).map(|info| info.pid);
    let Ok(mut client) = Client::try_connect(&layout).await else {
        return show_one(global, &json!({ "stopped": false }), "no daemon runs\n");
    };
    let _: Option<()> = client.call(Method::POST, "/v1/shutdown", NOTHING).await?;
    drop(client);
    let started = pid.and_then(crate::world::process::table::start_time);
    let until = Instant::now() + STOP_LIMIT;
    loop {
        // Asked by its id: taking its lock, even for a look, could turn a new daemon away.
        if started.is_none() || pid.and_then(crate::world::process::table::start_time) != started {
            return show_one(global, &json!({ "stopped": true, "pid": pid }), "stopped\n");
        }
        if Instant::now() > until {
            let message = format!("the daemon still runs after {} s", STOP_LIMIT.as_secs());
            let hint = "look into its log; SIGKILL is safe as well";
            return Err(Fault::new(Code::Timeout, message, hint).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A path segment or query value of a URL.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
