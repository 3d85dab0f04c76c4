//! Parts that several subjects have: text, paths, faults, actors, rescues, processes.

use std::borrow::Cow;

use crate::event;
use crate::fault::{Code, Fault as LiveFault};
use crate::id::HostPath;
use crate::snapshot::frozen::{OrEmpty, frozen_structs};

/// One text.
pub(in crate::snapshot) type Text<'a> = Cow<'a, str>;
/// A list of texts.
pub(in crate::snapshot) type Texts<'a> = Cow<'a, [String]>;
/// A path of the host.
pub(in crate::snapshot) type Path<'a> = Cow<'a, HostPath>;

frozen_structs! {
    pub(in crate::snapshot) struct Fault<'a> of LiveFault {
        code: Cow<'a, Code>,
        message: Text<'a>,
        causes: Texts<'a>,
        evidence: Texts<'a>,
        hint: Text<'a>,
        transient: bool,
    }
    pub(in crate::snapshot) struct Actor<'a> of event::Actor {
        origin: Cow<'a, event::Origin>,
        uid: u32,
        pid: u32,
    }
    pub(in crate::snapshot) struct Size of event::Size {
        entries: u64,
        apparent: u64,
        allocated: u64,
    }
    pub(in crate::snapshot) struct ProcessSeen<'a> of event::ProcessSeen {
        pid: u32,
        started: u64,
        name: Text<'a>,
        why: Text<'a>,
    }
    pub(in crate::snapshot) struct Rescue<'a> of event::Rescue {
        reference: OrEmpty<'a, String>,
        commit: OrEmpty<'a, String>,
        holds: Texts<'a>,
        lacks: Texts<'a>,
        raw: Option<RawCopies<'a>>,
        nested: Vec<NestedRescue<'a>>,
    }
    pub(in crate::snapshot) struct RawCopies<'a> of event::RawCopies {
        folder: Path<'a>,
        files: u64,
        bytes: u64,
        digest: Text<'a>,
    }
    pub(in crate::snapshot) struct NestedRescue<'a> of event::NestedRescue {
        path: Path<'a>,
        reference: OrEmpty<'a, String>,
        commit: OrEmpty<'a, String>,
        head: OrEmpty<'a, String>,
    }
}
