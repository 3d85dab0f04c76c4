//! Builds old databases for tests: a recorded empty one, plus the rows that a test is about.

use std::path::PathBuf;

use rusqlite::{Connection, ToSql};

use super::harness::{Case, Done, Given, migrate};
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::OnConflict;

/// Tenant and scope of most tests.
pub(super) const HOME: &str = "workspace-1a2b3c4d";

/// An old database that a test fills.
pub(super) struct Old {
    pub(super) db: Connection,
    dir: tempfile::TempDir,
    auth: Option<PathBuf>,
}

impl Old {
    /// Returns a database without rows, of the last old schema.
    pub(super) fn new() -> Self {
        let db = Case::named("10-").database();
        let dir = tempfile::tempdir().expect("a directory");
        Self { db, dir, auth: None }
    }

    /// Returns a database without rows, of an early schema with a sound history.
    pub(super) fn early() -> Self {
        let db = Case::named("93-").database();
        let old = Self { db, ..Self::new() };
        old.sql("DELETE FROM source; DELETE FROM openapi_source;");
        old
    }

    /// Returns a database without rows, of the schema after the seventh step.
    pub(super) fn seventh() -> Self {
        let db = Case::named("46-").database();
        let old = Self { db, ..Self::new() };
        old.sql("DELETE FROM source; DELETE FROM mcp_source; DELETE FROM secret;");
        old
    }

    /// Returns the database of a recorded case.
    pub(super) fn recorded(name: &str) -> Self {
        Self { db: Case::named(name).database(), ..Self::new() }
    }

    /// Path of the secrets file.
    pub(super) fn auth_path(&self) -> PathBuf {
        self.dir.path().join("auth.json")
    }

    /// Executes arbitrary SQL on the database.
    pub(super) fn sql(&self, sql: &str) -> &Self {
        self.db.execute_batch(sql).expect("SQL");
        self
    }

    fn insert(&self, sql: &str, values: &[&dyn ToSql]) -> &Self {
        self.db.execute(sql, values).expect("a row");
        self
    }

    /// Writes the secrets file.
    pub(super) fn auth(&mut self, json: &str) -> &mut Self {
        let path = self.dir.path().join("auth.json");
        std::fs::write(&path, json).expect("written");
        self.auth = Some(path);
        self
    }

    /// Inserts a source; its name is its id.
    pub(super) fn source(&self, scope: &str, id: &str, kind: &str) -> &Self {
        self.insert(
            "INSERT INTO source (id, scope_id, plugin_id, kind, name, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?3, ?1, 1, 1)",
            &[&id, &scope, &kind],
        )
    }

    /// Inserts a row of plugin storage.
    pub(super) fn stored(
        &self,
        scope: &str,
        plugin: &str,
        collection: &str,
        key: &str,
        data: &str,
    ) -> &Self {
        self.insert(
            "INSERT INTO plugin_storage VALUES (json_array(?2, ?3, ?4, random()), ?1, ?2, ?3, ?4, ?5, 1, 2)",
            &[&scope, &plugin, &collection, &key, &data],
        )
    }

    /// Inserts a source with a configuration.
    pub(super) fn configured(&self, scope: &str, id: &str, kind: &str, data: &str) -> &Self {
        self.source(scope, id, kind).stored(scope, kind, "source", id, data)
    }

    /// Inserts a binding of a secret.
    pub(super) fn bound(&self, scope: &str, source: &str, slot: &str, secret: &str) -> &Self {
        self.binding(scope, source, slot, "secret", [Some(secret), None, None])
    }

    /// Inserts a binding to a secret, a connection or a text.
    pub(super) fn binding(
        &self,
        scope: &str,
        source: &str,
        slot: &str,
        kind: &str,
        [secret, connection, text]: [Option<&str>; 3],
    ) -> &Self {
        self.insert(
            "INSERT INTO credential_binding VALUES (json_array(?2, ?3, random()), ?1, 'p', ?2, ?1, ?3, ?4, \
             ?7, ?5, ?6, 1, 1, NULL)",
            &[&scope, &source, &slot, &kind, &secret, &connection, &text],
        )
    }

    /// Inserts a secret's row; its value comes from the secrets file.
    pub(super) fn secret(&self, scope: &str, id: &str, name: &str, provider: &str) -> &Self {
        self.insert(
            "INSERT INTO secret VALUES (?2, ?1, ?3, ?4, 1, NULL)",
            &[&scope, &id, &name, &provider],
        )
    }

    /// Inserts an OAuth connection.
    pub(super) fn connection(&self, scope: &str, id: &str, label: &str, state: &str) -> &Self {
        self.insert(
            "INSERT INTO connection VALUES (?2, ?1, 'oauth2', ?3, '', NULL, NULL, NULL, ?4, 1, 1, NULL)",
            &[&scope, &id, &label, &state],
        )
    }

    /// Inserts a tool with a random id.
    pub(super) fn tool(&self, scope: &str, source: &str, name: &str) -> &Self {
        self.insert(
            "INSERT INTO tool VALUES (hex(randomblob(8)), ?1, ?2, 'openapi', ?3, 'd', NULL, NULL, 1, 2)",
            &[&scope, &source, &name],
        )
    }

    /// Inserts a definition.
    pub(super) fn definition(&self, scope: &str, source: &str, name: &str) -> &Self {
        self.insert(
            "INSERT INTO definition VALUES (hex(randomblob(8)), ?1, ?2, 'openapi', ?3, '{}', 1)",
            &[&scope, &source, &name],
        )
    }

    /// Inserts a policy.
    pub(super) fn policy(&self, scope: &str, id: &str, pattern: &str) -> &Self {
        self.insert(
            "INSERT INTO tool_policy VALUES (?2, ?1, ?3, 'allow', 'a0', 1, 1)",
            &[&scope, &id, &pattern],
        )
    }

    /// Inserts a blob.
    pub(super) fn blob(&self, namespace: &str, key: &str, value: &str) -> &Self {
        self.insert("INSERT INTO blob VALUES (?1, ?2, ?3)", &[&namespace, &key, &value])
    }

    /// Migrates the database; a fault fails the test.
    pub(super) fn migrated(&self) -> Done {
        self.try_migrate(OnConflict::Refuse).expect("migrated")
    }

    /// Migrates the database, or returns the fault.
    pub(super) fn try_migrate(&self, conflicts: OnConflict) -> Result<Done, Fault> {
        let given = Given { tenant: HOME, auth: self.auth.clone(), conflicts, ..Given::default() };
        migrate(&self.db, &given)
    }
}

/// Returns whether one warning contains all of these words.
pub(super) fn warned(done: &Done, words: &[&str]) -> bool {
    done.warnings().iter().any(|warning| words.iter().all(|word| warning.contains(word)))
}
