//! Removes the envelope of status, headers and data from output schemas of `OpenAPI` tools. Any
//! other schema stays as it is.

use rusqlite::{Connection, params};

use crate::cells::emit;
use crate::fail;
use crate::js::Value;
use groundskeeper_migrate::Fault;
use groundskeeper_migrate::recipe::Work;

/// Rows that one query reads; schemas may be large.
const PAGE: i64 = 256;
const FAILED: &str = "unwrap the output schemas";

/// Unwraps the schemas of all `OpenAPI` tools. An empty schema inside becomes NULL.
pub(super) fn unwrap_all(db: &Connection, work: &Work<'_>) -> Result<(), Fault> {
    let mut last = i64::MIN;
    let mut seen = 0;
    loop {
        let page = page(db, last)?;
        let Some((row, _)) = page.last() else { return Ok(()) };
        last = *row;
        seen += page.len() as u64;
        (work.progress)("tool", seen);
        if (work.cancelled)() {
            return Err(fail::cancelled());
        }
        for (row, schema) in page {
            let Ok(parsed) = crate::js::parse(&schema) else {
                continue;
            };
            let Some(data) = enveloped(&parsed.value) else { continue };
            let empty = data.as_object().is_some_and(|object| object.members().is_empty());
            let schema = emit(data);
            let text = schema.text().filter(|_| !empty);
            let sql = "UPDATE tool SET output_schema = ?2 WHERE rowid = ?1";
            db.execute(sql, params![row, text]).map_err(fail::during(FAILED))?;
        }
    }
}

fn page(db: &Connection, last: i64) -> Result<Vec<(i64, String)>, Fault> {
    let failed = fail::during(FAILED);
    // A cheap filter before the parsing: every envelope has the member `headers`. It misses only a
    // spelling of that name with escapes.
    let sql = "SELECT rowid, CAST(output_schema AS TEXT) FROM tool \
               WHERE rowid > ?1 AND plugin_id = 'openapi' AND instr(output_schema, 'headers') > 0 \
               ORDER BY rowid LIMIT ?2";
    let mut query = db.prepare_cached(sql).map_err(&failed)?;
    let rows = query
        .query_map([last, PAGE], |row| {
            let bytes = row.get_ref(1)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
            Ok((row.get(0)?, String::from_utf8_lossy(bytes).into_owned()))
        })
        .map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

/// Returns the schema of the data inside an envelope; none when the schema is not exactly that
/// envelope.
fn enveloped(schema: &Value) -> Option<&Value> {
    let properties = schema.get("properties")?;
    let data = properties.get("data")?;
    let headers = properties.get("headers")?;
    let closed = matches!(schema.get("additionalProperties"), Some(Value::Bool(false)));
    let is = exactly(schema, 4)
        && schema.has("type", "object")
        && closed
        && required(schema.get("required")?)
        && exactly(properties, 3)
        && is_type(properties.get("status")?, "integer")
        && exactly(headers, 2)
        && headers.has("type", "object")
        && is_type(headers.get("additionalProperties")?, "string");
    is.then_some(data)
}

fn exactly(value: &Value, members: usize) -> bool {
    value.as_object().is_some_and(|object| object.members().len() == members)
}

fn is_type(value: &Value, name: &str) -> bool {
    exactly(value, 1) && value.has("type", name)
}

fn required(value: &Value) -> bool {
    let Some(items) = value.as_array() else { return false };
    let names = ["status", "headers", "data"];
    let there = |name: &&str| items.iter().any(|item| item.as_text().is_some_and(|t| t == *name));
    items.len() == names.len() && names.iter().all(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_envelope_is_unwrapped() {
        let data = |text: &str| {
            let value = crate::js::parse(text).expect("JSON").value;
            enveloped(&value).map(crate::js::compact)
        };
        let envelope = r#"{"type":"object","additionalProperties":false,"required":["data","headers","status"],"properties":{"status":{"type":"integer"},"headers":{"type":"object","additionalProperties":{"type":"string"}},"data":{"a":1}}}"#;
        assert_eq!(data(envelope).as_deref(), Some("{\"a\":1}"));
        for (from, to) in [
            ("false", "true"),
            ("\"status\"],", "\"status\",\"x\"],"),
            ("\"integer\"", "\"number\""),
            ("{\"type\":\"object\",", "{\"title\":\"x\",\"type\":\"object\","),
            ("\"data\":{\"a\":1}", "\"date\":{}"),
        ] {
            assert_eq!(data(&envelope.replacen(from, to, 1)), None, "{from}");
        }
    }
}
