//! Laws about a fake disk at rest: it agrees with the state, and no work is lost.

use crate::Phase;
use crate::sim::disk::Traces;
use crate::sim::harness::Harness;

impl Harness {
    /// Asserts that the simulated disk holds what the state says, and nothing else.
    ///
    /// # Panics
    /// When it does not.
    pub fn disk_agrees(&self) {
        // Also of what the state has forgotten.
        let known = self.memory.whole();
        for env in known.environments().filter(|e| !e.adopted) {
            let traces = self.disk.get(&env.id).cloned().unwrap_or_default();
            let kept = env.phase == Phase::Failed && env.worktree.is_some();
            let expected = env.phase == Phase::Ready || kept;
            let whole = traces.branch && traces.registration && traces.directory;
            let gone = !traces.branch && !traces.registration && !traces.directory;
            // A removal that was given up names its leftovers for the sweep.
            let excused = !env.leftovers.is_empty();
            assert!(
                if expected { whole } else { gone || excused },
                "{}: {} but {traces:?}",
                env.id,
                env.phase.as_str()
            );
        }
        for (id, traces) in &self.disk {
            for clean in &traces.cleaned {
                assert!(self.state.output(id, *clean).is_some(), "{id}: {clean} is stranded");
            }
            let explained = known.environment(id).is_some();
            assert!(
                explained || *traces == Traces::default(),
                "{id}: unexplained traces {traces:?}"
            );
        }
    }

    /// Checks that every piece of work is in a directory, in the trash, under a rescue ref, or was
    /// discarded by a retention or request that the log names.
    ///
    /// # Panics
    /// When a piece is nowhere.
    pub fn no_work_is_lost(&self) {
        let mut there = self.released.clone();
        for traces in self.disk.values() {
            let kept = traces.trash.values().chain(traces.rescued.values());
            there.extend(kept.flatten().chain(&traces.work));
        }
        let lost: Vec<u32> = (1..=self.made).filter(|n| !there.contains(n)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}
