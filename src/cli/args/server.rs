//! Arguments of the control server and of its hosts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::logging::Logging;

/// Flags of a control server.
#[derive(Debug, Args)]
pub struct Server {
    /// Directory for its catalogue and secrets [default: server in the data directory]
    #[arg(long, value_name = "DIR")]
    pub server_dir: Option<PathBuf>,
    /// TCP address to listen on as well; clients need the token in its admin-token file
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Flags for the log.
    #[command(flatten)]
    pub logging: Logging,
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// Create a key for a host; it is printed only once
    Add {
        /// Host id
        id: String,
        /// Replace the key of a known host
        #[arg(long)]
        replace: bool,
    },
    /// List the hosts
    Ls,
    /// Remove a host from the server; nothing changes on the host itself
    Rm {
        /// Host id
        id: String,
    },
}
