//! What the statements of a script may do, by SQLite's authorizer. SQLite asks for every action
//! while it prepares a statement, also for those inside of triggers, views and virtual tables.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use groundskeeper_system::sync::lock_unpoisoned;

/// Kind of a script, which decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// A query, which changes nothing.
    Query,
    /// A script that changes the main database.
    Change,
    /// A script that changes the main database, which is new.
    Build,
}

/// An action that was denied, and what to write in place of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) what: String,
    pub(super) hint: &'static str,
}

/// The last denial of a connection. SQLite's own error says only "not authorized".
#[derive(Debug, Clone, Default)]
pub(super) struct Denials(Arc<Mutex<Option<Denial>>>);

impl Denials {
    pub(super) fn take(&self) -> Option<Denial> {
        lock_unpoisoned(&self.0).take()
    }
}

/// Pragmas that read, with the name of a table or index as their argument or without one.
const READ_OF_NAME: [&str; 10] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Pragmas that read when they have no argument.
const READ: [&str; 25] = [
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "cache_size",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "defer_foreign_keys",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "journal_mode",
    "legacy_alter_table",
    "max_page_count",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "recursive_triggers",
    "schema_version",
    "synchronous",
    "temp_store",
    "user_version",
];
/// Pragmas that change the database or this connection alone, and that work in a transaction.
const CHANGE: [&str; 8] = [
    "analysis_limit",
    "application_id",
    "defer_foreign_keys",
    "incremental_vacuum",
    "legacy_alter_table",
    "optimize",
    "recursive_triggers",
    "user_version",
];
/// Pragmas that shape a new database.
const BUILD: [&str; 2] = ["auto_vacuum", "page_size"];
/// Functions that reach a file or the memory of this process. SQLite has some of them only when it
/// is built in another way.
const FUNCTIONS: [&str; 5] = ["edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"];

const OWN_TRANSACTION: &str = "remove it: the whole script is one transaction already";
const OTHER_FILES: &str = "remove it: a script reaches no other file";
const READ_ONLY: &str = "make it one SELECT; a script that changes rows is normalise.sql, \
                         build.sql, stamp.sql or ready.sql";
const OLD: &str = "change the copy of the old database in normalise.sql";
const PRAGMAS: &str = "remove it: of the pragmas with a value, a script may set user_version, \
                       application_id, analysis_limit, defer_foreign_keys, legacy_alter_table and \
                       recursive_triggers";
const SHAPE: &str = "move it to the beginning of build.sql, page_size before auto_vacuum: later it \
                     has no effect";
const FOREIGN_KEYS: &str = "remove it: it has no effect in a transaction; PRAGMA \
                            defer_foreign_keys = ON checks the keys at the end of the script";
const ENCODING: &str = "remove it: the new database has the encoding of the old one";

/// Makes a connection deny what a script must not do, from now on.
pub(super) fn install(connection: &mut Connection, rights: Rights) -> rusqlite::Result<Denials> {
    let denials = Denials::default();
    let last = denials.clone();
    // Statements are prepared one after the other, so this is true for those behind the first that
    // writes.
    let mut has_content = false;
    let guard = move |context: AuthContext<'_>| match judge(&context, rights, has_content) {
        None => {
            has_content |= writes(&context.action);
            Authorization::Allow
        }
        Some(denial) => {
            // The first one: SQLite may ask again about the consequences.
            lock_unpoisoned(&last.0).get_or_insert(denial);
            Authorization::Deny
        }
    };
    connection.authorizer(Some(guard))?;
    Ok(denials)
}

/// Removes what [`install`] did, for the engine's own statements.
pub(super) fn remove(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
}

/// Returns whether an action gives a new database its first page, and with it its page size.
fn writes(action: &AuthAction<'_>) -> bool {
    use AuthAction as A;
    match action {
        A::Select | A::Read { .. } | A::Recursive | A::Function { .. } => false,
        A::Pragma { pragma_name, pragma_value } => {
            pragma_value.is_some() && !pragma_name.eq_ignore_ascii_case("page_size")
        }
        _ => true,
    }
}

fn judge(context: &AuthContext<'_>, rights: Rights, has_content: bool) -> Option<Denial> {
    let deny = |what: String, hint| Some(Denial { what, hint });
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => None,
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            let is_denied = FUNCTIONS.contains(&name.as_str());
            is_denied.then(|| Denial { what: format!("the function {name}"), hint: OTHER_FILES })
        }
        AuthAction::Transaction { .. } => {
            deny("beginning or ending a transaction".to_owned(), OWN_TRANSACTION)
        }
        AuthAction::Savepoint { .. } => deny("a savepoint".to_owned(), OWN_TRANSACTION),
        AuthAction::Attach { .. } => deny("ATTACH".to_owned(), OTHER_FILES),
        AuthAction::Detach { .. } => deny("DETACH".to_owned(), OTHER_FILES),
        // SQLite does not tell the name of a file that is an expression.
        AuthAction::Unknown { .. } => deny("ATTACH or DETACH".to_owned(), OTHER_FILES),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let of_old = context.database_name == Some("old");
            let may_shape = rights == Rights::Build && !has_content;
            pragma(&pragma_name.to_ascii_lowercase(), pragma_value, of_old, rights, may_shape)
        }
        change => {
            if rights == Rights::Query {
                return deny("a change".to_owned(), READ_ONLY);
            }
            let (database, object) = target(change, context.database_name);
            // ANALYZE keeps its statistics in tables of SQLite's own, in each database.
            let is_denied = database == Some("old") && !object.starts_with("sqlite_");
            is_denied.then(|| Denial { what: format!("changing old.{object}"), hint: OLD })
        }
    }
}

fn pragma(
    name: &str,
    value: Option<&str>,
    of_old: bool,
    rights: Rights,
    may_shape: bool,
) -> Option<Denial> {
    let reads = READ_OF_NAME.contains(&name) || value.is_none() && READ.contains(&name);
    let shapes = BUILD.contains(&name);
    let changes = CHANGE.contains(&name) && rights != Rights::Query || shapes && may_shape;
    if reads || changes && !of_old {
        return None;
    }
    let hint = match name {
        _ if changes => OLD,
        "foreign_keys" => FOREIGN_KEYS,
        "encoding" => ENCODING,
        _ if shapes => SHAPE,
        _ if rights == Rights::Query => READ_ONLY,
        _ => PRAGMAS,
    };
    let value = value.map(|value| format!(" = {value}")).unwrap_or_default();
    Some(Denial { what: format!("PRAGMA {name}{value}"), hint })
}

/// Returns the database that an action changes, and the object in it.
fn target<'a>(action: AuthAction<'a>, database: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    use AuthAction as A;
    match action {
        A::AlterTable { database_name, table_name } => (Some(database_name), table_name),
        A::CreateTable { table_name }
        | A::Delete { table_name }
        | A::DropTable { table_name }
        | A::Insert { table_name }
        | A::Update { table_name, .. }
        | A::CreateVtable { table_name, .. }
        | A::DropVtable { table_name, .. } => (database, table_name),
        A::CreateIndex { index_name, .. }
        | A::DropIndex { index_name, .. }
        | A::Reindex { index_name } => (database, index_name),
        A::CreateTrigger { trigger_name, .. } | A::DropTrigger { trigger_name, .. } => {
            (database, trigger_name)
        }
        A::CreateView { view_name } | A::DropView { view_name } => (database, view_name),
        // Objects of the connection's own temporary database, and statistics.
        _ => (None, ""),
    }
}
