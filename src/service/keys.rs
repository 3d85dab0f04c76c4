//! Refuses an idempotency key that comes again with another request: the answer to the first one
//! would be taken for that to the second.
//!
//! The log knows which environment a key was used for, and the core refuses it for another one.
//! What else the request said is known here, as long as the daemon runs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::core::{Code, Fault, RequestId, policy};

/// The requests that keys were used for.
#[derive(Debug, Default)]
pub struct Keys {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    contents: BTreeMap<RequestId, u64>,
    /// The oldest first.
    order: VecDeque<RequestId>,
}

/// A request with a key, to be remembered once it is accepted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Keyed(Option<(RequestId, u64)>);

impl Keys {
    /// Compares a request with the first one of its key.
    ///
    /// # Errors
    /// `Code::IdempotencyConflict` if they differ.
    pub(crate) fn compare(
        &self,
        key: Option<&RequestId>,
        content: &impl Debug,
    ) -> Result<Keyed, Fault> {
        let Some(key) = key else { return Ok(Keyed(None)) };
        let hash = self.hasher.hash_one(format!("{content:?}"));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.contents.get(key) {
            Some(first) if *first != hash => {
                let message = "this idempotency key was already used for another request";
                let hint = "use a new Idempotency-Key for a new request";
                Err(Fault::new(Code::IdempotencyConflict, message, hint))
            }
            _ => Ok(Keyed(Some((key.clone(), hash)))),
        }
    }

    /// Remembers an accepted request. One that was refused may be sent again with its mistake
    /// mended.
    pub(crate) fn remember(&self, accepted: Keyed) {
        let Keyed(Some((key, hash))) = accepted else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contents.insert(key.clone(), hash).is_none() {
            known.order.push_back(key);
        }
        while known.order.len() > policy::REQUESTS_REMEMBERED {
            if let Some(oldest) = known.order.pop_front() {
                known.contents.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_for_one_request_and_few_are_kept() {
        let keys = Keys::default();
        let key = RequestId::parse("k").expect("a key");
        let first = keys.compare(Some(&key), &("create", 1)).expect("new");
        assert!(keys.compare(Some(&key), &("create", 2)).is_ok(), "the first is not accepted yet");
        keys.remember(first);
        assert!(keys.compare(Some(&key), &("create", 1)).is_ok(), "the same again");
        let other = keys.compare(Some(&key), &("create", 2)).expect_err("another");
        assert_eq!(other.code, Code::IdempotencyConflict);
        for n in 0..policy::REQUESTS_REMEMBERED {
            let key = RequestId::parse(&format!("k{n}")).expect("a key");
            keys.remember(keys.compare(Some(&key), &n).expect("new"));
        }
        assert!(keys.compare(Some(&key), &("create", 2)).is_ok(), "it is forgotten");
        keys.remember(keys.compare(None, &0).expect("no key"));
        assert_eq!(keys.known.lock().expect("whole").contents.len(), policy::REQUESTS_REMEMBERED);
    }
}
