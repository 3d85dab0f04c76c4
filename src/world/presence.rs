//! What of each worktree is there at this moment: whether its directory exists, and what its HEAD
//! names.
//!
//! One look reads two files and starts no process. It has a bound in time: a file system that does
//! not answer, such as a network mount, delays no list, and what it was last seen as is returned in
//! its place. Nothing here changes a worktree, and nothing here is stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::clock;
use crate::core::{Environment, EnvironmentId, Time};
use crate::sync::lock_unpoisoned;
use crate::world::fs::paths;
use crate::world::git::refs;

/// Most threads that look at worktrees, those that hang included.
const THREADS_MAX: usize = 32;
/// Most of them for one repository: one that hangs must leave room for the others.
const THREADS_PER_REPOSITORY_MAX: usize = 8;
/// Worktrees of one repository that a thread looks at.
const SHARE: usize = 256;

/// What a look at a worktree found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it was looked at.
    pub at: Time,
    /// Whether its directory does not exist.
    pub missing: bool,
    /// The branch that HEAD names; none when it is detached or cannot be read.
    pub branch: Option<String>,
    /// The commit of a detached HEAD.
    pub detached: Option<String>,
}

/// The answer about one worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What was seen in time, or else by an earlier look; none when no look ever answered.
    pub seen: Option<Seen>,
    /// Whether this look did not answer in time.
    pub is_late: bool,
}

/// The places of one worktree.
#[derive(Debug, Clone)]
pub struct Question {
    id: EnvironmentId,
    incarnation: u32,
    path: PathBuf,
    admin: PathBuf,
    repository: PathBuf,
}

impl Question {
    /// Returns the places of an environment; none where no worktree is expected to be there.
    #[must_use]
    pub fn of(env: &Environment) -> Option<Self> {
        let worktree = env.worktree.as_ref()?;
        Some(Self {
            id: env.id.clone(),
            incarnation: env.incarnation,
            path: paths::from_host(&env.plan.path),
            admin: paths::from_host(&worktree.admin_dir),
            repository: paths::from_host(&env.plan.repository.common_dir),
        })
    }

    /// Returns the environment that the worktree belongs to.
    #[must_use]
    pub fn id(&self) -> &EnvironmentId {
        &self.id
    }

    fn look(&self) -> Seen {
        // A path that cannot be inspected is not known to be missing.
        let missing = match self.path.symlink_metadata() {
            Ok(found) if found.is_dir() => false,
            Ok(_) => !self.path.is_dir(),
            Err(_) => !paths::exists(&self.path).unwrap_or(true),
        };
        let head =
            if missing { Vec::new() } else { refs::head_text(&self.admin).unwrap_or_default() };
        let head = String::from_utf8_lossy(&head).trim_end().to_owned();
        let branch = head.strip_prefix("ref: refs/heads/").map(str::to_owned);
        let is_commit =
            matches!(head.len(), 40 | 64) && head.bytes().all(|b| b.is_ascii_hexdigit());
        Seen { at: clock::now(), missing, branch, detached: is_commit.then_some(head) }
    }
}

/// The last look at each worktree, and the threads that look.
#[derive(Debug, Default)]
pub struct Presence(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Board {
    /// Number of the last look.
    round: u64,
    /// What was last seen, by which look, and of which incarnation.
    seen: BTreeMap<EnvironmentId, (u32, u64, Seen)>,
    /// Threads by the repository whose worktrees they look at.
    threads: BTreeMap<PathBuf, usize>,
}

impl Presence {
    /// Looks at worktrees, and returns after `limit` at the latest. With `all` these are all that
    /// exist, and what is known of others is forgotten.
    #[must_use]
    pub fn look(
        &self,
        questions: Vec<Question>,
        limit: Duration,
        all: bool,
    ) -> BTreeMap<EnvironmentId, Look> {
        let until = Instant::now() + limit;
        let mut asked: BTreeMap<EnvironmentId, u32> = BTreeMap::new();
        let mut by_repository: BTreeMap<PathBuf, Vec<Question>> = BTreeMap::new();
        for question in questions {
            asked.insert(question.id.clone(), question.incarnation);
            by_repository.entry(question.repository.clone()).or_default().push(question);
        }
        let mut board = lock_unpoisoned(&self.0.board);
        if all {
            board.seen.retain(|id, _| asked.contains_key(id));
        }
        board.round += 1;
        let round = board.round;
        let is_open = |board: &Board| {
            asked.iter().any(|(id, life)| board.answer(id, *life).is_none_or(|(at, _)| at < round))
        };
        let mut waiting = shares(by_repository);
        loop {
            // A share that finds no free thread starts when another one ends.
            waiting.retain(|share| !self.begin(&mut board, share, round));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_open(&board) {
                break;
            }
            let waited = self.0.answered.wait_timeout(board, left);
            board = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        let look = |(id, life): (EnvironmentId, u32)| {
            let found = board.answer(&id, life);
            let is_late = found.is_none_or(|(at, _)| at < round);
            let seen = found.map(|(_, seen)| seen.clone());
            (id, Look { seen, is_late })
        };
        asked.into_iter().map(look).collect()
    }

    /// Starts a thread that looks at some worktrees of one repository. Returns false if none is
    /// free: those that hang are bounded.
    fn begin(&self, board: &mut Board, share: &[Question], round: u64) -> bool {
        let Some(repository) = share.first().map(|question| &question.repository) else {
            return true;
        };
        let of_it = board.threads.get(repository).copied().unwrap_or_default();
        let running: usize = board.threads.values().sum();
        if running >= THREADS_MAX || of_it >= THREADS_PER_REPOSITORY_MAX {
            return false;
        }
        let (shared, of, questions) = (Arc::clone(&self.0), repository.clone(), share.to_vec());
        let work = move || {
            let ends = Ends { shared, repository: of };
            for part in questions.chunks(SHARE / 8) {
                let seen: Vec<Seen> = part.iter().map(Question::look).collect();
                let mut board = lock_unpoisoned(&ends.shared.board);
                for (question, seen) in part.iter().zip(seen) {
                    board.record(question, round, seen);
                }
            }
        };
        if std::thread::Builder::new().name("gk-look".to_owned()).spawn(work).is_err() {
            return false;
        }
        // Counted after the start: the thread needs the board, which is locked here, to end.
        *board.threads.entry(repository.clone()).or_default() += 1;
        true
    }
}

/// Divides the worktrees of each repository among few threads.
fn shares(by_repository: BTreeMap<PathBuf, Vec<Question>>) -> Vec<Vec<Question>> {
    let all = by_repository.into_values().flat_map(|questions| {
        let size = questions.len().div_ceil(THREADS_PER_REPOSITORY_MAX / 2).max(SHARE);
        questions.chunks(size).map(<[Question]>::to_vec).collect::<Vec<_>>()
    });
    all.collect()
}

impl Board {
    fn answer(&self, id: &EnvironmentId, incarnation: u32) -> Option<(u64, &Seen)> {
        let (life, round, seen) = self.seen.get(id)?;
        (*life == incarnation).then_some((*round, seen))
    }

    /// Keeps what was seen, unless a later look was faster.
    fn record(&mut self, question: &Question, round: u64, seen: Seen) {
        let known = self.answer(&question.id, question.incarnation);
        if known.is_none_or(|(at, _)| at < round) {
            self.seen.insert(question.id.clone(), (question.incarnation, round, seen));
        }
    }
}

/// The end of a thread, however it ends.
struct Ends {
    shared: Arc<Shared>,
    repository: PathBuf,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let mut board = lock_unpoisoned(&self.shared.board);
        if let Some(left) = board.threads.get_mut(&self.repository) {
            *left = left.saturating_sub(1);
        }
        board.threads.retain(|_, count| *count > 0);
        drop(board);
        self.shared.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn question(dir: &Path, id: &str, repository: &str) -> Question {
        let (path, admin) = (dir.join(id), dir.join(format!("{id}.git")));
        std::fs::create_dir_all(&path).expect("made");
        std::fs::create_dir_all(&admin).expect("made");
        Question {
            id: EnvironmentId::parse(id).expect("an id"),
            incarnation: 1,
            path,
            admin,
            repository: repository.into(),
        }
    }

    fn fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo runs").success());
    }

    const LIMIT: Duration = Duration::from_millis(300);

    #[test]
    fn look_sees_head_and_existence() {
        let dir = tempfile::tempdir().expect("a directory");
        let [on, off, gone] = ["on", "off", "gone"].map(|id| question(dir.path(), id, "/r"));
        std::fs::write(on.admin.join("HEAD"), "ref: refs/heads/side/x\n").expect("written");
        let commit = "c".repeat(40);
        std::fs::write(off.admin.join("HEAD"), format!("{commit}\n")).expect("written");
        std::fs::remove_dir(&gone.path).expect("removed");
        let presence = Presence::default();
        let ids = [&on, &off, &gone].map(|q| q.id.clone());
        let looks = presence.look(vec![on, off, gone], LIMIT, true);
        let seen = ids.map(|id| looks[&id].seen.clone().expect("seen"));
        assert_eq!(seen[0].branch.as_deref(), Some("side/x"));
        assert_eq!(seen[1].detached.as_deref(), Some(commit.as_str()));
        assert_eq!(seen.each_ref().map(|seen| seen.missing), [false, false, true]);
        assert!(looks.values().all(|look| !look.is_late));
    }

    #[test]
    fn many_worktrees_answer_in_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let all: Vec<Question> = (0..3_000)
            .map(|n| question(dir.path(), &format!("e{n}"), &format!("/r{}", n % 50 * (n % 2))))
            .collect();
        for q in &all {
            std::fs::write(q.admin.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        }
        let presence = Presence::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let looks = presence.look(all.clone(), Duration::from_secs(20), true);
                    eprintln!("3000 worktrees in {:?}", begun.elapsed());
                    assert_eq!(looks.len(), 3_000);
                    assert!(looks.values().all(|look| !look.is_late), "all of them answer");
                });
            }
        });
    }

    /// A repository whose files do not answer delays no look, and holds up no other repository,
    /// however often it is asked.
    #[test]
    fn hung_repository_shows_last_look() {
        let dir = tempfile::tempdir().expect("a directory");
        let (good, hung) = (question(dir.path(), "a", "/good"), question(dir.path(), "b", "/hung"));
        let head = hung.admin.join("HEAD");
        for q in [&good, &hung] {
            std::fs::write(q.admin.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        }
        let presence = Presence::default();
        let both = || vec![good.clone(), hung.clone()];
        let before = presence.look(both(), LIMIT, true)[&hung.id].clone();
        assert!(!before.is_late);
        std::fs::remove_file(&head).expect("removed");
        fifo(&head);
        for _ in 0..THREADS_PER_REPOSITORY_MAX + 2 {
            let begun = Instant::now();
            let looks = presence.look(both(), Duration::from_millis(50), true);
            assert!(begun.elapsed() < Duration::from_secs(2), "it does not wait for the mount");
            assert_eq!(looks[&hung.id], Look { is_late: true, ..before.clone() });
        }
        let looks = presence.look(both(), LIMIT, true);
        assert!(!looks[&good.id].is_late, "the other repository answers");
        let running = lock_unpoisoned(&presence.0.board).threads.values().sum::<usize>();
        assert!(running <= THREADS_PER_REPOSITORY_MAX, "{running} threads hang");
        // Lets the threads go.
        let mut writers = Vec::new();
        while !lock_unpoisoned(&presence.0.board).threads.is_empty() {
            use std::os::unix::fs::OpenOptionsExt as _;
            let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("fits");
            let mut open = std::fs::File::options();
            writers.extend(open.write(true).custom_flags(nonblocking).open(&head).ok());
            writers.clear();
            std::thread::yield_now();
        }
    }
}
