//! `man`: prints the manual page of the program or of a verb, or writes them all.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::args::Arguments;
use crate::cli::output::CommandResult;
use crate::cli::render;
use crate::core::{Code, Fault};
use crate::world::fs::paths;

pub(in crate::cli) fn man(verb: &[String], dir: Option<&Path>) -> CommandResult {
    let mut program = Arguments::command();
    program.build();
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(paths::failed("create", dir))?;
        clap_mangen::generate_to(program, dir).map_err(paths::failed("write to", dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = &program;
    for word in verb {
        page = page.find_subcommand(word).ok_or_else(|| {
            let message = format!("there is no verb {}", verb.join(" "));
            Fault::new(Code::InvalidRequest, message, "`groundskeeper --help` lists them")
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page.clone())
        .render(&mut text)
        .map_err(|e| Fault::new(Code::Io, "cannot make the page", "free some memory").because(e))?;
    render::out(&String::from_utf8_lossy(&text));
    Ok(ExitCode::SUCCESS)
}
