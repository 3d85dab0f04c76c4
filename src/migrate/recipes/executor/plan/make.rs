//! Makes the whole plan: its parts in the order in which the original makes them, which is also the
//! order of the original's warnings. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::clashes::{ClashOutcome, ClashOutcomes, Clashes, Verdict};
use super::clients;
use super::groups::Groups;
use super::policies::{self, Carried, Counts};
use super::stored_secrets::StoredSecrets;
use crate::losses::{Cause, Losses};
use crate::plan::target::{Client, SecretOp, SecretRef, Target};
use crate::scope::Owner;
use crate::slug;
use crate::snapshot::{Secret, Snapshot, Source};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::OnConflict;

/// The inputs of a plan besides the snapshot.
pub(crate) struct Context<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) now_ms: i64,
    pub(crate) conflicts: OnConflict,
    pub(crate) losses: &'a Losses,
}

/// The plan: the contents of the new database, except rows of the big tables.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Results for the sources that clashed.
    pub(crate) outcomes: ClashOutcomes,
    pub(crate) targets: Vec<Target>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ops: Vec<SecretOp>,
    pub(crate) policies: Vec<Carried>,
    pub(crate) counts: Counts,
    pub(crate) stale: usize,
    /// The original's warnings, in the original's order.
    pub(crate) warnings: Vec<String>,
}

/// Makes the plan.
///
/// # Errors
/// `migration_conflict` when rows clash and the policy is to refuse.
pub(crate) fn make(snapshot: &Snapshot, context: &Context<'_>) -> Result<Plan, Fault> {
    let Context { tenant, now_ms, losses, .. } = *context;
    let mut clashes = Clashes::new(context.conflicts, losses);
    let outcomes = outcomes(&snapshot.sources, tenant, losses, &mut clashes);
    let mut groups = Groups::new(snapshot, tenant, now_ms, losses);
    groups.plan();
    let stale: Vec<String> =
        groups.stale().iter().map(|c| format!("{:?} of scope {:?}", c.id, c.scope)).collect();
    let Groups { targets, secrets, mut warnings, .. } = groups;
    let StoredSecrets { mut ops, used, .. } = secrets;
    let mut targets = placed(targets, &outcomes, losses, &mut clashes);
    let clients = clients::share(&mut targets, losses);
    ops.extend(orphans(&snapshot.secrets, &used, tenant, losses));
    let (carried, counts) = policies::carry(snapshot, tenant, &outcomes, losses, &mut warnings);
    if !stale.is_empty() {
        warnings.push(format!(
            "{} unbound v1 connection row(s) were not migrated (no source binding); their tokens \
             migrate as orphan secrets.",
            stale.len()
        ));
    }
    for name in &stale {
        losses.note(Cause::ConnectionUnbound, || name.clone());
    }
    let policies = apart(carried, &mut clashes);
    // Last, so that one refusal names the clashes of all planned tables.
    clashes.settle()?;
    let (ops, stale) = (once(ops), stale.len());
    Ok(Plan { outcomes, targets, clients, ops, policies, counts, stale, warnings })
}

impl Plan {
    /// Returns the original's counts about the plan, as JSON.
    pub(crate) fn report(&self, integrations: u64) -> String {
        let Counts { ok, fixed, dead } = self.counts;
        format!(
            "{{\"integrations\":{integrations},\"connections\":{},\"oauthClients\":{},\
             \"secretOps\":{},\"staleConnections\":{},\
             \"policies\":{{\"ok\":{ok},\"static\":{fixed},\"deadInert\":{dead}}}}}",
            self.targets.len(),
            self.clients.len(),
            self.ops.len(),
            self.stale,
        )
    }
}

/// Decides about sources of one tenant with the same id, which would be the same integration.
fn outcomes(
    sources: &[Source],
    tenant: &str,
    losses: &Losses,
    clashes: &mut Clashes<'_>,
) -> ClashOutcomes {
    let mut taken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let home = |source: &Source| Owner::of(&source.scope, tenant).tenant;
    // All ids first, so that a new slug never takes the id of a later source.
    for source in sources {
        taken.entry(home(source)).or_default().insert(source.id.clone());
    }
    let describe = |s: &Source| format!("source {:?} of scope {:?} ({:?})", s.id, s.scope, s.name);
    let mut first: BTreeMap<(String, &str), &Source> = BTreeMap::new();
    let mut outcomes = ClashOutcomes::default();
    for source in sources {
        let key = (home(source), source.id.as_str());
        let Some(earlier) = first.get(&key) else {
            first.insert(key, source);
            continue;
        };
        let row = describe(source);
        if earlier.scope == source.scope {
            // Two rows of one scope and id: all references to one are references to the other too,
            // so a new slug for one would not separate them.
            if clashes.record_clash("integration", &source.id, || vec![describe(earlier)], &row)
                == Verdict::Rename
            {
                losses.note(Cause::ConflictLeft, || format!("integration {:?}: {row}", source.id));
            }
            continue;
        }
        let outcome =
            match clashes.record_clash("integration", &source.id, || vec![describe(earlier)], &row)
            {
                Verdict::Leave => ClashOutcome::Left,
                Verdict::Rename => {
                    let names = taken.entry(key.0).or_default();
                    let to = slug::unique(&source.id, names);
                    clashes.renamed("integration", &source.id, &to, &row);
                    ClashOutcome::Renamed(to)
                }
            };
        outcomes.0.insert((source.scope.clone(), source.id.clone()), outcome);
    }
    outcomes
}

/// Returns the connections with the current slugs of their sources, each with a unique name.
fn placed(
    targets: Vec<Target>,
    outcomes: &ClashOutcomes,
    losses: &Losses,
    clashes: &mut Clashes<'_>,
) -> Vec<Target> {
    let key = |t: &Target, name: &str| (t.owner.clone(), t.integration.clone(), name.to_owned());
    let mut kept: Vec<Target> = Vec::new();
    let mut names = BTreeMap::new();
    let mut all: BTreeMap<(Owner, String), BTreeSet<String>> = BTreeMap::new();
    let mut moved = Vec::new();
    for mut target in targets {
        if outcomes.left(&target.source_scope, &target.source) {
            losses.note(Cause::FollowsLeft, || target.describe());
            continue;
        }
        let slug = outcomes.slug(&target.source_scope, &target.source).to_owned();
        target.integration = slug;
        let place = (target.owner.clone(), target.integration.clone());
        all.entry(place).or_default().insert(target.name.clone());
        moved.push(target);
    }
    for mut target in moved {
        if let Some(at) = names.get(&key(&target, &target.name)) {
            let earlier: &Target = &kept[*at];
            let row = target.describe();
            let value = format!("{}.{}", target.integration, target.name);
            if clashes.record_clash("connection", &value, || vec![earlier.describe()], &row)
                == Verdict::Leave
            {
                continue;
            }
            let place = (target.owner.clone(), target.integration.clone());
            let name = slug::unique(&target.name, all.entry(place).or_default());
            clashes.renamed("connection", &value, &name, &row);
            target.name = name;
        }
        names.insert(key(&target, &target.name), kept.len());
        kept.push(target);
    }
    kept
}

/// Returns the policies, each with an id that is unique for its owner.
fn apart(carried: Vec<Carried>, clashes: &mut Clashes<'_>) -> Vec<Carried> {
    let describe =
        |c: &Carried| format!("policy {:?} of scope {:?} ({:?})", c.id, c.scope, c.pattern);
    let mut ids: BTreeMap<Owner, BTreeSet<String>> = BTreeMap::new();
    // All ids first, so that a new id never takes that of a later policy.
    for policy in &carried {
        ids.entry(policy.owner.clone()).or_default().insert(policy.id.clone());
    }
    let mut first: BTreeMap<(Owner, String), String> = BTreeMap::new();
    let mut kept = Vec::new();
    for mut policy in carried {
        let key = (policy.owner.clone(), policy.id.clone());
        if let Some(earlier) = first.get(&key) {
            let row = describe(&policy);
            if clashes.record_clash("tool_policy", &policy.id, || vec![earlier.clone()], &row)
                == Verdict::Leave
            {
                continue;
            }
            let id = slug::unique(&policy.id, ids.entry(policy.owner.clone()).or_default());
            clashes.renamed("tool_policy", &policy.id, &id, &row);
            policy.id = id;
        } else {
            first.insert(key, describe(&policy));
        }
        kept.push(policy);
    }
    kept
}

/// Plans to store the secrets that nothing refers to under new ids, as the original does.
fn orphans(
    secrets: &[Secret],
    consumed: &BTreeSet<(String, String)>,
    tenant: &str,
    losses: &Losses,
) -> Vec<SecretOp> {
    let mut ops = Vec::new();
    for Secret { scope, id, name, provider } in secrets {
        if consumed.contains(&(scope.clone(), id.clone())) {
            continue;
        }
        losses.note(Cause::SecretOrphan, || format!("{id:?} ({name:?}) of scope {scope:?}"));
        ops.push(SecretOp {
            provider: provider.clone(),
            owner: Owner::of(scope, tenant),
            item: slug::item_id(scope, id),
            from: Some(SecretRef {
                scope: scope.clone(),
                id: id.clone(),
                provider: provider.clone(),
            }),
            literal: None,
        });
    }
    ops
}

/// Returns each secret once: at the position of the first operation, with the content of the last,
/// as in a JavaScript map.
fn once(ops: Vec<SecretOp>) -> Vec<SecretOp> {
    let mut places: BTreeMap<(String, Owner, String), usize> = BTreeMap::new();
    let mut kept: Vec<SecretOp> = Vec::new();
    for op in ops {
        let key = (op.provider.clone(), op.owner.clone(), op.item.clone());
        if let Some(at) = places.get(&key) {
            kept[*at] = op;
        } else {
            places.insert(key, kept.len());
            kept.push(op);
        }
    }
    kept
}
