//! Whether host and server agree: what must be the same on both sides when nothing is under way.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use crate::core::Phase;
use crate::server::sim::network::{HOST, Model, NAMES};
use crate::server::transitions::Status;
use crate::server::{operations, store, threads};

impl Model {
    /// Lists the differences between the two sides.
    pub(super) fn differences(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let sides = self
            .with(|tx| Ok((store::list(tx, HOST, true)?, operations::open_operations(tx, HOST)?)));
        let (list, under_way) = sides.expect("looked");
        let rows: BTreeMap<&str, (Status, u32)> =
            list.iter().map(|row| (row.id.as_str(), (row.status, row.incarnation))).collect();
        for operation in under_way {
            found.push(format!("{} {} is under way", operation.command, operation.id));
        }
        if !self.host.is_quiet() {
            found.push("the host has something to do or to say".to_owned());
        }
        for env in self.host.state().environments() {
            let row = rows.get(env.id.as_str()).copied();
            let agrees = match env.phase {
                Phase::Ready => {
                    matches!(row, Some((Status::Ready | Status::Retiring, n)) if n == env.incarnation)
                }
                Phase::Tombstoned => {
                    matches!(row, None | Some((Status::Destroyed | Status::Error, _)))
                }
                Phase::Failed => matches!(row, Some((Status::Destroyed | Status::Error, _))),
                _ => false,
            };
            if !agrees {
                let (id, life, phase) = (&env.id, env.incarnation, env.phase);
                found.push(format!("{id}: {phase:?} {life} here, {row:?} there"));
            }
        }
        for (id, (status, _)) in &rows {
            let known = self.host.state().environments().any(|env| env.id.as_str() == *id);
            if !known && !matches!(status, Status::Error | Status::Destroyed) {
                found.push(format!("{id}: unknown here, {status:?} there"));
            }
        }
        let (here, there) = (self.host.leases(), self.leases());
        if here != there {
            found.push(format!("leases {here:?} here, {there:?} there"));
        }
        found
    }

    /// Returns the leases of active threads.
    fn leases(&mut self) -> BTreeSet<String> {
        let of = |tx: &Transaction<'_>| {
            let mut found = BTreeSet::new();
            for id in NAMES {
                found.extend(threads::active(tx, HOST, id)?.into_iter().map(|t| t.lease));
            }
            Ok(found)
        };
        self.with(of).expect("asked")
    }
}
