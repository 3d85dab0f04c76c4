//! A small model of one host: which states the accepted requests allow. Tests compare it with the
//! host whenever all work has settled.
//!
//! It knows only what the clients know: the accepted requests, their order, and their results.
//! Concurrent requests may take effect in any order, so the model states only what holds for all
//! orders.

use std::collections::{BTreeMap, BTreeSet};

/// Goal of a request about an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A new incarnation: created or restored.
    Make,
    /// The end of its current incarnation.
    Remove,
}

/// Result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// This incarnation became ready.
    Made(u64),
    /// This incarnation ended; 0 if there was none.
    Gone(u64),
    /// The request had no effect.
    Refused,
    /// The request began; its effect is not known.
    Unknown,
}

/// One accepted request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) goal: Goal,
    /// True for a request of the user on the host, who waited for its end.
    pub(crate) by_hand: bool,
    pub(crate) end: End,
}

impl Request {
    /// Returns whether this request had ended before `later` began. The server's requests for one
    /// environment run in order; the user on the host waits for the end before the next request.
    fn is_before(&self, later: &Self) -> bool {
        let removed = self.by_hand && self.goal == Goal::Remove && self.end != End::Unknown;
        self.by_hand == later.by_hand || (removed && !later.by_hand)
    }

    fn may_have_done(&self, goal: Goal) -> bool {
        self.goal == goal && self.end != End::Refused
    }
}

/// State of an environment on its host: its phase and incarnation.
pub(crate) type Fact = (String, u64);

/// Knowledge about one environment.
#[derive(Debug, Default)]
struct Known {
    /// State at the last comparison.
    at_rest: Option<Fact>,
    /// Requests accepted since then.
    since: Vec<Request>,
    /// Incarnations whose end was reported.
    gone: BTreeSet<u64>,
}

/// The model of one host, by environment.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    environments: BTreeMap<String, Known>,
}

impl Expected {
    /// Adds an accepted request.
    pub(crate) fn add_request(&mut self, environment: &str, request: Request) {
        self.environments.entry(environment.to_owned()).or_default().since.push(request);
    }

    /// Compares the settled host (`facts`) with the requests and the results of the server's ones
    /// (`ends`). Returns the contradictions and starts a new period.
    pub(crate) fn check_settled(
        &mut self,
        ends: &dyn Fn(&str) -> End,
        facts: &BTreeMap<String, Fact>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in facts.keys() {
            self.environments.entry(id.clone()).or_default();
        }
        for (id, known) in &mut self.environments {
            for request in known.since.iter_mut().filter(|request| !request.by_hand) {
                request.end = ends(&request.name);
            }
            let fact = facts.get(id);
            if let Err(why) = known.allows(fact) {
                let (before, since) = (&known.at_rest, &known.since);
                wrong.push(format!("{id} is {fact:?}, was {before:?}: {why}; {since:#?}"));
            }
            known.since.clear();
            known.at_rest = fact.cloned();
        }
        wrong
    }
}

impl Known {
    fn allows(&mut self, fact: Option<&Fact>) -> Result<(), String> {
        let none = ("none".to_owned(), 0);
        let (before, lived) = self.at_rest.as_ref().unwrap_or(&none);
        let (phase, life) = fact.unwrap_or(&none);
        for request in &self.since {
            if let End::Gone(gone) = request.end {
                self.gone.insert(gone);
            }
        }
        let makes =
            self.since.iter().filter(|request| request.may_have_done(Goal::Make)).count() as u64;
        let wanted = self.since.iter().filter(|request| request.goal == Goal::Make).count() as u64;
        let removes =
            self.since.iter().filter(|request| request.may_have_done(Goal::Remove)).count();
        if life < lived {
            return Err("a life was forgotten".to_owned());
        }
        if life - lived > wanted {
            return Err(format!("{} lives were begun, {wanted} were wanted", life - lived));
        }
        if self.gone.contains(life) && *life > 0 && phase != "tombstoned" {
            return Err("what was destroyed is there".to_owned());
        }
        if before == "ready" && removes == 0 && (phase, life) != (before, lived) {
            return Err("nobody wanted it gone".to_owned());
        }
        if before != "ready" && makes == 0 && phase == "ready" {
            return Err("nobody wanted it made".to_owned());
        }
        self.check_results(phase, *life)
    }

    /// Checks that a reported result still holds, unless another request may have changed it.
    fn check_results(&self, phase: &str, life: u64) -> Result<(), String> {
        for (n, request) in self.since.iter().enumerate() {
            let undone = |by: Goal| {
                let others = self.since.iter().enumerate().filter(|(m, _)| *m != n);
                others
                    .filter(|(_, o)| o.may_have_done(by))
                    .any(|(m, o)| m > n || !o.is_before(request))
            };
            match request.end {
                End::Made(made) if !undone(Goal::Remove) && ("ready", made) != (phase, life) => {
                    return Err(format!("{} was answered as ready", request.name));
                }
                End::Gone(_) if !undone(Goal::Make) && !matches!(phase, "tombstoned" | "none") => {
                    return Err(format!("{} was answered as over", request.name));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(goal: Goal, by_hand: bool, end: End) -> Request {
        Request { name: "w".to_owned(), goal, by_hand, end }
    }

    /// Returns whether a model that saw `first` allows `then` after these requests.
    fn allows(first: Option<(&str, u64)>, requests: &[Request], then: Option<(&str, u64)>) -> bool {
        let facts = |fact: Option<(&str, u64)>| {
            fact.map(|(phase, life)| ("a".to_owned(), (phase.to_owned(), life)))
                .into_iter()
                .collect::<BTreeMap<_, _>>()
        };
        let mut known = Known { at_rest: facts(first).remove("a"), ..Known::default() };
        known.since.extend(requests.iter().cloned());
        known.allows(facts(then).get("a")).is_ok()
    }

    #[test]
    fn model_rejects_unrequested_states() {
        assert!(allows(Some(("ready", 1)), &[], Some(("ready", 1))));
        assert!(!allows(Some(("ready", 1)), &[], Some(("tombstoned", 1))));
        assert!(!allows(Some(("ready", 1)), &[], None));
        assert!(!allows(Some(("tombstoned", 1)), &[], Some(("ready", 2))));
        let refused = request(Goal::Remove, false, End::Refused);
        assert!(!allows(Some(("ready", 1)), &[refused], Some(("tombstoned", 1))));
        let made = request(Goal::Make, false, End::Made(2));
        assert!(!allows(Some(("tombstoned", 1)), &[made], Some(("ready", 3))), "made twice");
    }

    /// The result of a sequential request holds until another request may have taken effect.
    #[test]
    fn model_accepts_any_concurrent_order() {
        let make = |by_hand| request(Goal::Make, by_hand, End::Made(2));
        let remove = |by_hand| request(Goal::Remove, by_hand, End::Gone(1));
        let was = Some(("ready", 1));
        let (ready, gone) = (Some(("ready", 2)), Some(("tombstoned", 2)));
        assert!(allows(was, &[remove(false), make(false)], ready));
        assert!(
            !allows(was, &[remove(false), make(false)], gone),
            "requests of one client apply in order"
        );
        assert!(
            allows(was, &[remove(false), make(true)], gone),
            "concurrent requests apply in any order"
        );
        assert!(
            !allows(was, &[remove(true), make(false)], gone),
            "the removal ended before the other request"
        );
        let again = request(Goal::Remove, false, End::Gone(2));
        assert!(
            !allows(was, &[remove(false), make(false), again], ready),
            "the second incarnation was destroyed"
        );
    }
}
