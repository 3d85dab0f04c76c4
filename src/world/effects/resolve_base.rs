//! Resolves where an environment starts: the base commit, and whether its branch is available.
//!
//! Reads refs and, on request, fetches one branch within a time limit. A failed fetch does
//! not fail the provision: local knowledge is used, and the record says so. Changes nothing
//! but remote-tracking refs.

use std::path::Path;
use std::time::Duration;

use crate::core::empty_is_none::non_empty;
use crate::core::event::Base;
use crate::core::{Code, EnvironmentOutcome, Fault};
use crate::world::effects::context::Task;
use crate::world::fs::names::Names;
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;
use crate::world::git::fetch;
use crate::world::process;

/// One ref, as `for-each-ref` prints it.
#[derive(Debug, Clone)]
struct Ref {
    name: String,
    /// The commit that it is at, peeled; none if its object is not a commit.
    commit: Option<String>,
    /// The ref that a symbolic ref points to.
    target: Option<String>,
    /// The configured upstream of a branch.
    upstream: Option<String>,
}

impl Ref {
    /// Returns the remote-tracking ref from which it is updated: itself, or its upstream.
    fn tracking(self) -> Option<String> {
        if self.name.starts_with("refs/remotes/") { Some(self.name) } else { self.upstream }
    }
}

const FORMAT: &str = "--format=%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00\
                      %(*objectname)%00%(symref)%00%(upstream)";

/// Performs [`EnvironmentStep::ResolveBase`](crate::core::EnvironmentStep::ResolveBase).
pub(in crate::world) fn resolve(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let plan = &task.env().plan;
    let common = paths::from_host(&plan.repository.common_dir);
    // A bare repository has no worktree to run git in.
    let at = plan.repository.source.as_ref().map_or(common.as_path(), paths::borrowed);
    let git = Git::at(at, Some(task.lock), task.cancel);

    let remotes = slashed_remotes(&common);
    let mut finder = Finder { git: &git, remotes, refs: Vec::new() };
    finder.load(plan.base.as_deref(), &plan.branch)?;
    let own = format!("refs/heads/{}", plan.branch);
    let exists = finder.refs.iter().any(|r| r.name == own);
    branch_fits(&plan.branch, exists, plan.reuse_branch)
        .map_err(|fault| finder.with_way_to_track(fault, &plan.branch, at))?;

    let wanted = if plan.reuse_branch { Some(plan.branch.as_str()) } else { plan.base.as_deref() };
    let mut reference = finder.reference(wanted)?;
    let mut fetch = None;
    if plan.fetch {
        let limit = Duration::from_millis(plan.fetch_limit_ms);
        let tracking = reference.clone().and_then(Ref::tracking).ok_or(git::Error::NoUpstream);
        let names = Names::of(task.log_id(), task.env().life());
        let fetched = tracking.and_then(|name| {
            fetch::fetch(&git, &common, names, &name, limit).map(|fetched| (name, fetched))
        });
        fetch = Some(match fetched {
            Ok((name, fetched)) => {
                // Refs that were read before the fetch may be stale now.
                finder.refs.clear();
                if !plan.reuse_branch {
                    let commit = Some(fetched.commit);
                    reference = Some(Ref { name, commit, target: None, upstream: None });
                }
                fetched.not_moved.map_or("done".to_owned(), |why| format!("done, but {why}"))
            }
            Err(git::Error::Process(error @ process::Error::Cancelled)) => return Err(error.into()),
            Err(error) => format!("not done: {}", Fault::from(error)),
        });
    }
    let commit = finder.commit(wanted, reference.as_ref())?;
    let (reference, upstream) = reference.map(|r| (r.name, r.upstream)).unzip();
    let upstream = upstream.flatten();
    let (ahead, behind) = finder.distance(&commit, upstream.as_deref())?;
    Ok(EnvironmentOutcome::Resolved(Base { commit, reference, upstream, behind, ahead, fetch }))
}

/// Refuses a new branch whose name exists, and a reused branch that does not exist.
fn branch_fits(branch: &str, exists: bool, reuse: bool) -> Result<(), Fault> {
    match (exists, reuse) {
        (true, false) => Err(Fault::new(
            Code::BranchExists,
            format!("branch {branch} already exists"),
            format!(
                "pass `--branch {branch}` to check it out unchanged, choose another name, or \
                 delete it; an existing branch is never reset"
            ),
        )),
        (false, true) => Err(Fault::new(
            Code::BranchNotFound,
            format!("branch {branch} does not exist and cannot be checked out"),
            "omit --branch to get a new branch, or create this one with `git branch`",
        )),
        _ => Ok(()),
    }
}

/// Returns the configured remotes whose names contain a slash, as far as the repository's own
/// settings tell: the parts of such a name must not be taken for a part of the branch.
fn slashed_remotes(common: &Path) -> Vec<String> {
    let text = std::fs::read(common.join("config")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let names = text.lines().filter_map(|line| {
        line.trim_start().strip_prefix("[remote \"")?.split_once("\"]").map(|(name, _)| name)
    });
    names.filter(|name| name.contains('/')).map(str::to_owned).collect()
}

/// Finds the base among the refs that were read.
struct Finder<'a> {
    git: &'a Git<'a>,
    remotes: Vec<String>,
    refs: Vec<Ref>,
}

impl Finder<'_> {
    /// Reads, in one call, all refs that may matter.
    fn load(&mut self, base: Option<&str>, branch: &str) -> Result<(), Fault> {
        let mut patterns = vec![format!("refs/heads/{branch}")];
        match base {
            // A revision such as `HEAD~2` or `a^{commit}` is not a ref, nor is a pattern.
            Some(base) if !base.contains(['*', '?', '[', '~', '^', ':', '@', '\\', ' ']) => {
                patterns.push(format!("refs/heads/{base}"));
                patterns.push(format!("refs/tags/{base}"));
                patterns.push(format!("refs/remotes/{base}"));
                patterns.push(format!("refs/remotes/*/{base}"));
                patterns.extend(self.remotes.iter().map(|r| format!("refs/remotes/{r}/{base}")));
            }
            Some(_) => {}
            None => {
                patterns.push("refs/remotes/*/HEAD".to_owned());
                patterns.extend(self.remotes.iter().map(|r| format!("refs/remotes/{r}/HEAD")));
                patterns.push("refs/heads/main".to_owned());
                patterns.push("refs/heads/master".to_owned());
                // Their usual upstreams: spares a count of commits when nothing differs.
                patterns.push("refs/remotes/*/main".to_owned());
                patterns.push("refs/remotes/*/master".to_owned());
            }
        }
        self.refs = self.list(&patterns)?;
        Ok(())
    }

    fn list(&self, patterns: &[String]) -> Result<Vec<Ref>, Fault> {
        let args = ["for-each-ref", FORMAT].into_iter().chain(patterns.iter().map(String::as_str));
        let out = self.git.output(args)?;
        let text = String::from_utf8_lossy(&out);
        let refs = text.lines().map(|line| {
            let mut fields = line.split('\0').map(str::to_owned);
            let mut next = || fields.next().unwrap_or_default();
            let (name, kind, object) = (next(), next(), next());
            let (peeled_kind, peeled) = (next(), next());
            let commit = match (kind.as_str(), peeled_kind.as_str()) {
                ("commit", _) => Some(object),
                (_, "commit") => Some(peeled),
                _ => None,
            };
            Ref { name, commit, target: non_empty(next()), upstream: non_empty(next()) }
        });
        Ok(refs.collect())
    }

    /// Names, for a branch that exists at a remote only, the command that makes a local one of it.
    fn with_way_to_track(&self, mut fault: Fault, branch: &str, at: &Path) -> Fault {
        let patterns = [format!("refs/remotes/{branch}"), format!("refs/remotes/*/{branch}")];
        let found = self.list(&patterns).ok().and_then(|found| found.into_iter().next());
        let Some(remote) = found.as_ref().and_then(|r| r.name.strip_prefix("refs/remotes/")) else {
            return fault;
        };
        let slashed = self.remotes.iter().find_map(|r| remote.strip_prefix(&format!("{r}/")));
        let local = slashed.or_else(|| remote.split_once('/').map(|(_, name)| name));
        if let (Code::BranchNotFound, Some(local)) = (fault.code, local) {
            let at = paths::as_argument(at);
            let word = |text: &str| paths::as_argument(Path::new(text));
            fault.hint = format!(
                "make a local branch of it with `git -C {at} branch --track {} {}`, then pass \
                 `--branch {}`",
                word(local),
                word(remote),
                word(local)
            );
        }
        fault
    }

    fn find(&self, name: &str) -> Option<&Ref> {
        self.refs.iter().find(|r| r.name == name)
    }

    /// Returns the ref that `wanted` names, or that of the default branch; none for a revision that
    /// is not a ref.
    fn reference(&self, wanted: Option<&str>) -> Result<Option<Ref>, Fault> {
        let Some(wanted) = wanted else { return self.default_branch() };
        for name in [
            format!("refs/heads/{wanted}"),
            format!("refs/tags/{wanted}"),
            format!("refs/remotes/{wanted}"),
            format!("refs/remotes/origin/{wanted}"),
        ] {
            if let Some(found) = self.find(&name) {
                return Ok(Some(found.clone()));
            }
        }
        let suffix = format!("/{wanted}");
        let mut remotes = self
            .refs
            .iter()
            .filter(|r| r.name.starts_with("refs/remotes/") && r.name.ends_with(&suffix));
        // Several remotes have it, or none: git decides what the name means.
        match (remotes.next(), remotes.next()) {
            (Some(only), None) => Ok(Some(only.clone())),
            _ => Ok(None),
        }
    }

    /// Returns the default branch as git users expect it: the remote's default, else `main` or
    /// `master`, else the branch that is checked out.
    fn default_branch(&self) -> Result<Option<Ref>, Fault> {
        let mut heads: Vec<&Ref> = self
            .refs
            .iter()
            .filter(|r| r.name.starts_with("refs/remotes/") && r.name.ends_with("/HEAD"))
            .collect();
        heads.sort_by_key(|r| r.name != "refs/remotes/origin/HEAD");
        if let Some(head) = heads.first() {
            let remote = head.name.strip_suffix("HEAD").unwrap_or_default();
            let target = head.target.as_deref();
            if let Some((target, short)) = target.and_then(|t| Some((t, t.strip_prefix(remote)?))) {
                let local = format!("refs/heads/{short}");
                let found = self.list(&[local.clone(), target.to_owned()])?;
                if let Some(best) = found.iter().find(|r| r.name == local).or(found.first()) {
                    return Ok(Some(best.clone()));
                }
            }
        }
        for name in ["refs/heads/main", "refs/heads/master"] {
            if let Some(found) = self.find(name) {
                return Ok(Some(found.clone()));
            }
        }
        let head = self.git.run(["symbolic-ref", "--quiet", "HEAD"])?;
        let name = String::from_utf8_lossy(&head.stdout).trim_end().to_owned();
        if name.is_empty() {
            return Ok(None);
        }
        let found = self.list(std::slice::from_ref(&name))?;
        Ok(found.into_iter().find(|r| r.name == name))
    }

    /// Returns the commit of the reference or, if that has none, of the revision that git resolves.
    fn commit(&self, wanted: Option<&str>, reference: Option<&Ref>) -> Result<String, Fault> {
        if let Some(commit) = reference.and_then(|r| r.commit.clone()) {
            return Ok(commit);
        }
        let named = reference.map_or(wanted.unwrap_or("HEAD"), |r| r.name.as_str());
        let spec = format!("{named}^{{commit}}");
        let found =
            self.git.run(["rev-parse", "--verify", "--quiet", "--end-of-options", &spec])?;
        if found.status.success() {
            // Some versions of git echo `--end-of-options` itself.
            let text = String::from_utf8_lossy(&found.stdout);
            return Ok(text.lines().last().unwrap_or_default().to_owned());
        }
        match wanted {
            Some(wanted) => Err(Fault::new(
                Code::BaseNotFound,
                format!("no such branch, tag or commit: {wanted:?}"),
                "name a branch, tag, commit or remote branch; --fetch updates the base first",
            )),
            None => Err(Fault::new(
                Code::NoCommits,
                "the repository has no commit to start from",
                "create a first commit with `git commit`",
            )),
        }
    }

    /// Returns how far a commit and an upstream are apart: (ahead, behind).
    fn distance(&self, commit: &str, upstream: Option<&str>) -> Result<(u64, u64), Fault> {
        let Some(upstream) = upstream else { return Ok((0, 0)) };
        if self.find(upstream).is_some_and(|r| r.commit.as_deref() == Some(commit)) {
            return Ok((0, 0));
        }
        let range = format!("{commit}...{upstream}");
        let counted = self.git.run(["rev-list", "--count", "--left-right", &range, "--"])?;
        // An upstream that is configured but missing is no reason to fail; it counts as (0, 0).
        let text = String::from_utf8_lossy(&counted.stdout);
        let mut counts = text.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0));
        Ok((counts.next().unwrap_or(0), counts.next().unwrap_or(0)))
    }
}
