//! Keeps a record that the log cannot hold from ending the daemon: its command is refused, and the
//! outcome of an effect that has no room in a record counts as a failure of the effect.

use crate::core::{Code, Command, Decision, Event, Fault, Moment, Settlement, State};
use crate::journal::codec;
use crate::journal::envelope::PAYLOAD_BYTES_MAX;

/// Decides a command as [`State::decide`] does, and checks that the log can hold the events.
///
/// # Errors
/// As [`State::decide`]; `limit_reached` when an event is too large.
pub(super) fn decide(state: &State, moment: Moment, command: Command) -> Decision {
    let now = moment.now;
    let effect = match &command {
        Command::Settle(settlement) => Some(settlement.effect()),
        _ => None,
    };
    let events = state.decide(moment, command)?;
    match (events.iter().find(|event| !codec::fits(event)), effect) {
        (None, _) => Ok(events),
        (Some(event), None) => Err(too_large(event)),
        // Otherwise the effect would be owed for ever, and end in the same way each time.
        (Some(event), Some(effect)) => {
            let failed = Settlement::failed(effect, too_large(event));
            state.decide(now, Command::Settle(failed))
        }
    }
}

fn too_large(event: &Event) -> Fault {
    let (kind, most) = (event.kind(), PAYLOAD_BYTES_MAX >> 10);
    let message = format!("its record {kind} would be larger than {most} KiB");
    let hint = "name less in one request: shorter lists, shorter texts";
    Fault::new(Code::LimitReached, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Actor, RepositoryTrusted, TeardownOptions};
    use crate::core::model::live_set::LiveSet;
    use crate::core::{EnvironmentId, HostPath, Time};

    #[test]
    fn command_with_too_large_record_is_refused() {
        let state = State::default();
        let set = |count: usize| {
            let id = |n| EnvironmentId::parse(&format!("environment-{n}")).expect("an id");
            let live = (0..count).map(id).collect();
            let set = LiveSet { server: "s".into(), epoch: 1, live, ..LiveSet::default() };
            let (options, actor) = (TeardownOptions::default(), Actor::default());
            Command::Reconcile { set, options, actor }
        };
        let events = decide(&state, Time(1).into(), set(1_000)).expect("it fits");
        assert_eq!(events.len(), 1);
        let events = decide(&state, Time(1).into(), set(200_000)).expect("in several records");
        assert_eq!(events.len(), 25);
        let trust = |bytes: usize| {
            let repository = HostPath::from("x".repeat(bytes).as_str());
            let (hash, actor) = ("h".to_owned(), Actor::default());
            Command::Trust(RepositoryTrusted { repository, hash, actor })
        };
        decide(&state, Time(1).into(), trust(1_000)).expect("it fits");
        let fault = decide(&state, Time(1).into(), trust(2 << 20)).expect_err("too large");
        assert_eq!(fault.code, Code::LimitReached, "{fault}");
        assert!(fault.message.contains("RepositoryTrusted"), "{fault}");
    }
}
