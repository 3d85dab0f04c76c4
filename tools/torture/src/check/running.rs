//! No process is left of an environment that is over, and the ends of environments hold: reads of
//! what is destroyed are refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Findings;
use crate::ground::Ground;
use crate::processes;
use crate::time;
use crate::trouble::Trouble;

/// Most time for what is just ending to end.
const ENDING: Duration = Duration::from_secs(5);

/// `daemon` says whether one is meant to run.
pub(crate) fn processes(
    ground: &Ground,
    environments: &[Value],
    daemon: bool,
    findings: &mut Findings<'_>,
) {
    let lives: BTreeSet<&Path> = environments
        .iter()
        .filter(|e| e["phase"] == "ready")
        .filter_map(|e| e["path"].as_str().map(Path::new))
        .collect();
    let strays = || {
        let mut all = processes::of(&ground.path("home"))?;
        all.retain(|found| match &found.place {
            Some(place) => !lives.contains(place.as_path()),
            None => !(daemon && found.command.contains(" daemon ")),
        });
        Ok::<_, Trouble>(all)
    };
    if !time::until(ENDING, || strays().is_ok_and(|strays| strays.is_empty())) {
        let strays = strays().unwrap_or_else(|trouble| {
            findings.add(trouble.to_string());
            Vec::new()
        });
        for stray in strays {
            let place = stray.place.map(|p| p.display().to_string()).unwrap_or_default();
            findings.add(format!("process {} is left: {} {place}", stray.pid, stray.command));
        }
    }
}

/// A destroyed environment is refused by its name, whoever asks.
pub(crate) fn tombstones(
    ground: &Ground,
    environments: &[Value],
    findings: &mut Findings<'_>,
) -> Result<(), Trouble> {
    let over = environments.iter().filter(|e| e["phase"] == "tombstoned");
    for id in over.filter_map(|e| e["id"].as_str()).take(2) {
        let verbs: [&[&str]; 4] = [
            &["status", id],
            &["lease", id, "--for", "1s"],
            &["exec", id, "--", "true"],
            &["clean", id],
        ];
        for verb in verbs {
            let answer = ground.gk(verb)?.json();
            findings.unless(answer["error"]["code"] == "environment_destroyed", || {
                format!("{verb:?} of a destroyed environment is answered with {answer}")
            });
        }
    }
    Ok(())
}
