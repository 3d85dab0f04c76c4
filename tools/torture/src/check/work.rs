//! Every piece of work is in a worktree, in the trash, among the copies of a rescue, or in an
//! object that a ref reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Findings;
use crate::ground::Ground;
use crate::model::{Kind, Model, Piece};
use crate::trouble::Trouble;

/// Contents by name, wherever they are.
type Contents = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(
    ground: &Ground,
    model: &Model,
    findings: &mut Findings<'_>,
) -> Result<usize, Trouble> {
    let owed = model.owed();
    let mut files = Contents::new();
    for folder in ["worktrees", "trash", "worktrees/.trash"] {
        files_below(&ground.data().join(folder), &mut files);
    }
    copies(&ground.data().join("rescue"), &mut files);
    let has = |there: &Contents, piece: &Piece| {
        there.get(&piece.name).is_some_and(|all| all.contains(&piece.content))
    };
    let missing: Vec<&Piece> = owed.iter().filter(|piece| !has(&files, piece)).collect();
    let wanted: BTreeSet<&str> = missing.iter().map(|piece| piece.name.as_str()).collect();
    let objects = objects(ground, &wanted)?;
    for piece in missing {
        // What was rescued has a second place; what git ignores has not.
        if !has(&objects, piece) {
            let place =
                if piece.kind == Kind::Work { "anywhere" } else { "in place or in the trash" };
            findings.add(format!(
                "{} ({}) of {} is not to be found {place}",
                piece.name, piece.form, piece.environment
            ));
        }
    }
    Ok(owed.len())
}

fn files_below(folder: &Path, found: &mut Contents) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() && is_work(&name) {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            found.entry(name).or_default().insert(text);
        }
    }
}

/// What is beside the log of files that git would not have given back: numbered contents, and a
/// list that says whose they are.
fn copies(folder: &Path, found: &mut Contents) {
    let below = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    for rescue in below(folder).flat_map(|life| below(&life.path()).map(|entry| entry.path())) {
        let list = std::fs::read(rescue.join("list")).unwrap_or_default();
        for (number, line) in list.split(|b| *b == 0).enumerate() {
            let line = String::from_utf8_lossy(line).into_owned();
            let path = line.splitn(5, ' ').nth(4).unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            if line.starts_with("file ") && is_work(&name) {
                let content = std::fs::read_to_string(rescue.join(number.to_string()));
                found.entry(name).or_default().insert(content.unwrap_or_default());
            }
        }
    }
}

fn is_work(name: &str) -> bool {
    name.starts_with("work-") || name.starts_with("edit-")
}

/// Contents of these names in everything that refs, worktree heads and stashes reach.
fn objects(ground: &Ground, names: &BTreeSet<&str>) -> Result<Contents, Trouble> {
    let mut found = Contents::new();
    if names.is_empty() {
        return Ok(found);
    }
    let repo = ground.repo();
    let stashes = ground.git(&repo, &["reflog", "show", "--format=%H", "refs/stash", "--"])?.out;
    // What only the history of a living worktree holds is rescued when that goes.
    let mut args = vec!["rev-list", "--objects", "--all", "--reflog"];
    args.extend(stashes.lines());
    let listed = ground.must_git(&repo, &args)?;
    let named: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, path)| names.contains(path))
        .collect();
    for (chunk, text) in contents(ground, &named)? {
        found.entry(chunk).or_default().insert(text);
    }
    Ok(found)
}

/// Contents of objects, by the name that they were listed under.
fn contents(ground: &Ground, named: &[(&str, &str)]) -> Result<Vec<(String, String)>, Trouble> {
    let trouble = |e: std::io::Error| Trouble::new("cannot ask git cat-file").because(&e);
    let mut command = Command::new("git");
    ground.isolate(&mut command);
    command.arg("-C").arg(ground.repo()).args(["cat-file", "--batch"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(trouble)?;
    let mut asked = String::new();
    for (object, _) in named {
        asked.push_str(object);
        asked.push('\n');
    }
    let stdin = child.stdin.take();
    let writer = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(asked.as_bytes())));
    let output = child.wait_with_output().map_err(trouble)?.stdout;
    drop(writer.join());
    let (mut rest, mut found) = (output.as_slice(), Vec::new());
    for (_, name) in named {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else { break };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        let size = head.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
        let Some(text) = size.and_then(|size| rest.get(..size)) else { continue };
        found.push(((*name).to_owned(), String::from_utf8_lossy(text).into_owned()));
        rest = rest.get(text.len() + 1..).unwrap_or_default();
    }
    Ok(found)
}
