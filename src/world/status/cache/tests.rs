//! Tests of the status cache: what counts as valid, what is shared, and what ends it.

use std::sync::Barrier;

use super::*;
use crate::world::status::cache_entry::PATHS_MAX;

fn id() -> EnvironmentId {
    EnvironmentId::parse("demo").expect("a name")
}

fn computed(status: Status) -> Computed {
    Computed { status: Arc::new(status), proof: None, is_proven: false }
}

fn computed_value(cache: &StatusCache, n: i64) -> i64 {
    let compute = |_: &Question| Ok(computed(Status { last_change: n, ..Status::default() }));
    cache.get_or_compute(&id(), 1, compute).expect("an answer").last_change
}

/// The end of the watch and another incarnation end it as well.
#[test]
fn entry_valid_until_change() {
    let cache = StatusCache::default();
    cache.set_watched(&id(), true);
    assert_eq!((computed_value(&cache, 1), computed_value(&cache, 2)), (1, 1));
    cache.record_change(&id(), None);
    assert_eq!((computed_value(&cache, 3), computed_value(&cache, 4)), (3, 3));
    cache.set_watched(&id(), false);
    assert_eq!(computed_value(&cache, 5), 5, "the end of the watch invalidates the result");
    let next =
        cache.get_or_compute(&id(), 2, |_| Ok(computed(Status::default()))).expect("an answer");
    assert_eq!(next.last_change, 0, "another incarnation has another status");
    assert_eq!(cache.counts(), Counts { computed: 4, partial: 0, shared: 2 });
}

#[test]
fn change_during_computation_invalidates_result() {
    let cache = StatusCache::default();
    cache.set_watched(&id(), true);
    let compute = |_: &Question| {
        cache.record_change(&id(), None);
        Ok(computed(Status::default()))
    };
    cache.get_or_compute(&id(), 1, compute).expect("an answer");
    assert_eq!(computed_value(&cache, 7), 7);
}

/// Without a watch, nothing says that an earlier result still holds.
#[test]
fn unwatched_result_is_computed_again() {
    let cache = StatusCache::default();
    assert_eq!((computed_value(&cache, 1), computed_value(&cache, 2)), (1, 2));
}

/// All but the first ask during its computation; one more answers them together.
#[test]
fn concurrent_queries_share_later_computation() {
    let cache = StatusCache::default();
    let (all, entry) = (Barrier::new(8), cache.entry(&id()));
    let look = |_: &Question| {
        let begun = Instant::now();
        // The map, this test and each caller hold the entry.
        while Arc::strong_count(&entry) < 10 && begun.elapsed() < WAIT_MAX {
            std::thread::yield_now();
        }
        Ok(computed(Status::default()))
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                all.wait();
                cache
                    .get_or_compute(&id(), 1, |question| {
                        let first = locked(&entry.state).last.is_none();
                        if first { look(question) } else { Ok(computed(Status::default())) }
                    })
                    .expect("an answer");
            });
        }
    });
    let counts = cache.counts();
    assert!((1..=2).contains(&counts.computed), "{counts:?}");
    assert_eq!(counts.computed + counts.shared, 8, "{counts:?}");
}

#[test]
fn panicking_computation_does_not_block_others() {
    let cache = StatusCache::default();
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_compute(&id(), 1, |_| panic!("broken"))
    }));
    assert!(broken.is_err());
    assert_eq!(computed_value(&cache, 1), 1);
}

/// Returns the paths that a query receives; `None` when it computes everything.
fn changed_paths(cache: &StatusCache) -> Option<Vec<Vec<u8>>> {
    let seen = Mutex::new(None);
    let compute = |question: &Question| {
        *locked(&seen) = Some(question.since.as_ref().map(|s| s.paths.clone()));
        Ok(computed(Status::default()))
    };
    cache.get_or_compute(&id(), 1, compute).expect("an answer");
    locked(&seen).take().expect("an inspection")
}

/// It receives none if the whole tree may have changed, or if too many paths have.
#[test]
fn computation_receives_known_changed_paths() {
    let cache = StatusCache::default();
    cache.set_watched(&id(), true);
    assert_eq!(changed_paths(&cache), None, "no result is cached");
    for path in ["a", "b", "a"] {
        cache.record_change(&id(), Some(path.as_bytes()));
    }
    assert_eq!(changed_paths(&cache), Some(vec![b"a".to_vec(), b"b".to_vec()]));
    cache.record_change(&id(), Some(b"c"));
    assert_eq!(
        changed_paths(&cache),
        Some(vec![b"c".to_vec()]),
        "earlier changes are already covered"
    );
    cache.record_change(&id(), Some(b"d"));
    cache.record_change(&id(), None);
    cache.record_change(&id(), Some(b"e"));
    assert_eq!(changed_paths(&cache), None, "an unknown change requires a full computation");
    for n in 0..=PATHS_MAX {
        cache.record_change(&id(), Some(n.to_string().as_bytes()));
    }
    assert_eq!(changed_paths(&cache), None, "too much has changed");
    cache.record_change(&id(), Some(b"f"));
    cache.set_watched(&id(), true);
    assert_eq!(changed_paths(&cache), None, "the watch is another one");
    cache.record_change(&id(), Some(b"f"));
    drop(cache.get_or_compute(&id(), 1, |_| Err(status_timeout(&id()))));
    cache.record_change(&id(), Some(b"g"));
    assert_eq!(changed_paths(&cache), None, "no earlier result exists");
    assert_eq!(cache.counts().partial, 3);
}

#[test]
fn overtaken_partial_update_is_recomputed() {
    let cache = StatusCache::default();
    cache.set_watched(&id(), true);
    assert_eq!(computed_value(&cache, 1), 1);
    cache.record_change(&id(), Some(b"a"));
    let compute = |question: &Question| {
        if question.since.is_some() {
            cache.record_change(&id(), None);
        }
        let is_partial = i64::from(question.since.is_some());
        Ok(computed(Status { last_change: is_partial, ..Status::default() }))
    };
    assert_eq!(cache.get_or_compute(&id(), 1, compute).expect("an answer").last_change, 0);
    assert_eq!(computed_value(&cache, 7), 0, "the recomputed result is valid");
}

#[test]
fn panicking_partial_update_keeps_changes() {
    let cache = StatusCache::default();
    cache.set_watched(&id(), true);
    assert_eq!(computed_value(&cache, 1), 1);
    cache.record_change(&id(), Some(b"a"));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_compute(&id(), 1, |_| panic!("broken"))
    }));
    assert!(broken.is_err());
    assert_eq!(changed_paths(&cache), Some(vec![b"a".to_vec()]));
}
