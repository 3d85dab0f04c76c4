//! Completes the `OpenAPI` documents: adds the path parameters of every address.

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Required};

/// Returns a document as JSON text in which every `{name}` of every path is a required string
/// parameter.
#[must_use]
pub fn text(mut document: OpenApi) -> String {
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
