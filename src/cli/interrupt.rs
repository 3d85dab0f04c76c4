//! Ctrl-C while the daemon works for a command: the command ends, the daemon goes on, and the user
//! is told how to see that, and how to stop it where it can be stopped.

use tokio::task::JoinHandle;

use crate::cli::local::EXIT_INTERRUPTED;
use crate::cli::render;

/// Waits for Ctrl-C until it is dropped.
pub(super) struct Interrupt(JoinHandle<()>);

impl Interrupt {
    /// Prints `text` at Ctrl-C, and ends this process.
    pub(super) fn told(text: String) -> Self {
        Self(tokio::spawn(async move {
            // Without a handler the signal ends this process at once, which is as good.
            if tokio::signal::ctrl_c().await.is_ok() {
                // Below what shows the progress.
                render::note("");
                render::note(&text);
                std::process::exit(EXIT_INTERRUPTED);
            }
        }))
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.abort();
    }
}
