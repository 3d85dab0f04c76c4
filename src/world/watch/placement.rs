//! Spreads trees over the instances of the Linux backend: few trees share one, many use all.
//!
//! It makes and closes no instance; its caller does.

use std::collections::BTreeMap;

use crate::world::watch::backend::{Failure, TreeId};

/// Bound on the instances; trees are spread over them, so an overflow hits only a part.
pub(super) const SHARDS: usize = 4;
/// Trees that share an instance before another one is made: a worktree with its refs is two, and a
/// daemon of a few worktrees needs one instance only.
const TREES_EACH: usize = 8;

/// The instance that each tree lives in.
#[derive(Debug, Default)]
pub(super) struct Placement {
    of: BTreeMap<TreeId, usize>,
    /// Number of trees of each instance; one without trees does not exist.
    trees: [usize; SHARDS],
}

impl Placement {
    /// Returns the instance of a tree.
    pub(super) fn of(&self, tree: TreeId) -> Option<usize> {
        self.of.get(&tree).copied()
    }

    /// Places one more tree, and returns its instance. `open` makes one that does not exist.
    ///
    /// # Errors
    /// That of `open`, when there is no other instance either.
    pub(super) fn add(
        &mut self,
        tree: TreeId,
        open: impl FnOnce(usize) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let trees = &self.trees;
        let used = (0..SHARDS).filter(|at| trees[*at] > 0).min_by_key(|at| trees[*at]);
        let unused = (0..SHARDS).find(|at| trees[*at] == 0);
        let place = match (used, unused) {
            // Where the system grants no other instance, the trees share those that exist.
            (Some(used), Some(new)) if trees[used] >= TREES_EACH => {
                open(new).map_or(used, |()| new)
            }
            (Some(used), _) => used,
            (None, Some(new)) => open(new).map(|()| new)?,
            (None, None) => return Err(Failure::Refused),
        };
        self.of.insert(tree, place);
        self.trees[place] += 1;
        Ok(place)
    }

    /// Removes a tree. Returns its instance, and whether that has no other tree.
    pub(super) fn remove(&mut self, tree: TreeId) -> Option<(usize, bool)> {
        let place = self.of.remove(&tree)?;
        self.trees[place] -= 1;
        Some((place, self.trees[place] == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(_: usize) -> Result<(), Failure> {
        Err(Failure::Limit("no more".to_owned()))
    }

    #[test]
    fn few_trees_share_one_instance() {
        let mut placement = Placement::default();
        let mut made = Vec::new();
        for tree in 0..200 {
            placement
                .add(tree, |at| {
                    made.push(at);
                    Ok(())
                })
                .expect("placed");
            assert_eq!(made.len(), (tree as usize / TREES_EACH + 1).min(SHARDS), "{tree}");
        }
        assert_eq!(placement.trees, [200 / SHARDS; SHARDS]);
        let emptied = (0..200).filter(|tree| placement.remove(*tree).is_some_and(|(_, e)| e));
        assert_eq!(emptied.count(), SHARDS);
        assert_eq!(placement.remove(7), None);
    }

    #[test]
    fn refused_instance_is_shared_or_reported() {
        let mut placement = Placement::default();
        assert!(matches!(placement.add(1, refused), Err(Failure::Limit(_))));
        assert_eq!(placement.remove(1), None, "it was not placed");
        placement.add(1, |_| Ok(())).expect("placed");
        for tree in 2..50 {
            assert_eq!(placement.add(tree, refused).expect("shared"), 0);
        }
    }
}
