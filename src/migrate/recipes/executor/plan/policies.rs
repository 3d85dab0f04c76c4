//! Migrates policies. Tool names gained two segments in the new generation, so the patterns over
//! them gain two as well. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{ClashOutcome, ClashOutcomes};
use crate::losses::{Cause, Losses};
use crate::scope::Owner;
use crate::snapshot::{Policy, Snapshot};

/// The source that the curated one replaced; its policies move to the curated one.
const GRAPH: &str = "microsoft_graph";
const GRAPH_CURATED: &str = "microsoft_graph_v1_0_sharepoint_files_excel_outlook_combined_curated";

/// A policy of the new generation, with the scope that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) scope: String,
    pub(crate) owner: Owner,
    pub(crate) id: String,
    pub(crate) pattern: String,
    pub(crate) action: String,
    pub(crate) position: String,
}

/// Counts of policies for the report: rewritten, about built-in tools, without a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ok: u64,
    pub(crate) fixed: u64,
    pub(crate) dead: u64,
}

/// Migrates all policies. A policy whose source does not exist is kept unchanged, with a warning.
pub(super) fn carry(
    snapshot: &Snapshot,
    tenant: &str,
    outcomes: &ClashOutcomes,
    losses: &Losses,
    warnings: &mut Vec<String>,
) -> (Vec<Carried>, Counts) {
    let mut pool: BTreeSet<&str> = snapshot.tool_sources.iter().map(String::as_str).collect();
    pool.extend(snapshot.sources.iter().map(|source| source.id.as_str()));
    let curated = curated(snapshot, tenant);
    let mut counts = Counts::default();
    let mut carried = Vec::new();
    for policy in &snapshot.policies {
        let owner = Owner::of(&policy.scope, tenant);
        let (slug, rest) = split(&policy.pattern);
        let known = pool.contains(slug);
        let to = match outcomes.of(&policy.scope, slug) {
            Some(ClashOutcome::Renamed(name)) => Some(name.as_str()),
            _ if slug == GRAPH && curated.contains(&owner.tenant) => Some(GRAPH_CURATED),
            _ => known.then_some(slug),
        };
        let fixed = matches!(slug, "executor" | "openapi");
        let pattern = if policy.pattern == "*" {
            counts.ok += 1;
            policy.pattern.clone()
        } else if fixed {
            counts.fixed += 1;
            if known {
                losses.note(Cause::PolicyStatic, || describe(policy));
            }
            policy.pattern.clone()
        } else if let Some(to) = to {
            counts.ok += 1;
            rewritten(to, rest)
        } else {
            counts.dead += 1;
            let pattern = &policy.pattern;
            warnings.push(format!(
                "Dead-source policy kept inert: \"{pattern}\" (slug \"{slug}\" removed)."
            ));
            pattern.clone()
        };
        carried.push(to_row(policy, owner, pattern));
    }
    (carried, counts)
}

/// Describes a policy for warnings.
pub(crate) fn describe(policy: &Policy) -> String {
    format!("policy {:?} of scope {:?} ({:?})", policy.id, policy.scope, policy.pattern)
}

fn to_row(policy: &Policy, owner: Owner, pattern: String) -> Carried {
    let Policy { scope, id, action, position, .. } = policy.clone();
    Carried { scope, owner, id, pattern, action, position }
}

/// Returns the first segment of a pattern, and the text behind its dot.
fn split(pattern: &str) -> (&str, Option<&str>) {
    match pattern.split_once('.') {
        Some((slug, rest)) => (slug, Some(rest)),
        None => (pattern, None),
    }
}

fn rewritten(slug: &str, rest: Option<&str>) -> String {
    match rest {
        None | Some("") => slug.to_owned(),
        Some("*") => format!("{slug}.*"),
        Some(rest) => format!("{slug}.*.*.{rest}"),
    }
}

/// Returns the tenants that have the curated source but not the one that it replaced.
fn curated(snapshot: &Snapshot, tenant: &str) -> BTreeSet<String> {
    let mut slugs: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for source in &snapshot.sources {
        let owner = Owner::of(&source.scope, tenant);
        slugs.entry(owner.tenant).or_default().insert(&source.id);
    }
    slugs.retain(|_, ids| ids.contains(GRAPH_CURATED) && !ids.contains(GRAPH));
    slugs.into_keys().collect()
}
