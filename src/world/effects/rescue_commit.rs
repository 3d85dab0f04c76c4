//! The commit of a rescue, made from its parts, and the refs that hold it. Never touches the
//! worktree.

use std::process::Command;

use crate::core::event::Rescue;
use crate::core::{Code, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::raw_copies::Copies;
use crate::world::effects::rescuer::{
    PARENTS_MAX, RescueParts, Rescuer, SavedWork, bounded, commit_of, is_whole, sign,
};
use crate::world::git;
use crate::world::git::error::Reason;
use crate::world::git::gc;
use crate::world::git::heads::Heads;
use crate::world::git::ref_changes::{self, Change};
use crate::world::process::subprocess::Finished;

impl Rescuer<'_> {
    /// Makes the rescue commit from its parts, and completes the raw copies;
    /// none if nothing was found.
    pub(in crate::world) fn finish(
        &self,
        heads: &Heads,
        mut parts: RescueParts,
        mut nested: Vec<crate::core::event::NestedRescue>,
        mut copies: Copies<'_>,
    ) -> Result<Option<SavedWork>, Fault> {
        let others = parts.holds.len();
        if let Some(head) = parts.parents.first() {
            match heads.unpushed(&self.repository(), std::slice::from_ref(head)) {
                Ok(0) => {}
                Ok(own) => parts.holds.push(format!("{own} commits")),
                Err(error) if self.cancel.is_cancelled() => return Err(error.into()),
                // One broken ref anywhere makes git fail. The commits are held in any case.
                Err(_) => parts.holds.push("its commits".to_owned()),
            }
        }
        // This rescue replaces the earlier one, so it has to contain what the earlier one saved.
        if let Some(earlier) = self.before.as_ref().and_then(|before| before.raw.as_ref()) {
            copies.carry(earlier, &self.target)?;
        }
        let (raw, lacks) = copies.finish()?;
        parts.lacks.extend(lacks);
        let only_commits = others == 0 && raw.is_none() && parts.lacks.is_empty();
        if let Some(raw) = &raw {
            parts.holds.push(format!("{} files as raw copies in the data directory", raw.files));
        }
        if parts.holds.is_empty() && parts.lacks.is_empty() {
            return Ok(None);
        }
        self.keep_nested(&mut nested);
        bounded(&mut parts.lacks);
        let (mut reference, mut commit) = (None, None);
        if let Some(tree) = parts.tree.take() {
            match self.commit_parts(&tree, &mut parts) {
                Ok(made) => (reference, commit) = (Some(self.names().rescue()), Some(made)),
                Err(fault) if fault.code == Code::DiskFull || raw.is_none() => return Err(fault),
                // With raw copies the rescue is still worth having; it
                // lists the commits as lacking.
                Err(fault) => parts.lacks.push(format!("commits: {}", fault.message)),
            }
        }
        let RescueParts { holds, lacks, .. } = parts;
        let rescue = Rescue { reference, commit, holds, lacks, raw, nested };
        Ok(Some(SavedWork { rescue, only_commits }))
    }

    /// Returns the commit of the parts: the earlier one if it is of the same, so that a second look
    /// leaves no object that nothing refers to; otherwise a new one, which holds the earlier one.
    fn commit_parts(&self, tree: &str, parts: &mut RescueParts) -> Result<String, Fault> {
        let parents = std::mem::take(&mut parts.parents);
        let earlier = self.earlier_commit()?;
        if let Some(earlier) = &earlier
            && self.listed(&[earlier])?.iter().any(|known| known.is_of(tree, &parents))
        {
            return Ok(earlier.clone());
        }
        let earlier = earlier.filter(|earlier| !parents.contains(earlier));
        let parents = self.gathered(tree, parents.into_iter().chain(earlier).collect())?;
        self.commit(tree, &parents, &self.message(&parts.holds))
    }

    /// Returns the commit of a part of a rescue, such as the index: that in the earlier rescue if
    /// it is the same part of the same content.
    pub(in crate::world) fn commit_part(
        &self,
        tree: &str,
        parents: &[String],
        message: &str,
    ) -> Result<String, Fault> {
        if let Some(earlier) = self.earlier_commit()? {
            let known = self.listed(&[&format!("{earlier}^@")])?;
            let same = |part: &&KnownCommit| part.subject == message && part.is_of(tree, parents);
            if let Some(same) = known.iter().find(same) {
                return Ok(same.id.clone());
            }
        }
        self.commit(tree, parents, message)
    }

    /// Reads commits. None where one cannot be read: it serves nothing then.
    fn listed(&self, names: &[&str]) -> Result<Vec<KnownCommit>, Fault> {
        let format = "--format=%H%x01%T%x01%P%x01%s";
        let list = ["rev-list", "--no-walk=unsorted", "--no-commit-header", format];
        let command = self.repository().command(list.into_iter().chain(names.iter().copied()));
        let Ok(listed) = self.line(command)? else { return Ok(Vec::new()) };
        Ok(listed.lines().filter_map(KnownCommit::parse).collect())
    }

    /// Adds what an earlier rescue of this incarnation saved of nested repositories
    /// that are no longer whole.
    pub(in crate::world) fn keep_nested(&self, nested: &mut Vec<crate::core::event::NestedRescue>) {
        let before = self.before.iter().flat_map(|before| &before.nested);
        for known in before.filter(|known| known.commit.is_some()) {
            let lost = |now: &&mut crate::core::event::NestedRescue| now.path == known.path;
            match nested.iter_mut().find(lost) {
                Some(now) if now.commit.is_some() => {}
                Some(now) => known.clone_into(now),
                None => nested.push(known.clone()),
            }
        }
    }

    /// Returns the commit of an earlier rescue of this incarnation: the recorded one, or one that a
    /// daemon made and was killed before recording.
    pub(in crate::world) fn earlier_commit(&self) -> Result<Option<String>, Fault> {
        let known = self.before.as_ref().and_then(|rescue| rescue.commit.clone());
        let own = commit_of(&self.repository(), &self.names().rescue())?;
        Ok(own.or(known))
    }

    /// Bounds the parents of a commit: more than [`PARENTS_MAX`] are held
    /// through intermediate commits.
    pub(in crate::world) fn gathered(
        &self,
        tree: &str,
        parents: Vec<String>,
    ) -> Result<Vec<String>, Fault> {
        let mut parents = parents;
        while parents.len() > PARENTS_MAX {
            // The positions of the first two are significant: HEAD and the index.
            let rest = parents.split_off(2);
            for some in rest.chunks(PARENTS_MAX - 2) {
                parents.push(self.commit(tree, some, "commits that a rescue holds")?);
            }
        }
        Ok(parents)
    }

    /// The message of the rescue commit: what it holds, and where it came from.
    pub(in crate::world) fn message(&self, holds: &[String]) -> String {
        let life = self.life;
        let head = format!("rescue of {}, incarnation {}", life.id, life.incarnation);
        let list = holds.iter().fold(String::new(), |list, h| list + &format!("holds: {h}\n"));
        format!(
            "{head}\n\n{list}branch: {}\npath: {}\n\nThe first parent is HEAD. The tree is the \
             working tree, without what git ignores.\n",
            self.plan.branch, self.plan.path
        )
    }

    /// Sets the ref of a rescue, and verifies that every object exists before and after.
    ///
    /// # Errors
    /// Those of git; no ref then names a missing object.
    pub(in crate::world) fn refer(&self, rescue: &Rescue) -> Result<(), Fault> {
        if let (Some(reference), Some(commit)) = (&rescue.reference, &rescue.commit) {
            self.hold(reference, commit)?;
        }
        point("rescue.referenced");
        Ok(())
    }

    /// Sets a ref of this incarnation to a commit: creates it, or replaces what
    /// this incarnation had there.
    pub(in crate::world) fn hold(&self, reference: &str, commit: &str) -> Result<(), Fault> {
        let (common, git) = (self.common(), self.repository());
        ref_changes::break_stale(&common, reference);
        // A concurrent `git gc` may have pruned the objects; the ref must not be created then.
        is_whole(&git, commit)?;
        let before = commit_of(&git, reference)?;
        // All zeros: git refuses the update if another process has created the ref meanwhile.
        let old = before.clone().unwrap_or_else(|| "0".repeat(commit.len()));
        let args = ["-c", "core.fsync=all", "update-ref", "--create-reflog", "-m", "rescued"];
        git.output(args.into_iter().chain([reference, commit, old.as_str()]))?;
        // One that read the refs before this one was set may still unlink what it names.
        let held = if gc::wait(&git, &common, self.cancel) {
            is_whole(&git, commit)
        } else {
            let message = format!("a `git gc` that prunes works in {}", common.display());
            let hint = "wait for its end, then run the command again";
            Err(Fault::new(Code::RepositoryLocked, message, hint).transient())
        };
        if let Err(fault) = held {
            // A concurrent `git gc` pruned objects between the check and its end. The
            // ref and its reflog must not name them for ever. The worktree is still in
            // place, and is saved again.
            let earlier = before.filter(|before| is_whole(&git, before).is_ok());
            let back = match earlier {
                Some(earlier) => git.output(["update-ref", reference, &earlier]).map(drop),
                None => Change::of(&git, &common, reference).delete(Some(commit)),
            };
            if let Err(error) = back {
                tracing::warn!(%reference, %error, "cannot take back a ref to a pruned commit");
            }
            return Err(fault);
        }
        Ok(())
    }

    pub(in crate::world) fn tree_of(&self, commit: &str) -> Result<String, Fault> {
        Ok(self.repository().line(["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?)
    }

    /// Runs git and returns its output, without the end of the last line. The inner error is a
    /// failure that the caller may work around; a full disk is an error of its own, because nothing
    /// else can succeed then.
    pub(in crate::world) fn line(
        &self,
        command: Command,
    ) -> Result<Result<String, Finished>, Fault> {
        let finished = self.repository().run_command(command)?;
        if !finished.status.success() {
            let error = git::Error::failed("git", &finished);
            let is_full = error.reason() == Some(Reason::DiskFull);
            return if is_full { Err(error.into()) } else { Ok(Err(finished)) };
        }
        Ok(Ok(String::from_utf8_lossy(&finished.stdout).trim_end().to_owned()))
    }

    /// Creates a commit with the given tree and parents. Flushes it to disk: the worktree is
    /// removed on the strength of it.
    pub(in crate::world) fn commit(
        &self,
        tree: &str,
        parents: &[String],
        message: &str,
    ) -> Result<String, Fault> {
        let mut args = vec!["-c", "commit.gpgSign=false", "-c", "core.fsync=all"];
        args.extend(["-c", "core.fsyncMethod=batch", "commit-tree", tree, "-m", message]);
        for parent in parents {
            args.extend(["-p", parent]);
        }
        let mut command = self.repository().command(&args);
        sign(&mut command);
        let made = self.line(command)?;
        made.map_err(|finished| git::Error::failed("git commit-tree", &finished).into())
    }
}

/// A commit of an earlier rescue.
struct KnownCommit {
    id: String,
    tree: String,
    parents: Vec<String>,
    subject: String,
}

impl KnownCommit {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, '\x01').map(str::to_owned);
        let (id, tree) = (fields.next()?, fields.next()?);
        let parents = fields.next()?.split_whitespace().map(str::to_owned).collect();
        Some(Self { id, tree, parents, subject: fields.next()? })
    }

    fn is_of(&self, tree: &str, parents: &[String]) -> bool {
        self.tree == tree && self.parents == parents
    }
}
