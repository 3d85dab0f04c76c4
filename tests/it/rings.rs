//! The modules of the program as a graph: there are no import cycles, direct or indirect, and the
//! layers inside `world` are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Layers of `world`, with the layers that each may import besides itself.
const WORLD: [(&str, &[&str]); 5] = [
    ("fs", &[]),
    ("process", &["fs"]),
    ("git", &["fs", "process"]),
    ("status", &["fs", "process", "git"]),
    ("watch", &["fs", "process", "git"]),
];

/// Packages of their own below `src`, with their folders; one inside another stands before it.
const PACKAGES: [(&str, &str); 6] = [
    ("groundskeeper_core", "core"),
    ("groundskeeper_executor", "migrate/recipes/executor"),
    ("groundskeeper_failpoint", "failpoint"),
    ("groundskeeper_journal", "journal"),
    ("groundskeeper_migrate", "migrate"),
    ("groundskeeper_system", "system"),
];

/// Returns every module by its path below `src`, with its code, without comments and unit tests.
fn modules() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut todo) = (BTreeMap::new(), vec![src.clone()]);
    while let Some(dir) = todo.pop() {
        for path in std::fs::read_dir(&dir).expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let name = path.strip_prefix(&src).expect("below").with_extension("");
            let name = name.to_str().expect("text");
            let name = name.strip_suffix("/mod").unwrap_or(name).to_owned();
            let text = std::fs::read_to_string(&path).expect("text");
            let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
            let code = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
            found.insert(name, code.collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

/// Expands `a::{b, c::{d}}` to `a::b` and `a::c::d`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inside[start..at].trim();
                let parts = expanded(part).into_iter().filter(|part| !part.is_empty());
                all.extend(parts.map(|part| format!("{}{part}", before.trim_start())));
                start = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// Returns every path that a module's code names.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("use ") {
        let statement = code[at + 4..].split(';').next().unwrap_or_default();
        found.extend(expanded(statement));
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let path = code[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            found.insert(path.into_iter().next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// Resolves a path, as seen from a module, to the module that it leads to.
fn target(all: &BTreeMap<String, String>, from: &str, path: &str) -> Option<String> {
    let mut at: Vec<&str> = from.split('/').collect();
    let mut parts = path.split("::").map(str::trim).peekable();
    let package = PACKAGES.iter().find(|(name, _)| parts.next_if_eq(name).is_some());
    if let Some((_, folder)) = package {
        at = folder.split('/').collect();
    } else if parts.next_if_eq(&"crate").is_some() {
        // The root of a package inside is its folder.
        let inside = |folder: &str| Path::new(from).starts_with(folder);
        let package = PACKAGES.iter().find(|(_, folder)| inside(folder));
        at.truncate(package.map_or(0, |(_, folder)| folder.split('/').count()));
    } else {
        let before = at.len();
        while parts.next_if_eq(&"super").is_some() {
            at.pop();
        }
        let child = parts.peek().map(|part| format!("{from}/{part}"));
        if at.len() == before && !child.is_some_and(|child| all.contains_key(&child)) {
            return None;
        }
    }
    at.extend(parts);
    let ends = (1..=at.len()).rev().map(|end| at[..end].join("/"));
    ends.into_iter().find(|name| all.contains_key(name))
}

/// Returns the modules that each module names. A file that only declares modules and re-exports has
/// no edges.
fn graph(all: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let edges = |name: &String, code: &String| -> BTreeSet<String> {
        if !code.contains("fn ") && code.contains("mod ") {
            return BTreeSet::new();
        }
        let named = paths(code).into_iter().filter_map(|path| target(all, name, &path));
        named.filter(|to| to != name).collect()
    };
    all.iter().map(|(name, code)| (name.clone(), edges(name, code))).collect()
}

/// Returns the cycles: sets of modules that can all reach each other.
fn rings(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &String| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(at) = todo.pop() {
            todo.extend(graph[at].iter().filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        graph.keys().map(|name| (name, reach(name))).collect();
    let ring = |name: &String| -> BTreeSet<String> {
        reached[name].iter().filter(|other| reached[other].contains(name)).cloned().collect()
    };
    let found: BTreeSet<BTreeSet<String>> = graph.keys().map(ring).collect();
    found.into_iter().filter(|ring| ring.len() > 1).collect()
}

#[test]
fn modules_form_no_import_cycle() {
    let all = modules();
    assert!(all.len() > 200, "{}", all.len());
    let graph = graph(&all);
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 1_000, "imports are found");
    let rings = rings(&graph);
    assert!(rings.is_empty(), "{rings:#?}");
}

#[test]
fn import_cycle_is_detected() {
    let module = |name: &str, code: &str| (name.to_owned(), format!("fn x() {{}}\n{code}"));
    let all = BTreeMap::from([
        module("a", "use crate::b::{self, deep::{X, Y}};"),
        module("b", "fn f() { super::c::g(); }"),
        module("b/deep", ""),
        module("c", "pub(super) use crate::a::Z;"),
        module("migrate/a", "use groundskeeper_executor::a::X;"),
        module("migrate/recipes/executor/a", "use crate::b::X;"),
        module("migrate/recipes/executor/b", "use groundskeeper_migrate::a::X;"),
    ]);
    let found = rings(&graph(&all));
    let ring = |names: [&str; 3]| names.map(str::to_owned).into_iter().collect();
    let inside = ["migrate/a", "migrate/recipes/executor/a", "migrate/recipes/executor/b"];
    assert_eq!(found, [ring(["a", "b", "c"]), ring(inside)]);
}

#[test]
fn world_layers_import_downwards() {
    let all = modules();
    for (layer, below) in WORLD {
        let own = format!("world/{layer}/");
        let of = all.iter().filter(|(name, _)| name.starts_with(&own));
        let of: Vec<_> = of.collect();
        assert!(!of.is_empty(), "there is no layer {layer}");
        for (name, code) in of {
            for to in paths(code).iter().filter_map(|path| target(&all, name, path)) {
                let Some(rest) = to.strip_prefix("world/") else { continue };
                let to = rest.split('/').next().unwrap_or_default();
                assert!(to == layer || below.contains(&to), "{name} names {rest}");
            }
        }
    }
}

#[test]
fn module_files_contain_only_declarations() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (name, code) in modules() {
        if src.join(&name).join("mod.rs").exists() {
            assert!(!code.contains("fn "), "src/{name}/mod.rs holds more than declarations");
        }
    }
}
