//! Compares a generated `OpenAPI` document with the committed one.
//!
//! Tests only: the programs serve the committed files and contain no generator.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response as OpenApiResponse;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, ResponseBuilder};

/// The response of every request that fails: a problem document.
pub(crate) struct Failure;

impl IntoResponses for Failure {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().content("application/problem+json", content).build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

/// Compares a document with the committed file, or with `GROUNDSKEEPER_BLESS` set writes the file.
///
/// # Panics
///
/// When they differ.
pub(crate) fn assert_committed(name: &str, document: OpenApi) {
    let made = complete(document);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("GROUNDSKEEPER_BLESS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let committed = std::fs::read_to_string(&path).expect("a document");
    let hint = "the API has changed; look at the difference, then run with GROUNDSKEEPER_BLESS=1";
    assert!(committed == made, "{hint}");
    let parsed: serde_json::Value = serde_json::from_str(&committed).expect("json");
    let paths = parsed["paths"].as_object().expect("paths");
    assert!(paths.len() >= 9, "{:?}", paths.keys());
}

/// Returns a document as JSON text in which every `{name}` of every path is a required string
/// parameter.
fn complete(mut document: OpenApi) -> String {
    for (path, item) in &mut document.paths.paths {
        let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        let parameters = names.map(|(name, _)| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build()
        });
        let parameters: Vec<_> = parameters.map(Into::into).collect();
        item.parameters = (!parameters.is_empty()).then_some(parameters);
    }
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
