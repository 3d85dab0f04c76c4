//! Compares a generated `OpenAPI` document with the committed one.
//!
//! Tests only: the programs serve the committed files and contain no generator.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response as OpenApiResponse;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::{ServerBuilder, ServerVariableBuilder};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

/// The response of every request that fails: a problem document.
pub(crate) struct Failure;

impl IntoResponses for Failure {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().content("application/problem+json", content).build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

/// The header of a request that may be sent again.
pub(crate) struct Key;

impl IntoParams for Key {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "An id of this request: sent again with the same key it is done once";
        let key = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build();
        vec![key]
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

/// Returns a document as JSON text, with what holds for every operation: its tag, its parameters in
/// the path, a description of each answer; and with the ways in.
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
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.tags = Some(vec![tag(path).to_owned()]);
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    description(status).clone_into(&mut response.description);
                }
            }
        }
    }
    document.servers = Some(vec![
        ServerBuilder::new()
            .url("http://localhost")
            .description(Some("The Unix socket; over it every host name is accepted"))
            .build(),
        ServerBuilder::new()
            .url("http://127.0.0.1:{port}")
            .description(Some("The address of --listen, which needs the token"))
            .parameter("port", ServerVariableBuilder::new().default_value("8765"))
            .build(),
    ]);
    let token = SecurityRequirement::new("token", std::iter::empty::<&str>());
    document.security = Some(vec![SecurityRequirement::default(), token]);
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    lines(&document)
}

/// Returns the document as it is committed and embedded: in lines, for those who read a change,
/// with one blank a level. With two, the program would be 35 kB larger.
fn lines(document: &impl serde::Serialize) -> String {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, form);
    document.serialize(&mut writer).expect("text");
    text.push(b'\n');
    String::from_utf8(text).expect("UTF-8")
}

/// Returns the group of an operation: what its path is about.
fn tag(path: &str) -> &str {
    match path.split('/').find(|part| *part == "environments") {
        Some(environments) => environments,
        None => path.split('/').nth(2).unwrap_or("daemon"),
    }
}

fn description(status: &str) -> &'static str {
    match status {
        "200" => "done",
        "201" => "made",
        "202" => "accepted; it goes on in the background",
        "204" => "done, without a body",
        _ => "refused or failed: the reason, and the next step",
    }
}
