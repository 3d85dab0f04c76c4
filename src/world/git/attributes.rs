//! Determines whether git would change file contents on checkout in this repository.
//!
//! Our own checkout writes blobs unchanged. That is right only where no filter, encoding,
//! line-ending conversion or `$Id$` expansion applies, and no setting demands another kind of index
//! or tree. Anything not understood is a reason to let git do the checkout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings of a repository: keys in lower case, the last value of a key wins.
#[derive(Debug, Default)]
pub(in crate::world) struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads the output of `git config --list -z`.
    #[must_use]
    pub(in crate::world) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let entries = text.split('\0').filter(|e| !e.is_empty()).map(|entry| {
            // A key without a value means true.
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            (key.to_owned(), value.to_owned())
        });
        Self(entries.collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn is_true(&self, key: &str) -> bool {
        let value = self.get(key).unwrap_or("false").to_ascii_lowercase();
        !matches!(value.as_str(), "false" | "no" | "off" | "0" | "")
    }

    /// Reports whether worktrees have a configuration file of their own.
    #[must_use]
    pub(in crate::world) fn has_worktree_config(&self) -> bool {
        self.is_true("extensions.worktreeconfig")
    }

    /// Returns the ref storage format, if it is not plain files.
    #[must_use]
    pub(in crate::world) fn ref_storage(&self) -> Option<&str> {
        self.get("extensions.refstorage").filter(|s| *s != "files")
    }

    /// Returns the first setting that our own checkout would not honour.
    #[must_use]
    pub(in crate::world) fn checkout_obstacle(&self) -> Option<String> {
        let wrong = [
            ("core.autocrlf", self.get("core.autocrlf").is_some_and(|v| v != "false")),
            ("core.eol", self.get("core.eol").is_some_and(|v| v != "lf" && v != "native")),
            ("core.symlinks", self.get("core.symlinks").is_some_and(|v| v == "false")),
            ("core.filemode", self.get("core.filemode").is_some_and(|v| v == "false")),
            ("core.ignorecase", self.is_true("core.ignorecase")),
            ("core.sparsecheckout", self.is_true("core.sparsecheckout")),
            ("core.splitindex", self.is_true("core.splitindex")),
            ("core.checkstat", self.get("core.checkstat").is_some_and(|v| v != "default")),
            ("core.trustctime", self.get("core.trustctime").is_some_and(|v| v == "false")),
            ("index.version", self.get("index.version").is_some_and(|v| v != "2")),
            ("index.sparse", self.is_true("index.sparse")),
            ("feature.manyfiles", self.is_true("feature.manyfiles")),
            ("attr.tree", self.get("attr.tree").is_some()),
            ("core.attributesfile", self.get("core.attributesfile").is_some_and(is_relative)),
            ("extensions.partialclone", self.get("extensions.partialclone").is_some()),
        ];
        wrong.iter().find(|(_, bad)| *bad).map(|(key, _)| format!("setting {key}"))
    }

    /// Returns the attribute files outside the tree that git would read.
    #[must_use]
    pub(in crate::world) fn attribute_files(&self, common_dir: &Path) -> Vec<PathBuf> {
        // Like in git, an empty variable counts as unset.
        let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = folder("HOME");
        let global = match self.get("core.attributesfile") {
            Some(path) => match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(PathBuf::from(path)),
            },
            None => folder("XDG_CONFIG_HOME")
                .or_else(|| home.map(|h| h.join(".config")))
                .map(|c| c.join("git/attributes")),
        };
        let fixed = [common_dir.join("info/attributes"), PathBuf::from("/etc/gitattributes")];
        fixed.into_iter().chain(global).collect()
    }
}

/// Reports whether a path is neither absolute nor below the home directory: only
/// git knows its base.
fn is_relative(path: &str) -> bool {
    !path.starts_with('/') && !path.starts_with("~/")
}

/// Returns the first attribute in an attributes file that changes contents on checkout.
#[must_use]
pub(in crate::world) fn content_changing(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A quoted pattern may contain blanks. Then every word is checked, which errs on the side
        // of git's own checkout.
        let words = line.split_ascii_whitespace().skip(usize::from(!line.starts_with('"')));
        for word in words {
            let name = word.split('=').next().unwrap_or(word);
            let harmless = match name {
                // `-attr` and `!attr` switch an attribute off, which never changes contents.
                _ if word.starts_with(['-', '!']) => true,
                "filter" | "ident" | "working-tree-encoding" | "crlf" => false,
                "eol" => word == "eol=lf",
                _ => !word.starts_with("[attr]"),
            };
            if !harmless {
                return Some(format!("attribute {word}"));
            }
        }
        if line.starts_with("[attr]") {
            return Some("an attribute macro".to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_changing_attributes_count() {
        for harmless in [
            "* text=auto\n*.png binary\n*.rs diff=rust linguist-generated",
            "# *.bin filter=lfs",
            "*.sh text eol=lf",
            "*.bin -filter",
            "",
        ] {
            assert_eq!(content_changing(harmless.as_bytes()), None, "{harmless:?}");
        }
        for harmful in [
            "*.bin filter=lfs diff=lfs merge=lfs -text",
            "*.bat text eol=crlf",
            "*.c ident",
            "*.txt working-tree-encoding=UTF-16",
            "[attr]lfs filter=lfs",
            "\"a b\" filter=x",
            "* crlf",
        ] {
            assert!(content_changing(harmful.as_bytes()).is_some(), "{harmful:?}");
        }
    }

    /// Settings that change the index format or the content of files.
    #[test]
    fn conversion_settings_block_own_checkout() {
        let of = |text: &str| Config::parse(text.replace(';', "\0").as_bytes());
        assert_eq!(of("core.filemode\ntrue;core.bare\nfalse;").checkout_obstacle(), None);
        for bad in [
            "core.autocrlf\ninput",
            "core.sparsecheckout",
            "index.version\n4",
            "attr.tree\nattrs",
            "core.attributesfile\nattrs",
        ] {
            assert!(of(bad).checkout_obstacle().is_some(), "{bad:?}");
        }
    }
}
