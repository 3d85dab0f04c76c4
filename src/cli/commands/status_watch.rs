//! `status --watch`: shows the table again after each change, until the user has seen enough or the
//! daemon ends.
//!
//! On a terminal it is drawn on the second screen, which is left however the command ends or stops;
//! else one table, or one line of JSON, follows the other.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::status::{fetch_all, table};
use crate::api::types::DaemonView;
use crate::cli::args::Global;
use crate::cli::client::Client;
use crate::cli::output::{CommandResult, NOTHING, encode, show_one};
use crate::cli::{named, render};
use crate::core::{Code, Fault};

/// Time without a further event after which the table is drawn, so that a burst draws it once.
const GATHER: Duration = Duration::from_millis(50);
/// Interval at which the ages in the table are updated on a terminal.
const REFRESH: Duration = Duration::from_secs(10);

pub(in crate::cli) async fn watch(global: &Global, id: Option<&str>) -> CommandResult {
    let mut client = Client::connect(global).await?;
    let id = match id {
        Some(id) => Some(named::any(&mut client, Some(id)).await?),
        None => None,
    };
    let id = id.as_deref();
    let daemon: DaemonView = client.call(Method::GET, "/v1/daemon", NOTHING).await?;
    let only = id.map(|id| format!("&environment={}", encode(id))).unwrap_or_default();
    let path = format!("/v1/events?watch=true&since={}{only}", daemon.seq);
    let stream = client.send(Method::GET, &path, &[], None).await?;
    if !stream.status().is_success() {
        crate::cli::client::read(stream).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let stream = stream.into_body();
    let live = std::io::stdout().is_terminal() && !global.json;
    let again = Notify::new();
    let drawing = draw(global, id, live, stream, &again);
    if live { on_screen(drawing, &again).await } else { drawing.await }
}

/// Draws on the second screen, until the user or a supervisor ends it. While the user has stopped
/// it, the terminal shows what was there before.
async fn on_screen(drawing: impl Future<Output = CommandResult>, again: &Notify) -> CommandResult {
    let failed = |e| Fault::new(Code::Io, "cannot listen to signals", "try again").because(e);
    let listen = |kind| signal(kind).map_err(failed);
    let mut stop = listen(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let (mut term, mut hup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut resized = listen(SignalKind::window_change())?;
    let mut screen = Some(Screen::enter());
    tokio::pin!(drawing);
    loop {
        tokio::select! {
            ended = &mut drawing => return ended,
            // The user has seen enough, also of a daemon that does not answer.
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            _ = term.recv() => return Ok(ended_by(Signal::TERM)),
            _ = hup.recv() => return Ok(ended_by(Signal::HUP)),
            _ = resized.recv() => again.notify_one(),
            _ = stop.recv() => {
                drop(screen.take());
                // It returns when the user goes on.
                let _stopped = kill_process(getpid(), Signal::STOP);
                screen = Some(Screen::enter());
                again.notify_one();
            }
        }
    }
}

/// Returns the exit code of a shell for a command that a signal ended.
fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(1))
}

/// Draws the table after each change, and whenever it is asked to.
async fn draw(
    global: &Global,
    id: Option<&str>,
    live: bool,
    mut stream: Incoming,
    again: &Notify,
) -> CommandResult {
    loop {
        // The daemon closes a connection that is idle for long, so each round opens a new one.
        let mut client = Client::connect(global).await?;
        let mut all = fetch_all(&mut client).await?;
        all.retain(|entry| id.is_none_or(|id| entry.id == id));
        if live {
            let text = if all.is_empty() { "no environments\n".to_owned() } else { table(&all) };
            render::out(&screenful(&text, render::terminal_height()));
        } else {
            show_one(global, &all, &table(&all))?;
        }
        let limit = if live { REFRESH } else { Duration::MAX };
        tokio::select! {
            received = tokio::time::timeout(limit, stream.frame()) => {
                if matches!(received, Ok(None | Some(Err(_)))) {
                    let hint = "run `groundskeeper status --watch` again";
                    let fault = Fault::new(Code::DaemonUnreachable, "the daemon has ended", hint);
                    return Err(fault.into());
                }
                // Drains a burst of events before the next query.
                while let Ok(Some(Ok(_))) = tokio::time::timeout(GATHER, stream.frame()).await {}
            }
            () = again.notified() => {}
        }
    }
}

/// Returns what draws a text in place of the one before: cursor home, then line by line over it.
/// Clearing first would flicker. What does not fit is counted, for it would scroll.
fn screenful(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = lines.len() < height;
    let shown = if fits { lines.len() } else { height.saturating_sub(2) };
    let mut drawn = String::from("\x1b[H");
    for line in lines.iter().take(shown) {
        drawn += &format!("{line}\x1b[K\n");
    }
    if !fits {
        drawn += &format!("... and {} more\x1b[K\n", lines.len() - shown);
    }
    drawn + "\x1b[J"
}

/// The second screen of a terminal, on which the table is drawn; what was there before comes back.
struct Screen;

impl Screen {
    fn enter() -> Self {
        render::out("\x1b[?1049h\x1b[?25l");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        render::out("\x1b[?25h\x1b[?1049l");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_never_scrolls() {
        let text = "HEAD\na\nb\nc\n";
        assert_eq!(screenful(text, 5), "\x1b[HHEAD\x1b[K\na\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J");
        let cut = screenful(text, 4);
        assert_eq!(cut, "\x1b[HHEAD\x1b[K\na\x1b[K\n... and 2 more\x1b[K\n\x1b[J");
        for height in 2..9 {
            assert!(screenful(text, height).matches('\n').count() < height, "{height}");
        }
    }
}
