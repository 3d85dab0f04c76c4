//! What the new generation has no place for: one warning per cause, with the names of what is
//! concerned. The original drops all of this without a word.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Names that one warning shows.
const NAMES_MAX: usize = 20;
/// Characters of one name that are shown.
const NAME_CHARS_MAX: usize = 160;

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $key:literal, $what:literal, $then:literal;)*) => {
        /// Why something is not as it was. The order is that of the warnings: what hurts most
        /// first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Cause { $($(#[$doc])* $variant),* }

        impl Cause {
            /// All causes, in order.
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name, under which a replay hands its losses on.
            pub(crate) fn key(self) -> &'static str {
                match self { $(Self::$variant => $key),* }
            }

            /// What is concerned, and what became of it.
            fn words(self) -> (&'static str, &'static str) {
                match self { $(Self::$variant => ($what, $then)),* }
            }
        }
    };
}

causes! {
    /// Two rows that cannot both be there, and the first was kept.
    ConflictLeft = "conflict-left", "row(s) clash with an earlier row and were left out",
        "the backup of the old database keeps them";
    /// Rows that belong to a row that was left out.
    FollowsLeft = "follows-left", "row(s) belong to a source that was left out and went with it",
        "the backup of the old database keeps them";
    /// Two rows that cannot both be there, and the later got a name of its own.
    ConflictRenamed = "conflict-renamed", "row(s) clash with an earlier row and got a name of their own",
        "the backup of the old database keeps the old names";
    /// A tool of a source that has no connection.
    ToolWithoutConnection = "tool-without-connection",
        "tool(s) were not carried, because their source has no connection",
        "the backup of the old database keeps them";
    /// A definition of a source that has no connection.
    DefinitionWithoutConnection = "definition-without-connection",
        "definition(s) were not carried, because their source has no connection",
        "the backup of the old database keeps them";
    /// A scope or source with a space in its id.
    GroupMisread = "group-misread",
        "group(s) of credential bindings have a space in scope or source, and their connection \
         went to another name",
        "the backup of the old database keeps the bindings as they were";
    /// A binding that no connection uses.
    BindingUnused = "binding-unused", "credential binding(s) were not carried",
        "the backup of the old database keeps them";
    /// A connection for a source that does not exist.
    BindingWithoutSource = "binding-without-source",
        "connection(s) belong to a source that does not exist",
        "they were made all the same";
    /// A slot that the source's configuration does not name.
    SlotUnknown = "slot-unknown",
        "credential slot(s) are not named by the configuration of their source and were taken for \
         `token` of the template `apiKey`",
        "look at the connection's template";
    /// Two secrets for one variable.
    VariableTaken = "variable-taken",
        "credential binding(s) took the variable of an earlier one of the same connection",
        "the backup of the old database keeps them";
    /// A reference to a secret that has no row.
    SecretDangling = "secret-dangling",
        "reference(s) lead to a secret that has no row, and nothing can be found under it",
        "the connection must be made again";
    /// An id of a secret that another connection's provider put there.
    OverrideLeak = "override-leak",
        "connection(s) or client(s) point at the old id of a secret, because another connection \
         keeps the same secret with another provider",
        "the connection must be made again";
    /// Connections that share an OAuth client, with different settings.
    ClientShared = "client-shared",
        "OAuth connection(s) share a client with an earlier one, whose address and resource hold \
         for both while the client secret is that of the last",
        "the backup of the old database keeps what differs";
    /// Connections that nothing was bound to.
    ConnectionUnbound = "connection-unbound", "connection(s) are bound to no source and were not carried",
        "the backup of the old database keeps them";
    /// A connection's own account label.
    IdentityOverride = "identity-override", "connection(s) lose their `identity_override`",
        "the backup of the old database keeps it";
    /// The scope that a token was given for.
    ConnectionScope = "connection-scope", "connection(s) lose the `scope` that their token was given for",
        "the backup of the old database keeps it";
    /// Members of a connection's state.
    StateMembers = "state-members", "connection(s) lose members of their `provider_state`",
        "the backup of the old database keeps them";
    /// Members of a source's configuration.
    ConfigMembers = "config-members", "source(s) lose members of their configuration",
        "the backup of the old database keeps them";
    /// A source whose configuration is elsewhere.
    SourceShell = "source-shell", "source(s) have no stored configuration and became empty integrations",
        "the backup of the old database keeps what there is of them";
    /// A configuration that a later one replaced.
    ConfigReplaced = "config-replaced",
        "stored configuration(s) were replaced by a later one of the same source",
        "the backup of the old database keeps them";
    /// A configuration without a source.
    ConfigWithoutSource = "config-without-source",
        "stored configuration(s) belong to no source and were not carried",
        "the backup of the old database keeps them";
    /// Headers and the like that an early step drops.
    MemberDropped = "member-dropped",
        "header(s) or parameter(s) are neither text nor secret and were dropped while the old \
         schema was brought up",
        "the backup of the old database keeps them";
    /// Metadata that an early step drops.
    MetadataDropped = "metadata-dropped",
        "connection(s) lost the description of their authorization server while the old schema was \
         brought up",
        "the backup of the old database keeps it";
    /// Members of an operation row.
    OperationMembers = "operation-members", "operation row(s) lose members of their data",
        "the backup of the old database keeps them";
    /// A blob that belongs to no scope and plugin.
    BlobNamespace = "blob-namespace", "blob(s) were not carried, because their namespace names no scope and plugin",
        "the backup of the old database keeps them";
    /// A blob under a name that plugins no longer have.
    BlobPlugin = "blob-plugin", "blob(s) stay under the plugin `graphql-greenfield`, where nobody looks for them",
        "they were carried as they are";
    /// A policy that no longer decides anything.
    PolicyStatic = "policy-static",
        "policy(ies) were taken for ones about built-in tools though a source has that name",
        "they were carried unchanged";
    /// Text behind a NUL.
    TextCut = "text-cut", "text(s) end at their first NUL",
        "the backup of the old database keeps the rest";
    /// Bytes that are no text.
    TextMended = "text-mended", "text(s) are not UTF-8 and were mended",
        "the backup of the old database keeps the bytes";
    /// A number without a double.
    NumberRounded = "number-rounded", "JSON value(s) have numbers that were rounded",
        "the backup of the old database keeps them";
    /// A member that was named twice.
    NameRepeated = "name-repeated", "JSON value(s) name a member twice, and the last one stayed",
        "the backup of the old database keeps the others";
    /// A string that is a whole cell.
    QuotesLost = "quotes-lost", "JSON value(s) are one string and were written without quotes",
        "the backup of the old database keeps them as they were";
    /// A time that is none.
    TimeReplaced = "time-replaced", "time(s) were not numbers and became the time of the migration",
        "the backup of the old database keeps them";
    /// Values of the secrets file that no row names.
    SecretLost = "secret-lost", "value(s) of the old secrets file belong to no secret and left it",
        "the old secrets file is kept as `<the old secrets file>`";
    /// Secrets that nothing refers to.
    SecretOrphan = "secret-orphan",
        "secret(s) are used by no connection; their values were kept under new ids, without their names",
        "the backup of the old database keeps the names";
    /// Tables that are not read.
    TableUnread = "table-unread", "table(s) with rows have no place in the new database",
        "the backup of the old database keeps them";
    /// Addresses of sources.
    SourceUrl = "source-url", "source(s) lose their column `url`",
        "the backup of the old database keeps it";
    /// Settings and times of rows.
    Columns = "columns", "column(s) were not carried",
        "the backup of the old database keeps them";
}

/// What was noted so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    found: RefCell<BTreeMap<Cause, Names>>,
    /// What is noted now was noted before.
    heard: Cell<bool>,
}

#[derive(Debug, Default)]
struct Names {
    count: u64,
    first: Vec<String>,
}

impl Losses {
    /// Does something that may have been done before: then what it notes is known already.
    pub(crate) fn hear<T>(&self, heard: bool, act: impl FnOnce() -> T) -> T {
        let before = self.heard.replace(heard);
        let done = act();
        self.heard.set(before);
        done
    }

    /// Whether what is being done was done before.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.get()
    }

    /// Notes one thing; its name is made only while names are still shown.
    pub(crate) fn note(&self, cause: Cause, name: impl FnOnce() -> String) {
        if !self.heard.get() {
            self.note_once_more(cause, name);
        }
    }

    /// The same, also while what was done before is done once more.
    pub(crate) fn note_once_more(&self, cause: Cause, name: impl FnOnce() -> String) {
        let mut found = self.found.borrow_mut();
        let names = found.entry(cause).or_default();
        names.count += 1;
        if names.first.len() < NAMES_MAX {
            names.first.push(cut(&name()));
        }
    }

    /// Notes what an earlier step has noted.
    pub(crate) fn note_again(&self, key: &str, name: &str) {
        if let Some(cause) = Cause::ALL.iter().find(|cause| cause.key() == key) {
            self.note(*cause, || name.to_owned());
        }
    }

    /// One sentence per cause.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let found = self.found.borrow();
        found.iter().map(|(cause, names)| sentence(*cause, names)).collect()
    }
}

fn sentence(cause: Cause, names: &Names) -> String {
    let (what, then) = cause.words();
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
    fn a_warning_names_some_and_counts_all() {
        let losses = Losses::default();
        for n in 0..25 {
            losses.note(Cause::BlobNamespace, || format!("b{n}"));
        }
        losses.note_again("connection-unbound", "c");
        let warnings = losses.warnings();
        assert!(warnings[0].starts_with("1 connection(s) are bound to no source"), "{warnings:?}");
        assert!(warnings[1].starts_with("25 blob(s)") && warnings[1].contains("b19 and 5 more"));
    }
}
