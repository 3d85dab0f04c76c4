//! Moves large texts from configurations to blobs; the configuration keeps their hash.

use rusqlite::{Connection, params};

use super::configs::{self, Configured, without};
use crate::fail;
use crate::ids::RowIds;
use crate::js::Value;
use crate::slug::sha256_hex;
use crate::write::blob_id;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

/// Moves the specifications of `OpenAPI` sources.
pub(super) fn openapi(db: &Connection, _work: &Work<'_>) -> Result<(), Fault> {
    move_out(db, "openapi", "spec", "specHash", "spec")
}

/// Moves the introspection results of GraphQL sources.
pub(super) fn graphql(db: &Connection, _work: &Work<'_>) -> Result<(), Fault> {
    move_out(db, "graphql", "introspectionJson", "introspectionHash", "introspection")
}

fn move_out(
    db: &Connection,
    plugin: &str,
    member: &str,
    hashed: &str,
    folder: &str,
) -> Result<(), Fault> {
    let mut ids = RowIds::new();
    configs::each(db, plugin, |Configured { row, tenant, config, .. }| {
        let Some(text) = config.text(member) else { return Ok(()) };
        let hash = sha256_hex(&text.lossy());
        let namespace = format!("o:{tenant}/{plugin}");
        put(db, &mut ids, &namespace, &format!("{folder}/{hash}"), &text.written())?;
        let mut members = without(&config, &[member]);
        members.push((hashed.into(), Value::from(hash.as_str())));
        configs::replace(db, row, &Value::object(members))
    })
}

/// Creates a blob, or replaces its value.
pub(super) fn put(
    db: &Connection,
    ids: &mut RowIds,
    namespace: &str,
    key: &str,
    value: &str,
) -> Result<(), Fault> {
    let sql = "INSERT INTO blob (namespace, key, value, row_id, id) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (id) DO UPDATE SET value = excluded.value";
    let id = blob_id(namespace, key);
    let written = db.execute(sql, params![namespace, key, value, ids.next()?, id]);
    written.map(drop).map_err(fail::during("write a blob"))
}
