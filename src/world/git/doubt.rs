//! Why a directory is not proven to be ours, for people. It proves nothing.

use std::path::PathBuf;

/// Why a directory is not proven to be ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The path leads out of the managed root, or is not the real one.
    #[error("its real path {} is not inside the managed root", real.display())]
    OutsideRoot {
        /// The real path.
        real: PathBuf,
    },
    /// There is no marker.
    #[error("the marker in its git directory is missing")]
    NoMarker,
    /// The marker is that of another incarnation, or of another log.
    #[error(
        "its marker names {environment}, incarnation {incarnation}{}",
        if *has_nonce { ", with another nonce" } else { "" }
    )]
    OtherMarker {
        /// Environment that the marker names.
        environment: String,
        /// Incarnation that the marker names.
        incarnation: u32,
        /// Whether the marker names a nonce.
        has_nonce: bool,
    },
    /// The pointer leads to the administrative directory of another incarnation.
    #[error("its .git file names the worktree of another incarnation")]
    OtherPointer,
    /// Device and inode are not those in the marker.
    #[error("another directory is at its path")]
    OtherDirectory,
    /// Device and inode are not those in the log.
    #[error("the log records another directory at its path")]
    OtherRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a nonce, an incarnation is told apart by its number alone.
    #[test]
    fn other_marker_names_its_incarnation() {
        let marker = |has_nonce| Doubt::OtherMarker {
            environment: "demo".to_owned(),
            incarnation: 2,
            has_nonce,
        };
        assert_eq!(marker(false).to_string(), "its marker names demo, incarnation 2");
        let other = "its marker names demo, incarnation 2, with another nonce";
        assert_eq!(marker(true).to_string(), other);
        let outside = Doubt::OutsideRoot { real: "/x".into() };
        assert_eq!(outside.to_string(), "its real path /x is not inside the managed root");
    }
}
