//! What a program in another language can rely on when it starts `groundskeeper migrate`.
//!
#![doc = include_str!("contract.md")]

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use groundskeeper_core::event::MigrationPlan;
    use groundskeeper_core::{Code, HostPath, Kind, Migration, MigrationPhase};

    use crate::context::MigrationRunner;
    use crate::file_names::Names;
    use crate::files::Files;
    use crate::files::with_suffix;
    use crate::recipe::Recipe;
    use crate::recipes::folder::Folder;
    use crate::request::MigrationRequest;
    use crate::sample::Harness;
    use crate::standalone::{self, Control, Place, Update};

    const PAGE: &str = include_str!("contract.md");

    /// Returns the rows of the tables below a heading, each as the text of its cells.
    fn rows(heading: &str) -> Vec<Vec<&'static str>> {
        let section = PAGE.split_once(&format!("# {heading}\n")).expect("the heading").1;
        let section = section.split("\n#").next().unwrap_or(section);
        let lines = section.lines().filter(|line| line.starts_with("| `"));
        let cells = |line: &'static str| line.trim_matches('|').split(" | ").map(cell).collect();
        lines.map(cells).collect()
    }

    fn cell(text: &str) -> &str {
        let text = text.trim();
        text.strip_prefix('`').and_then(|text| text.split('`').next()).unwrap_or(text)
    }

    fn first(heading: &str) -> BTreeSet<String> {
        rows(heading).iter().map(|row| row[0].to_owned()).collect()
    }

    #[test]
    fn exit_codes_are_those_of_faults() {
        let kinds = [Kind::Refused, Kind::Fault, Kind::NotFound, Kind::Busy, Kind::Usage];
        let mut codes: BTreeSet<String> =
            kinds.iter().map(|kind| kind.exit_code().to_string()).collect();
        // Success, and the end by force, which the command line has.
        codes.extend(["0".to_owned(), "130".to_owned()]);
        assert_eq!(first("Exit codes"), codes);
        for row in rows("Codes") {
            let code = Code::ALL.iter().find(|code| code.as_str() == row[0]);
            let code = code.unwrap_or_else(|| panic!("there is no code {}", row[0]));
            assert_eq!(code.kind().exit_code().to_string(), row[1], "{}", row[0]);
        }
    }

    #[test]
    fn phases_are_those_of_migrations() {
        use MigrationPhase as P;
        let all = [
            P::Started,
            P::Inspected,
            P::Copied,
            P::Normalised,
            P::Staged,
            P::SecretsWritten,
            P::FlipBegun,
            P::Flipped,
            P::Finished,
            P::RollingBack,
            P::Failed,
            P::Rehearsed,
            P::Undoing,
            P::Undone,
        ];
        // A new phase does not compile until it is added above.
        let known = |phase: P| match phase {
            P::Started | P::Inspected | P::Copied | P::Normalised | P::Staged => (),
            P::SecretsWritten | P::FlipBegun | P::Flipped | P::Finished | P::RollingBack => (),
            P::Failed | P::Rehearsed | P::Undoing | P::Undone => (),
            // Users see it as `undoing`, too.
            P::UndoingKeepNew => (),
        };
        all.into_iter().for_each(known);
        assert_eq!(first("Phases"), all.iter().map(|phase| phase.as_str().to_owned()).collect());
    }

    /// Replaces what differs from migration to migration by the words of the page.
    fn as_on_page(path: &Path, migration: &Migration, label: &str) -> String {
        let text = path.display().to_string().replace("/d/app.db", "DB");
        let text = text.replace("/d/auth.json", "SECRETS");
        let text = text.replace(migration.id.as_str(), "ID").replace("-1700-", "-MS-");
        text.replace(&format!("DB.{label}-"), "DB.LABEL-")
    }

    #[test]
    fn file_names_are_those_of_migrations() {
        let folder = Folder::built_in("notes", Default::default());
        let plan = MigrationPlan {
            database: HostPath::from("/d/app.db"),
            secrets: Some(HostPath::from("/d/auth.json")),
            at_ms: 1700,
            ..MigrationPlan::default()
        };
        let harness = Harness::new();
        let place = Place::within(&harness.dir.join("kept"));
        let (runner, request) = sample(&harness);
        let report = standalone::run(&place, &runner, &request, &Control::default());
        let migration = report.expect("a report").migration.expect("a migration");
        let migration = Migration { plan, ..migration };
        let names = Names::of(&migration, &folder);
        let beside = Place::beside(&names.database);
        let temporary = with_suffix(&names.manifest, &format!(".tmp-{}", migration.id));
        let paths = [
            &names.copy,
            &names.staging,
            &names.backup,
            &names.undone,
            &names.manifest,
            &temporary,
            names.secrets_backup.as_ref().expect("planned"),
            &beside.log,
            &beside.lock,
        ];
        let label = folder.label();
        let named = paths.iter().map(|path| as_on_page(path, &migration, label)).collect();
        assert_eq!(first("Files"), named);
        assert_eq!(label, "old");
    }

    fn sample(harness: &Harness) -> (MigrationRunner, MigrationRequest) {
        let (database, auth) = (harness.database(), Some(harness.auth()));
        let recipe = "sample".to_owned();
        let request = MigrationRequest { database, recipe, auth, ..MigrationRequest::default() };
        (harness.runner(Files::default()), request)
    }

    /// Each phase of a real run is on the page, and each unit of its progress.
    #[test]
    fn real_run_reports_what_the_page_names() {
        let harness = Harness::new();
        let place = Place::within(&harness.dir.join("kept"));
        let (runner, request) = sample(&harness);
        let phases = first("Phases");
        let update = |update: Update<'_>| match update {
            Update::Phase(migration) => assert!(phases.contains(migration.phase.as_str())),
            Update::Progress(progress) => {
                assert!(["bytes", "rows"].contains(&progress.unit), "{progress:?}");
            }
        };
        let control = Control { update: &update, cancelled: &|| false };
        standalone::run(&place, &runner, &request, &control).expect("a report");
        assert!(
            harness.dir.join("kept/lock").exists() && harness.dir.join("kept/log.redb").exists()
        );
    }
}
