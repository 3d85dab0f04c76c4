//! What the outside has seen and is owed: pieces of work, and answers that were given. It believes
//! nothing that was not seen: a verb whose client was cut off may have happened or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;

/// How safe a piece of work has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that git can hold: it must be reachable for ever.
    Work,
    /// A file that git ignores, or one that was written while a removal may have been under way:
    /// it must be in a worktree or in the trash, until the trash is emptied on purpose.
    InPlace,
}

/// One piece of work: a file with a name of its own and content of its own.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) content: String,
    pub(crate) environment: String,
    pub(crate) kind: Kind,
    /// How it was left: `plain`, `staged`, `committed`, ...
    pub(crate) form: &'static str,
    /// Somebody asked for its end.
    pub(crate) released: bool,
}

/// An answer of the daemon about an environment.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) verb: String,
    pub(crate) id: String,
    pub(crate) incarnation: u64,
    pub(crate) phase: String,
    pub(crate) seq: u64,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, id, incarnation, phase, seq } = self;
        write!(f, "{verb}: {id}, incarnation {incarnation}, {phase} with record {seq}")
    }
}

#[derive(Default)]
struct Seen {
    pieces: Vec<Piece>,
    answers: Vec<Answer>,
    leases: Vec<String>,
    findings: Vec<String>,
    number: u64,
    verbs: BTreeMap<String, (u64, u64)>,
}

/// Shared by all clients of one history.
pub(crate) struct Model {
    seen: Mutex<Seen>,
    environments: BTreeMap<String, Arc<RwLock<()>>>,
}

impl Model {
    pub(crate) fn new(names: &[&str]) -> Self {
        let locks = names.iter().map(|name| ((*name).to_owned(), Arc::default()));
        Self { seen: Mutex::default(), environments: locks.collect() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for reading by whoever may take an environment away, for writing by whoever works in
    /// it.
    pub(crate) fn lock_of(&self, id: &str) -> Arc<RwLock<()>> {
        self.environments.get(id).map(Arc::clone).unwrap_or_default()
    }

    /// The locks of all environments, in the one order in which they are taken.
    pub(crate) fn locks(&self) -> Vec<Arc<RwLock<()>>> {
        self.environments.values().map(Arc::clone).collect()
    }

    /// A number that no other piece has.
    pub(crate) fn number(&self) -> u64 {
        let mut seen = self.seen();
        seen.number += 1;
        seen.number
    }

    pub(crate) fn made(&self, piece: Piece) {
        self.seen().pieces.push(piece);
    }

    /// It could not be written after all.
    pub(crate) fn unmade(&self, name: &str) {
        self.release(|piece| piece.name == name);
    }

    /// What lies in the trash alone may be gone from now on.
    pub(crate) fn trash_emptied(&self) {
        self.release(|piece| piece.kind == Kind::InPlace);
    }

    /// How many pieces were made so far.
    pub(crate) fn pieces(&self) -> usize {
        self.seen().pieces.len()
    }

    /// Of the first pieces that were made, rescues may be gone because of their age.
    pub(crate) fn aged(&self, first: usize) {
        self.seen().pieces.iter_mut().take(first).for_each(|piece| piece.released = true);
    }

    /// What was rescued from an environment may be gone from now on.
    pub(crate) fn rescue_dropped(&self, id: &str) {
        self.release(|piece| piece.environment == id);
    }

    fn release(&self, which: impl Fn(&Piece) -> bool) {
        for piece in self.seen().pieces.iter_mut().filter(|piece| which(piece)) {
            piece.released = true;
        }
    }

    /// Pieces that must be found.
    pub(crate) fn owed(&self) -> Vec<Piece> {
        self.seen().pieces.iter().filter(|piece| !piece.released).cloned().collect()
    }

    /// Notes an answer that says where an environment stands.
    pub(crate) fn answered(&self, verb: &str, printed: &Value) {
        let text = |key: &str| printed[key].as_str().map(str::to_owned);
        let number = |key: &str| printed[key].as_u64();
        if let (Some(id), Some(phase), Some(incarnation), Some(seq)) =
            (text("id"), text("phase"), number("incarnation"), number("seq"))
        {
            // Nothing has ever been of that name: its removal is a success without a life.
            if incarnation == 0 {
                return;
            }
            let verb = verb.to_owned();
            self.seen().answers.push(Answer { verb, id, incarnation, phase, seq });
        }
    }

    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.seen().answers.clone()
    }

    pub(crate) fn leased(&self, lease: &str) {
        self.seen().leases.push(lease.to_owned());
    }

    pub(crate) fn a_lease(&self) -> Option<String> {
        self.seen().leases.pop()
    }

    /// Notes that a verb was used, and whether it was granted.
    pub(crate) fn used(&self, verb: &str, granted: bool) {
        let mut seen = self.seen();
        let count = seen.verbs.entry(verb.to_owned()).or_default();
        count.0 += 1;
        count.1 += u64::from(granted);
    }

    /// Verbs with how often each was used and granted.
    pub(crate) fn verbs(&self) -> BTreeMap<String, (u64, u64)> {
        self.seen().verbs.clone()
    }

    /// Notes something that must never be seen, by a client.
    pub(crate) fn found(&self, what: String) {
        self.seen().findings.push(what);
    }

    pub(crate) fn findings(&self) -> Vec<String> {
        let all: BTreeSet<String> = std::mem::take(&mut self.seen().findings).into_iter().collect();
        all.into_iter().collect()
    }
}
