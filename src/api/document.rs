//! Generates the `OpenAPI` document from the routes and types, and keeps the committed one equal.
//!
//! Tests only: the program serves the committed file and contains no generator.

use utoipa::OpenApi as _;

// Imported by name: a module in the path would become a tag of the document.
use crate::api::daemon::{__path_daemon, __path_reload, __path_shutdown};
use crate::api::environments::{
    __path_cancel, __path_create, __path_label, __path_list, __path_remove, __path_show,
};
use crate::api::{
    archives, contents, leases, live_sets, locks, migrations, processes, status, sweep,
};
use crate::http::openapi::assert_committed;
use crate::service::types::problem::Problem;

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
        label,
        super::log::records,
        super::log::state,
        leases::lease,
        leases::release,
        super::trust::show,
        super::trust::set,
        daemon,
        reload,
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
        super::clean::preview,
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
        migrations::cancel,
        migrations::undo,
        migrations::prune,
        super::run::run
    ),
    components(schemas(Problem))
)]
struct Document;

#[test]
fn api_description_is_current() {
    assert_committed("schema/openapi.json", Document::openapi());
}
