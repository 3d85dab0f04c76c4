//! What a session with a control server costs: with many environments, with many to retire, and
//! with many hosts that come back at once.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use groundskeeper::session::protocol::{Fact, FromHost, FromServer, Open, PATH, Protocols};
use groundskeeper::session::transport::Wire;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::daemon::{Connection, Daemon, program, resident};
use crate::provision::git;
use crate::table::{Table, median, quantile, ratio, show};

const MANY: usize = 1_000;
const RETIRED: usize = 300;
const HOSTS: usize = 50;
const OF_EACH: usize = 200;

/// A server in the foreground, killed when it is dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(program());
        command.arg("--data-dir").arg(dir).args(["server", "--server-dir"]).arg(dir.join("server"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let socket = line.trim().strip_prefix("GROUNDSKEEPER_SERVER_READY:").expect("ready");
        Self { child, socket: socket.into() }
    }

    fn connect(&self) -> Connection {
        Connection::to(&self.socket)
    }

    fn key(&self, host: &str) -> String {
        let body = json!({ "id": host }).to_string();
        let (status, made) = self.connect().call("POST", "/v1/hosts", &body);
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().expect("a key").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "the measured thing has no event for us")]
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All of it.
pub(crate) fn all(dir: &Path, table: &mut Table) {
    let dir = dir.join("session");
    one_host(&dir, table);
    many_hosts(&dir, table);
}

fn one_host(dir: &Path, table: &mut Table) {
    let repo = dir.join("repo");
    std::fs::create_dir_all(&repo).expect("a folder");
    assert!(git(&repo, &["init", "-q", "-b", "main"]));
    std::fs::write(repo.join("file"), "content\n").expect("written");
    assert!(git(&repo, &["add", "-A"]) && git(&repo, &["commit", "-q", "-m", "all"]));
    let server = Server::start(dir);
    let key_file = dir.join("key");
    let open = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&key_file);
    std::io::Write::write_all(&mut open.expect("a file"), server.key("box").as_bytes())
        .expect("put");
    let config = dir.join("config.toml");
    let text = format!(
        "server = \"unix:{}\"\nserver_key_file = \"{}\"\n",
        server.socket.display(),
        key_file.display()
    );
    std::fs::write(&config, text).expect("written");
    let config = [("GROUNDSKEEPER_CONFIG", config.as_os_str())];
    let mut daemon = Daemon::start_with(&dir.join("data"), &config);
    fill(&daemon, &repo);
    let mut times = Vec::new();
    let mut processes = 0;
    for _ in 0..5 {
        daemon.kill();
        daemon = Daemon::start_with(&dir.join("data"), &config);
        let host = wait_for("a session", || {
            let (_, host) = server.connect().call("GET", "/v1/hosts/box", "");
            host["settled_us"].as_u64().map(|us| (us, host))
        });
        times.push(Duration::from_micros(host.0));
        assert_eq!(host.1["reconciled"]["retired"], json!([]));
        let (_, info) = daemon.connect().call("GET", "/v1/daemon", "");
        // One tells the version of git.
        processes = info["processes_started"].as_u64().unwrap_or(0).saturating_sub(1);
    }
    let time = median(&mut times);
    let bare = selected(&server, "box", MANY);
    let what = format!("open and reconcile {MANY}, nothing to do / list");
    table.row(&what, &show(time), &show(bare), ratio(time, bare), 5.0, false);
    table.row("  processes for it", &processes.to_string(), "", processes as f64, 0.0, false);
    retire(&daemon, table);
}

/// How long the server takes to select and tell what it knows of a host.
fn selected(server: &Server, host: &str, count: usize) -> Duration {
    let (mut api, path) = (server.connect(), format!("/v1/hosts/{host}/environments"));
    let times = (0..21).map(|_| {
        let start = Instant::now();
        let (_, list) = api.call("GET", &path, "");
        assert_eq!(list.as_array().map(Vec::len), Some(count));
        start.elapsed()
    });
    median(&mut times.collect::<Vec<_>>())
}

fn fill(daemon: &Daemon, repo: &Path) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                let mut api = daemon.connect();
                for n in (part..MANY).step_by(4) {
                    let body = json!({ "id": format!("env{n}"), "repo": repo }).to_string();
                    let (status, made) = api.call("POST", "/v1/environments?wait=600", &body);
                    assert_eq!((status, made["phase"].as_str()), (200, Some("ready")), "{made:#}");
                }
            });
        }
    });
}

/// Latency of a durable command, while `condition` holds.
fn commands(daemon: &Daemon, mut condition: impl FnMut(&mut Connection) -> bool) -> Vec<Duration> {
    let mut api = daemon.connect();
    let mut times = Vec::new();
    let body = json!({ "seconds": 600, "id": "bench" }).to_string();
    loop {
        for _ in 0..20 {
            let start = Instant::now();
            let (status, _) = api.call("POST", "/v1/environments/env999/leases", &body);
            times.push(start.elapsed());
            assert_eq!(status, 201);
        }
        if !condition(&mut api) {
            return times;
        }
    }
}

fn retire(daemon: &Daemon, table: &mut Table) {
    let mut rounds = 0;
    let mut idle = commands(daemon, |_| {
        rounds += 1;
        rounds < 50
    });
    let live: Vec<String> = (RETIRED..MANY).map(|n| format!("env{n}")).collect();
    let epoch = u64::MAX / 4;
    let wanted = json!({ "server": "bench", "epoch": epoch, "live": live, "confirmed": true });
    let mut api = daemon.connect();
    let start = Instant::now();
    let (status, report) = api.call("POST", "/v1/reconcile", &wanted.to_string());
    let acknowledged = start.elapsed();
    assert_eq!((status, report["retired"].as_array().map(Vec::len)), (200, Some(RETIRED)));
    let left = |api: &mut Connection| -> u64 {
        let (_, info) = api.call("GET", "/v1/daemon", "");
        info["owed"].as_u64().unwrap_or(0)
    };
    let mut busy = commands(daemon, |api| left(api) > 0);
    let drained = start.elapsed();
    let what = format!("{RETIRED} to retire: acknowledged / drained");
    table.note(&what, &format!("{} / {}", show(acknowledged), show(drained)));
    let (idle, busy) = (quantile(&mut idle, 0.99), quantile(&mut busy, 0.99));
    let ratio = busy.as_secs_f64() / idle.as_secs_f64();
    table.row("  p99 of a command meanwhile / idle", &show(busy), &show(idle), ratio, 2.0, false);
}

fn many_hosts(dir: &Path, table: &mut Table) {
    let server = Server::start(&dir.join("many"));
    let keys: Vec<String> = (0..HOSTS).map(|n| server.key(&format!("host{n}"))).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let socket = &server.socket;
    let visit = |round: u64| {
        let start = Instant::now();
        let hosts = keys
            .iter()
            .enumerate()
            .map(|(n, key)| runtime.spawn(open(socket.clone(), key.clone(), n, round)));
        let hosts: Vec<_> = hosts.collect();
        let open: Vec<_> =
            hosts.into_iter().map(|host| runtime.block_on(host).expect("opened")).collect();
        (start.elapsed(), open)
    };
    // The first time all of it is new to the server; then all come back at once.
    let (first, open) = visit(0);
    drop(open);
    let mut times: Vec<Duration> = (1..6).map(|round| visit(round).0).collect();
    let memory = resident(server.child.id());
    let what = format!("{HOSTS} hosts x {OF_EACH}, all at once / {HOSTS} lists");
    let time = median(&mut times);
    let bare = selected(&server, "host7", OF_EACH) * u32::try_from(HOSTS).unwrap_or(u32::MAX);
    table.row(&what, &show(time), &show(bare), ratio(time, bare), 5.0, false);
    table.note("  the first time", &show(first));
    table.note("  memory of the server", &format!("{} MiB", memory >> 20));
    let (_, list) = server.connect().call("GET", "/v1/hosts/host7/environments", "");
    assert_eq!(list.as_array().map(Vec::len), Some(OF_EACH));
}

type Host = Wire<UnixStream, FromServer, FromHost>;

/// One host that is only simulated: it says what lives there and takes the live set in.
async fn open(socket: PathBuf, key: String, n: usize, round: u64) -> Host {
    let stream = UnixStream::connect(socket).await.expect("connected");
    let mut wire: Host = Wire::connect(stream, "x", PATH, &key).await.expect("let in");
    let loaded = (0..OF_EACH).map(|m| Fact {
        id: format!("env{m}"),
        incarnation: 1,
        phase: "ready".to_owned(),
        seq: m as u64 + 1,
        path: format!("/home/user/.local/share/groundskeeper/worktrees/env{m}/project"),
        branch: format!("gk/env{m}"),
        error: None,
    });
    let open = Open {
        host: None,
        instance: format!("{n}-{round}"),
        boot: 1,
        version: "bench".to_owned(),
        protocol: Protocols::OURS,
        log: format!("log{n}"),
        head: OF_EACH as u64,
        loaded: loaded.collect(),
        leases: Vec::new(),
    };
    wire.send(&FromHost::Open(Box::new(open))).await.expect("sent");
    let FromServer::Opened(opened) = wire.receive().await.expect("answered") else {
        panic!("not opened");
    };
    let live = opened.live.expect("a live set");
    assert_eq!(live.live.len(), OF_EACH);
    wire.set_session(&opened.session);
    let report: Value = json!({
        "epoch": live.epoch, "outdated": false, "held": false,
        "retired": [], "kept": [], "missing": [], "healed": [],
    });
    let report = serde_json::from_value(report).expect("a report");
    wire.send(&FromHost::Reconciled(report)).await.expect("sent");
    wire
}
