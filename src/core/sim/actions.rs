//! The random actions that the histories of the laws consist of.

#[cfg(test)]
use proptest::prelude::*;

use crate::event::{Actor, TeardownOptions};
use crate::{Command, EnvironmentId, RequestId};

/// The environments of a history.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// An action in a history.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Provision {
        who: usize,
        keep: bool,
        key: Option<u8>,
    },
    Destroy {
        who: usize,
        force: bool,
        key: Option<u8>,
    },
    Cancel {
        who: usize,
    },
    Lease {
        who: usize,
        lease: u8,
        millis: u16,
    },
    Release {
        lease: u8,
    },
    Start,
    Work {
        who: usize,
        steps: u8,
    },
    Finish {
        who: usize,
        how: EffectEnd,
    },
    Repeat {
        who: usize,
    },
    Wait {
        millis: u16,
    },
    /// Days in which retentions and ages end.
    Days {
        days: u8,
    },
    Dirty {
        who: usize,
    },
    Crash {
        how_far: u8,
    },
    Restore {
        who: usize,
        life: Option<u32>,
    },
    Adopt {
        who: usize,
    },
    /// A tool writes rebuildable output.
    Build {
        who: usize,
    },
    Clean {
        who: usize,
        now: bool,
    },
    UndoClean {
        who: usize,
    },
    EmptyTrash {
        who: Option<usize>,
        lose: bool,
    },
    DiskLow,
    DropRescue {
        who: usize,
        life: u32,
    },
    Sweep,
    /// Watching of some incarnation is given up, maybe late.
    GiveUp {
        who: usize,
        life: u32,
    },
    WatchAgain {
        who: usize,
    },
    /// People call it otherwise, or not at all.
    Label {
        who: usize,
        n: Option<u8>,
    },
    /// A control server sends a live set: the names in the mask.
    Reconcile {
        mask: u8,
        epoch: u64,
        confirmed: bool,
    },
    Confirm {
        epoch: u64,
    },
    Run {
        who: usize,
        key: u8,
        lease: Option<u8>,
    },
    EndRun {
        key: u8,
    },
    /// The state forgets finished lives.
    Forget {
        most: usize,
    },
    /// Everything succeeds for a while, so that histories reach the late phases of an incarnation.
    Flow {
        rounds: u8,
    },
}

/// The end of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EffectEnd {
    Well,
    Transient,
    Permanent,
    WrongOutcome,
}

/// Draws any action, the likelier ones more often.
#[cfg(test)]
pub(crate) fn act() -> impl Strategy<Value = Act> {
    let who = 0..NAMES.len();
    let key = proptest::option::weighted(0.2, 0..3_u8);
    let life = 1..4_u32;
    let how = prop_oneof![
        8 => Just(EffectEnd::Well),
        2 => Just(EffectEnd::Transient),
        1 => Just(EffectEnd::Permanent),
        1 => Just(EffectEnd::WrongOutcome),
    ];
    prop_oneof![
        3 => (who.clone(), any::<bool>(), key.clone())
            .prop_map(|(who, keep, key)| Act::Provision { who, keep, key }),
        3 => (who.clone(), any::<bool>(), key)
            .prop_map(|(who, force, key)| Act::Destroy { who, force, key }),
        1 => who.clone().prop_map(|who| Act::Cancel { who }),
        1 => (who.clone(), 0..3_u8, any::<u16>())
            .prop_map(|(who, lease, millis)| Act::Lease { who, lease, millis }),
        1 => (0..3_u8).prop_map(|lease| Act::Release { lease }),
        6 => Just(Act::Start),
        6 => (who.clone(), 0..4_u8).prop_map(|(who, steps)| Act::Work { who, steps }),
        8 => (who.clone(), how).prop_map(|(who, how)| Act::Finish { who, how }),
        1 => who.clone().prop_map(|who| Act::Repeat { who }),
        3 => any::<u16>().prop_map(|millis| Act::Wait { millis }),
        1 => (1..4_u8).prop_map(|days| Act::Days { days }),
        2 => who.clone().prop_map(|who| Act::Dirty { who }),
        4 => (who.clone(), proptest::option::of(life.clone()))
            .prop_map(|(who, life)| Act::Restore { who, life }),
        1 => prop_oneof![
            who.clone().prop_map(|who| Act::Adopt { who }),
            (who.clone(), proptest::bool::weighted(0.2))
                .prop_map(|(who, now)| Act::Clean { who, now }),
            (proptest::option::of(who.clone()), any::<bool>())
                .prop_map(|(who, lose)| Act::EmptyTrash { who, lose }),
            Just(Act::DiskLow),
            (who.clone(), life.clone()).prop_map(|(who, life)| Act::DropRescue { who, life }),
            Just(Act::Sweep),
            (who.clone(), life).prop_map(|(who, life)| Act::GiveUp { who, life }),
            who.clone().prop_map(|who| Act::WatchAgain { who }),
            (who.clone(), proptest::option::of(0..2_u8))
                .prop_map(|(who, n)| Act::Label { who, n }),
            (0..3_u64).prop_map(|epoch| Act::Confirm { epoch }),
            (who.clone(), 0..3_u8, proptest::option::of(0..3_u8))
                .prop_map(|(who, key, lease)| Act::Run { who, key, lease }),
            (0..3_u8).prop_map(|key| Act::EndRun { key }),
        ],
        2 => (1..4_usize).prop_map(|most| Act::Forget { most }),
        2 => prop_oneof![
            who.clone().prop_map(|who| Act::Build { who }),
            who.clone().prop_map(|who| Act::Clean { who, now: false }),
            who.clone().prop_map(|who| Act::UndoClean { who }),
        ],
        1 => (0..8_u8, 0..4_u64, any::<bool>())
            .prop_map(|(mask, epoch, confirmed)| Act::Reconcile { mask, epoch, confirmed }),
        2 => (0..4_u8).prop_map(|how_far| Act::Crash { how_far }),
        5 => (1..8_u8).prop_map(|rounds| Act::Flow { rounds }),
    ]
}

pub(crate) fn name(who: usize) -> EnvironmentId {
    EnvironmentId::parse(NAMES[who]).expect("a valid name")
}

pub(crate) fn destroy(who: usize, force: bool, key: Option<u8>) -> Command {
    Command::Destroy {
        environment: name(who),
        incarnation: None,
        force,
        options: TeardownOptions::default(),
        actor: Actor::default(),
        request: request(key),
    }
}

pub(crate) fn request(key: Option<u8>) -> Option<RequestId> {
    key.map(|k| RequestId::parse(&format!("key{k}")).expect("a valid key"))
}
