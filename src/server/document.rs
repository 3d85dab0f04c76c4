//! Generates the `OpenAPI` document of the control server, and keeps the committed one equal.
//!
//! Tests only: the server serves the committed file and contains no generator.

use utoipa::OpenApi as _;

use crate::http::openapi::assert_committed;
use crate::service::types::problem::Problem;
// Imported by name: a module in the path would become a tag of the document.
use crate::server::routes::{
    __path_add_host, __path_confirm, __path_host, __path_hosts, __path_operation,
    __path_remove_host,
};
use crate::server::{connections, environments, workspace};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "groundskeeper control server",
        description = "Which environments there are on which host. Additive changes only within v1.",
        version = "1",
    ),
    paths(
        hosts,
        add_host,
        host,
        remove_host,
        confirm,
        environments::list,
        environments::create,
        environments::show,
        environments::destroy,
        environments::cancel,
        environments::restore,
        environments::retire,
        environments::revive,
        workspace::status,
        workspace::diff,
        workspace::exec,
        workspace::start_thread,
        workspace::list_threads,
        workspace::end_thread,
        operation,
        connections::notifications
    ),
    components(schemas(Problem))
)]
struct Document;

#[test]
fn server_description_is_current() {
    assert_committed("schema/openapi-server.json", Document::openapi());
}
