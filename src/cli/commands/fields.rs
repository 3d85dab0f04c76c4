//! Selects and writes environments by the fields that `--json` shows of them. It knows no field by
//! name: what is shown can be asked for.

use serde_json::Value;

use crate::api::OPENAPI;
use crate::api::types::EnvironmentView;
use crate::cli::error::CliError;
use crate::cli::render;
use crate::core::{Code, Fault};

/// Returns the environments that have these values.
///
/// # Errors
/// `Code::InvalidRequest` for a field that there is not.
pub(super) fn select(
    list: Vec<EnvironmentView>,
    filters: &[(String, String)],
) -> Result<Vec<EnvironmentView>, CliError> {
    for (field, _) in filters {
        is_known(field)?;
    }
    let mut selected = Vec::new();
    for env in list {
        let json = serde_json::to_value(&env).unwrap_or_default();
        let mut fits = true;
        for (field, value) in filters {
            fits &= text(&json, field)? == *named(field, value);
        }
        if fits {
            selected.push(env);
        }
    }
    Ok(selected)
}

/// Returns the name of a phase that is typed as lists show it.
fn named<'a>(field: &str, value: &'a str) -> &'a str {
    match (field, value) {
        ("phase", "removed") => "tombstoned",
        ("phase", "removing") => "tearing_down",
        _ => value,
    }
}

/// Returns a line for each environment: the text with its fields in the place of their names, and
/// with `{{` and `}}` as the brackets themselves.
///
/// # Errors
/// `Code::InvalidRequest` for a field that there is not, or a bracket without its other.
pub(super) fn formatted(list: &[EnvironmentView], format: &str) -> Result<String, CliError> {
    let mut lines = String::new();
    for env in list {
        let json = serde_json::to_value(env).unwrap_or_default();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('{') {
            if let Some(after) = after.strip_prefix('{') {
                lines.push_str(&escaped(before));
                lines.push('{');
                rest = after;
                continue;
            }
            let Some((field, after)) = after.split_once('}') else {
                let message = format!("{format:?} has a {{ without its }}");
                return Err(
                    Fault::new(Code::InvalidRequest, message, "name a field as in {id}").into()
                );
            };
            lines.push_str(&escaped(before));
            lines.push_str(&render::printable(&text(&json, field)?));
            rest = after;
        }
        lines.push_str(&escaped(rest));
        lines.push('\n');
    }
    Ok(lines)
}

/// Returns a text with its `\t`, `\n` and `}}` as the characters that they stand for.
fn escaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n").replace("}}", "}")
}

/// Returns a field as text; one inside another by `known.changes`. What is not known is empty.
fn text(json: &Value, field: &str) -> Result<String, CliError> {
    let mut found = Some(json);
    for part in field.split('.') {
        found = found.and_then(|outer| outer.get(part));
    }
    match found {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(other) => Ok(other.to_string()),
        None => is_known(field).map(|()| String::new()),
    }
}

/// Checks that the API describes a field; one without a value is left out of an answer.
fn is_known(field: &str) -> Result<(), CliError> {
    let document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    let fields = document.pointer("/components/schemas/EnvironmentView/properties");
    let names = fields.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| &**name);
    let names: Vec<&str> = names.collect();
    if field.split('.').next().is_some_and(|first| names.contains(&first)) {
        return Ok(());
    }
    let message = format!("environments have no field {field:?}");
    let hint = format!("choose one of {}", names.join(", "));
    Err(Fault::new(Code::InvalidRequest, message, hint).into())
}
