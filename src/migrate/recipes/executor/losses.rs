//! Collects data without a counterpart in the new generation: one warning per cause, with the names
//! of the items. The original drops all of this silently. Losing something is never an error here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Limit of names that one warning shows; it counts the others.
const NAMES_MAX: usize = 20;
/// Limit of characters that are shown of one column that names a row.
pub(crate) const SHOWN_CHARS_MAX: usize = 120;
/// Limit of characters that are shown of one name. A row is named by up to five columns, each of
/// which is cut by itself, so that a long one does not hide the others.
const NAME_CHARS_MAX: usize = 5 * (SHOWN_CHARS_MAX + 20);

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $key:literal, $what:literal, $then:literal;)*) => {
        /// Why something is lost or changed. The order of the variants is that of the warnings: the
        /// most harmful first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Cause { $($(#[$doc])* $variant),* }

        impl Cause {
            /// All causes, in the order of the warnings.
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the stable name under which the replay of an early schema passes its losses
            /// on.
            pub(crate) fn key(self) -> &'static str {
                match self { $(Self::$variant => $key),* }
            }

            /// Returns the two parts of the warning: the items concerned, and the consequence.
            fn describe(self) -> (&'static str, &'static str) {
                match self { $(Self::$variant => ($what, $then)),* }
            }
        }
    };
}

causes! {
    /// Two rows have the same unique key, and the first was kept.
    ConflictLeft = "conflict-left", "row(s) clash with an earlier row and were left out",
        "the backup of the old database keeps them";
    /// Rows belong to a row that was left out.
    FollowsLeft = "follows-left",
        "row(s) belong to a source that was left out and were left out with it",
        "the backup of the old database keeps them";
    /// Two rows have the same unique key, and the later one was renamed.
    ConflictRenamed = "conflict-renamed", "row(s) clash with an earlier row and got new names",
        "the backup of the old database keeps the old names";
    /// A tool belongs to a source without a connection; in the new schema a tool belongs to a
    /// connection.
    ToolWithoutConnection = "tool-without-connection",
        "tool(s) were not migrated, because their source has no connection",
        "the backup of the old database keeps them";
    /// A definition belongs to a source without a connection.
    DefinitionWithoutConnection = "definition-without-connection",
        "definition(s) were not migrated, because their source has no connection",
        "the backup of the old database keeps them";
    /// A scope or source has a space in its id, which the original misreads.
    GroupMisread = "group-misread",
        "group(s) of credential bindings have a space in scope or source, and their connection \
         got another name",
        "the backup of the old database keeps the bindings as they were";
    /// No connection uses a binding.
    BindingUnused = "binding-unused", "credential binding(s) were not migrated",
        "the backup of the old database keeps them";
    /// A connection belongs to a source that does not exist.
    BindingWithoutSource = "binding-without-source",
        "connection(s) belong to a source that does not exist",
        "the connections were created anyway";
    /// Rows of the early schema have the same id, and the last one was kept.
    RowReplaced = "row-replaced",
        "row(s) of the early schema were replaced by a later one of the same id",
        "the backup of the old database keeps them";
    /// The source's configuration does not name a slot.
    SlotUnknown = "slot-unknown",
        "credential slot(s) are not named by the configuration of their source and were taken for \
         `token` of the template `apiKey`",
        "check the connection's template";
    /// Two secrets fill one variable; the later one wins.
    VariableTaken = "variable-taken",
        "credential binding(s) took the variable of an earlier one of the same connection",
        "the backup of the old database keeps them";
    /// A reference leads to a secret without a row.
    SecretDangling = "secret-dangling",
        "reference(s) lead to a secret that has no row, so their value cannot be found",
        "create the connection again";
    /// Another connection's provider replaced the id of a secret, so this connection cannot find
    /// it.
    OverrideLeak = "override-leak",
        "connection(s) or client(s) point at the old id of a secret, because another connection \
         stores the same secret with another provider",
        "create the connection again";
    /// Connections share an OAuth client but have different settings.
    ClientShared = "client-shared",
        "OAuth connection(s) share a client with an earlier one, whose address and resource hold \
         for both while the client secret is that of the last",
        "the backup of the old database keeps what differs";
    /// A connection has no binding.
    ConnectionUnbound = "connection-unbound",
        "connection(s) are bound to no source and were not migrated",
        "the backup of the old database keeps them";
    /// A connection loses its own account label.
    IdentityOverride = "identity-override", "connection(s) lose their `identity_override`",
        "the backup of the old database keeps it";
    /// A connection loses the scope that its token was granted for.
    ConnectionScope = "connection-scope",
        "connection(s) lose the `scope` that their token was granted for",
        "the backup of the old database keeps it";
    /// A connection's state has members without a counterpart.
    StateMembers = "state-members", "connection(s) lose members of their `provider_state`",
        "the backup of the old database keeps them";
    /// A source's configuration has members without a counterpart.
    ConfigMembers = "config-members", "source(s) lose members of their configuration",
        "the backup of the old database keeps them";
    /// A source has no stored configuration.
    SourceShell = "source-shell",
        "source(s) have no stored configuration and became empty integrations",
        "the backup of the old database keeps their rows";
    /// A later configuration of the same source replaced one.
    ConfigReplaced = "config-replaced",
        "stored configuration(s) were replaced by a later one of the same source",
        "the backup of the old database keeps them";
    /// A configuration belongs to no source.
    ConfigWithoutSource = "config-without-source",
        "stored configuration(s) belong to no source and were not migrated",
        "the backup of the old database keeps them";
    /// A step of the early schema drops headers or parameters of another type.
    MemberDropped = "member-dropped",
        "header(s) or parameter(s) are neither text nor secret and were dropped while the old \
         schema was upgraded",
        "the backup of the old database keeps them";
    /// A step of the early schema drops the metadata of an authorization server.
    MetadataDropped = "metadata-dropped",
        "connection(s) lost the description of their authorization server while the old schema was \
         upgraded",
        "the backup of the old database keeps it";
    /// An operation row has members without a counterpart.
    OperationMembers = "operation-members", "operation row(s) lose members of their data",
        "the backup of the old database keeps them";
    /// The namespace of a blob names no scope and plugin.
    BlobNamespace = "blob-namespace",
        "blob(s) were not migrated, because their namespace names no scope and plugin",
        "the backup of the old database keeps them";
    /// A blob is stored under a former plugin name; the original leaves it there.
    BlobPlugin = "blob-plugin",
        "blob(s) stay under the plugin `graphql-greenfield`, where they are not read",
        "they were migrated unchanged";
    /// A policy counts as one about built-in tools, although a source has that name.
    PolicyStatic = "policy-static",
        "policy(ies) were taken for policies of built-in tools although a source has that name",
        "they were migrated unchanged";
    /// A text is cut at its first NUL.
    TextCut = "text-cut", "text(s) were cut at their first NUL",
        "the backup of the old database keeps the rest";
    /// A text is not UTF-8; invalid bytes became U+FFFD.
    TextMended = "text-mended", "text(s) are not UTF-8, and their invalid bytes were replaced",
        "the backup of the old database keeps the bytes";
    /// A text with half of a surrogate pair was written without its end, as the original does it.
    HalfCut = "half-cut",
        "text(s) have half of a surrogate pair, which was replaced, and lost bytes at their end",
        "the backup of the old database keeps them";
    /// A JSON number has no exact double.
    NumberRounded = "number-rounded", "JSON value(s) have numbers that were rounded",
        "the backup of the old database keeps them";
    /// A JSON object names a member twice.
    NameRepeated = "name-repeated", "JSON value(s) name a member twice, and the last one was used",
        "the backup of the old database keeps the others";
    /// A JSON cell is one string, and is written without quotes.
    QuotesLost = "quotes-lost", "JSON value(s) are one string and were written without quotes",
        "the backup of the old database keeps them as they were";
    /// A time is not a number.
    TimeReplaced = "time-replaced", "time(s) were not numbers and became the time of the migration",
        "the backup of the old database keeps them";
    /// A value in the secrets file belongs to no row.
    SecretLost = "secret-lost",
        "value(s) of the old secrets file belong to no secret and are not in the new file",
        "the old secrets file is kept as `<the old secrets file>`";
    /// No connection refers to a secret.
    SecretOrphan = "secret-orphan",
        "secret(s) are used by no connection; their values are kept under new ids, without names",
        "the backup of the old database keeps the names";
    /// A table with rows is not read.
    TableUnread = "table-unread", "table(s) with rows have no place in the new database",
        "the backup of the old database keeps them";
    /// A source loses its address.
    SourceUrl = "source-url", "source(s) lose their column `url`",
        "the backup of the old database keeps it";
    /// A table loses a column of settings or times.
    Columns = "columns", "column(s) were not migrated",
        "the backup of the old database keeps them";
}

/// The losses noted so far. It uses cells, since readers note losses through shared references.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    found: RefCell<BTreeMap<Cause, Names>>,
    /// Set while rows are read a second time: their losses are already noted.
    muted: Cell<bool>,
}

#[derive(Debug, Default)]
struct Names {
    count: u64,
    first: Vec<String>,
}

impl Losses {
    /// Runs `act`; if `muted` is set, [`Losses::note`] does nothing meanwhile, because an earlier
    /// run over the same rows noted their losses.
    pub(crate) fn with_muted<T>(&self, muted: bool, act: impl FnOnce() -> T) -> T {
        let before = self.muted.replace(muted);
        let done = act();
        self.muted.set(before);
        done
    }

    /// Returns whether the rows are being read a second time.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.get()
    }

    /// Notes one item. `name` is called only while the warning still shows names.
    pub(crate) fn note(&self, cause: Cause, name: impl FnOnce() -> String) {
        if !self.muted.get() {
            self.note_always(cause, name);
        }
    }

    /// Notes one item also in the second reading. Clashes use it, since only that reading names
    /// them.
    pub(crate) fn note_always(&self, cause: Cause, name: impl FnOnce() -> String) {
        let mut found = self.found.borrow_mut();
        let names = found.entry(cause).or_default();
        names.count += 1;
        if names.first.len() < NAMES_MAX {
            names.first.push(cut(&name()));
        }
    }

    /// Notes a loss that the replay of an early schema recorded under a stable name; an unknown
    /// name is ignored.
    pub(crate) fn note_by_key(&self, key: &str, name: &str) {
        if let Some(cause) = Cause::ALL.iter().find(|cause| cause.key() == key) {
            self.note(*cause, || name.to_owned());
        }
    }

    /// Returns one sentence per cause, in the order of the causes.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let found = self.found.borrow();
        found.iter().map(|(cause, names)| sentence(*cause, names)).collect()
    }
}

fn sentence(cause: Cause, names: &Names) -> String {
    let (what, then) = cause.describe();
    let more = names.count - names.first.len() as u64;
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {what}: {}{rest}; {then}.", names.count, names.first.join(", "))
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_lists_some_counts_all() {
        let losses = Losses::default();
        for n in 0..25 {
            losses.note(Cause::BlobNamespace, || format!("b{n}"));
        }
        losses.note_by_key("connection-unbound", "c");
        let warnings = losses.warnings();
        assert!(warnings[0].starts_with("1 connection(s) are bound to no source"), "{warnings:?}");
        assert!(warnings[1].starts_with("25 blob(s)") && warnings[1].contains("b19 and 5 more"));
    }
}
