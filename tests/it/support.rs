//! Test helpers: repositories, daemons, and a check from the outside that all guarantees hold.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use groundskeeper::core::State;
use groundskeeper::core::event::Record;
use groundskeeper::core::invariants::Audit;
use groundskeeper::journal::inspect::Depth;
use groundskeeper::journal::{Base, ReadOnlyLog, inspect};
use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_groundskeeper");
/// Timeout of a test that waits for a condition.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Time after which the daemon should owe nothing; longer than the waits between ten attempts.
const SETTLED_LIMIT: Duration = Duration::from_secs(180);

/// Waits for a condition and checks it every 5 ms; panics after [`WAIT_LIMIT`].
#[expect(clippy::disallowed_methods, reason = "the one place where tests look at a condition")]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT_LIMIT;
    while !condition() {
        assert!(Instant::now() < until, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nothing is owed. What is still owed after [`WAIT_LIMIT`] is printed, also by a test
/// that passes: a machine may be slow, and a step may have failed more often than it should.
#[expect(clippy::disallowed_methods, reason = "a wait like the one above")]
fn wait_until_settled(owed: impl Fn() -> Vec<Value>) {
    let began = Instant::now();
    let mut is_printed = false;
    loop {
        let left = owed();
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < SETTLED_LIMIT, "still owed: {left:#?}");
        if began.elapsed() > WAIT_LIMIT && !std::mem::replace(&mut is_printed, true) {
            let text = format!("\nowed for more than {WAIT_LIMIT:?}: {left:#?}\n");
            drop(std::io::stderr().write_all(text.as_bytes()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sleeps. Only for tests in which time itself is the input, such as the instant of a random kill.
#[expect(clippy::disallowed_methods, reason = "the moment of a kill is a random time")]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// A temporary directory with its own home, so that no setting of the machine matters.
pub(crate) struct Harness {
    pub(crate) dir: tempfile::TempDir,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gk").tempdir().expect("a directory");
        let harness = Self { dir };
        std::fs::create_dir(harness.path("home")).expect("a home");
        let config = "[user]\n name = Test\n email = test@example.org\n[init]\n defaultBranch = main\n\
                      [protocol \"file\"]\n allow = always\n";
        std::fs::write(harness.path("home/.gitconfig"), config).expect("written");
        harness
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn isolate(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            if text.starts_with("GIT_")
                || text.starts_with("XDG_")
                || text.starts_with("GROUNDSKEEPER")
            {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path("home")).env("LC_ALL", "C").stdin(Stdio::null());
        // A test must not use the user's keychain or the network.
        command.env("GROUNDSKEEPER_KEYCHAIN_FILE", self.path("keyring.json"));
        command.env("GROUNDSKEEPER_OFFLINE", "1");
    }

    /// Runs git and returns what it printed; it must succeed.
    pub(crate) fn git(&self, at: &Path, args: &[&str]) -> String {
        let output = self.git_raw(at, args);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = output.status;
        assert!(status.success(), "git {args:?} in {}: {status}: {printed}", at.display());
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    pub(crate) fn git_raw(&self, at: &Path, args: &[&str]) -> Output {
        let mut command = Command::new("git");
        self.isolate(&mut command);
        command.arg("-C").arg(at).args(args).output().expect("git runs")
    }

    /// Creates a repository with `system` tracked files, and a README, in one commit.
    pub(crate) fn repo(&self, name: impl AsRef<Path>, files: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        self.git(&path, &["init", "-q"]);
        self.commit_files(&path, files);
        path
    }

    pub(crate) fn commit_files(&self, path: &Path, files: usize) {
        for n in 0..files {
            let folder = path.join(format!("dir{}", n / 50));
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(
                folder.join(format!("file{n}.txt")),
                format!("{n}\n").repeat(n % 40 + 1),
            )
            .expect("written");
        }
        std::fs::write(path.join("README"), "hello\n").expect("written");
        self.git(path, &["add", "-A"]);
        self.git(path, &["commit", "-q", "-m", "first"]);
    }

    #[expect(clippy::unused_self, reason = "reads like the other makers")]
    pub(crate) fn write(&self, path: &Path, text: &str) {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(path, text).expect("written");
    }

    pub(crate) fn commit(&self, at: &Path, message: &str) -> String {
        self.git(at, &["add", "-A"]);
        self.git(at, &["commit", "-q", "-m", message]);
        self.git(at, &["rev-parse", "HEAD"])
    }

    /// Commits an executable setup hook.
    pub(crate) fn hook(&self, repo: &Path, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = repo.join(".groundskeeper/setup");
        self.write(&path, script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        self.commit(repo, "hook");
    }

    /// Commits an executable teardown hook.
    pub(crate) fn teardown_hook(&self, repo: &Path, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = repo.join(".groundskeeper/teardown");
        self.write(&path, script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        self.commit(repo, "teardown hook");
    }

    /// Returns the hash by which the teardown hook of a repository is trusted.
    #[expect(clippy::unused_self, reason = "reads like the other questions")]
    pub(crate) fn teardown_hash(&self, repo: &Path) -> String {
        let hook = repo.join(".groundskeeper/teardown");
        groundskeeper::world::effects::hook::hash(&hook).expect("a hook")
    }

    /// Returns a command that runs the program with this bench's data directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.isolate(&mut command);
        command.arg("--data-dir").arg(self.data()).args(args).current_dir(self.dir.path());
        command
    }

    /// Runs a verb with `--json` and returns exit code and stdout.
    pub(crate) fn gk(&self, args: &[&str]) -> (i32, Value) {
        let mut all = vec!["--json"];
        all.extend(args);
        let output = self.command(&all).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(text.trim()).unwrap_or(Value::String(text.into_owned()));
        assert!(
            !String::from_utf8_lossy(&output.stderr).to_lowercase().contains("unknown error"),
            "the forbidden words"
        );
        let stderr = || String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        (code.unwrap_or_else(|| panic!("{args:?}: {}: {}", output.status, stderr())), json)
    }

    /// Runs a verb that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Value {
        let (code, json) = self.gk(args);
        assert_eq!(code, 0, "{args:?}: {json:#}");
        json
    }

    /// Runs a verb that must fail with a hint, and returns its exit code and error.
    pub(crate) fn refused(&self, args: &[&str]) -> (i32, Value) {
        let (code, json) = self.gk(args);
        assert_ne!(code, 0, "{args:?} succeeded: {json:#}");
        let error = json["error"].clone();
        assert!(
            error["hint"].as_str().is_some_and(|h| !h.is_empty()),
            "{args:?}: no hint: {json:#}"
        );
        (code, error)
    }

    pub(crate) fn new_env(&self, id: &str, repo: &Path, more: &[&str]) -> PathBuf {
        let repo = repo.to_str().expect("text");
        let mut args = vec!["new", id, "--repo", repo];
        args.extend(more);
        let made = self.ok(&args);
        assert_eq!(made["phase"], "ready", "{made:#}");
        PathBuf::from(made["path"].as_str().expect("a path"))
    }

    pub(crate) fn phase(&self, id: &str) -> String {
        let all = self.ok(&["ls", "--all"]);
        let list = all.as_array().expect("a list");
        let found = list.iter().find(|e| e["id"] == id).map(|e| e["phase"].clone());
        found.and_then(|p| p.as_str().map(str::to_owned)).unwrap_or_else(|| "none".into())
    }

    /// Waits until no environment owes a step and every trash entry was measured.
    pub(crate) fn drain(&self) {
        wait_until_settled(|| {
            let all = self.ok(&["ls", "--all"]);
            let all = all.as_array().expect("a list");
            all.iter().filter(|env| !env["step"].is_null()).cloned().collect()
        });
        // The daemon inspects each trash entry once more in the background.
        wait_for("an inspection of the trash", || {
            let all = self.ok(&["trash", "ls"]);
            let seen =
                |e: &Value| e["trash"].is_null() || !e["bytes"].is_null() || !e["purge"].is_null();
            all.as_array().is_some_and(|list| list.iter().all(seen))
        });
    }

    /// Checks all guarantees that are visible from outside, for a daemon that owes nothing.
    pub(crate) fn check(&self, repos: &[&Path]) {
        let all = self.ok(&["ls", "--all"]);
        let all = all.as_array().expect("a list");
        let mut places = BTreeSet::new();
        let mut expected = BTreeSet::new();
        for env in all {
            let id = env["id"].as_str().expect("an id");
            let path = PathBuf::from(env["path"].as_str().expect("a path"));
            let here = env["phase"] == "ready" || !env["checkout"].is_null();
            assert_eq!(path.exists(), here, "{env:#}");
            assert!(env["leftovers"].as_array().is_some_and(Vec::is_empty), "{env:#}");
            if here {
                places.insert(id.to_owned());
                expected.insert(path.clone());
                let status = self.git(&path, &["status", "--porcelain", "-uno"]);
                assert_eq!(status, "", "{id} is not clean");
            }
        }
        let names = |dir: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(self.data().join(dir)).expect("a folder");
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(
            names("worktrees"),
            places,
            "the managed root holds exactly the current worktrees"
        );
        wait_for("no temporary files", || names("scratch").is_empty());
        // Outputs of `clean` have hidden names there, and one may be in the middle of its unlink.
        wait_for("only listed entries in the trash", || {
            let listed = self.ok(&["trash", "ls"]).to_string();
            names("trash").iter().all(|name| !name.starts_with('.') || listed.contains(name))
        });
        for repo in repos {
            self.check_repo(repo, &expected);
        }
        self.no_processes();
        self.check_log();
    }

    /// Checks that the log is intact and breaks no invariant. A daemon may be running: what it
    /// writes during a read looks like damage, so damage counts when every read finds some.
    pub(crate) fn check_log(&self) {
        const READS: usize = 10;
        let log = self.data().join("log.redb");
        let read = || {
            // A trimmed log begins with a state.
            let opened = ReadOnlyLog::open(&log)?;
            let mut folded = opened.base().and_then(Base::state).unwrap_or_default();
            let mut audit = Audit::of(&folded);
            let mut breaches = Vec::new();
            let mut each = |r: &Record, _: &State| breaches.extend(audit.fold(&mut folded, r));
            let state = inspect(&log, Depth::Everything, &mut each)?.state;
            breaches.extend(audit.finish(&state));
            Ok::<_, groundskeeper::journal::Error>((state, breaches))
        };
        let mut found = read();
        for _ in 1..READS {
            if found.is_err() {
                found = read();
            }
        }
        let (state, breaches) = found.expect("an intact log");
        assert_eq!(breaches, [], "no invariant is broken");
        state.check().expect("a consistent state");
    }

    fn check_repo(&self, repo: &Path, expected: &BTreeSet<PathBuf>) {
        self.git(repo, &["fsck", "--strict"]);
        let listed = self.git(repo, &["worktree", "list", "--porcelain", "-z"]);
        let listed: BTreeSet<PathBuf> = listed
            .split('\0')
            .filter_map(|l| l.strip_prefix("worktree ").map(PathBuf::from))
            .filter(|p| p.starts_with(self.data()))
            .collect();
        for path in &listed {
            assert!(expected.contains(path), "a stranded registration: {}", path.display());
        }
        assert_eq!(self.git(repo, &["worktree", "prune", "-n", "-v"]), "", "nothing to prune");
        let repaired = self.git_raw(repo, &["worktree", "repair"]);
        assert_eq!(String::from_utf8_lossy(&repaired.stdout), "", "nothing to repair");
        let common = self.git(repo, &["rev-parse", "--path-format=absolute", "--git-common-dir"]);
        let ours = PathBuf::from(common).join("groundskeeper");
        for entry in std::fs::read_dir(ours).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(name.ends_with(".removed"), "{name} was left incomplete");
        }
    }

    /// Checks that no process of an environment of this bench runs.
    pub(crate) fn no_processes(&self) {
        let marker = format!("GROUNDSKEEPER_PATH={}", self.data().display());
        for entry in std::fs::read_dir("/proc").expect("a proc").flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = environ.split(|b| *b == 0).any(|v| v.starts_with(marker.as_bytes()));
            assert!(!ours, "process {} of a hook is left", entry.file_name().display());
        }
    }
}

/// A daemon in the foreground, killed when it is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
}

impl Daemon {
    pub(crate) fn start(harness: &Harness) -> Self {
        Self::start_with(harness, &[])
    }

    pub(crate) fn start_with(harness: &Harness, env: &[(&str, &str)]) -> Self {
        let mut command = harness.command(&["daemon"]);
        command.envs(env.iter().copied());
        Self::launch(harness, command, env.is_empty())
    }

    /// Starts a daemon with a command of the caller, such as a wrapper program.
    pub(crate) fn of(harness: &Harness, mut command: Command) -> Self {
        harness.isolate(&mut command);
        Self::launch(harness, command, true)
    }

    fn launch(harness: &Harness, mut command: Command, must_start: bool) -> Self {
        command.stdout(Stdio::piped());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(harness.path("daemon.err"))
            .expect("a log");
        let mut child = command.stderr(log).spawn().expect("started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        if !line.starts_with("GROUNDSKEEPER_READY:") {
            let printed = std::fs::read_to_string(harness.path("daemon.err")).unwrap_or_default();
            assert!(!must_start, "the daemon did not start: {printed}");
        }
        Self { child }
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().expect("asked").is_some()
    }

    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg("-TERM").arg(pid).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("ended")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // A daemon that a command has started automatically must not outlive the test.
        drop(self.command(&["stop"]).output());
    }
}
