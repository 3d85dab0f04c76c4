//! Generates the `OpenAPI` document from the routes and types, and keeps the committed one equal.
//!
//! Tests only: the program serves the committed file and contains no generator.

use std::collections::BTreeMap;

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response as OpenApiResponse;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _};

// Imported by name: a module in the path would become a tag of the document.
use crate::api::daemon::{__path_daemon, __path_shutdown};
use crate::api::environments::{
    __path_cancel, __path_create, __path_list, __path_remove, __path_show,
};
use crate::api::types::Problem;
use crate::api::{
    archives, contents, leases, live_sets, locks, migrations, processes, status, sweep,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "groundskeeper",
        description = "Life cycle of git worktree environments. Additive changes only within v1.",
        version = "1",
    ),
    paths(
        list,
        create,
        show,
        remove,
        cancel,
        super::log::records,
        super::log::state,
        leases::lease,
        leases::release,
        super::trust::show,
        super::trust::set,
        daemon,
        shutdown,
        super::events::events,
        archives::restore,
        archives::trash,
        locks::locks,
        archives::empty,
        archives::rescues,
        archives::drop_rescue,
        sweep::sweep,
        processes::processes,
        processes::launch,
        processes::exited,
        contents::evidence,
        contents::usage,
        super::clean::clean,
        super::clean::undo,
        contents::adopt,
        status::one,
        status::all,
        status::diff,
        live_sets::reconcile,
        live_sets::confirm,
        migrations::create,
        migrations::list,
        migrations::show,
        migrations::undo,
        super::run::run
    ),
    components(schemas(Problem))
)]
struct Document;

/// The response of every request that fails: a problem document.
pub(crate) struct Failure;

impl IntoResponses for Failure {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().content("application/problem+json", content).build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

#[test]
fn api_description_is_current() {
    assert_committed("schema/openapi.json", Document::openapi());
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
