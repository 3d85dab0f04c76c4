//! `config`: shows the settings and where they come from, and checks a file. It changes none.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::{ConfigVerb, Global};
use crate::cli::output::{CommandResult, show_one};
use crate::cli::render;
use crate::config_file::Loaded;
use crate::core::{Code, Fault};

pub(in crate::cli) fn config(global: &Global, what: ConfigVerb) -> CommandResult {
    match what {
        ConfigVerb::Show { origin } => {
            let found = Loaded::read()?;
            let value = json!({
                "file": found.file, "exists": found.exists, "set": found.set,
                "settings": found.config,
            });
            show_one(global, &value, &found.text(origin))
        }
        ConfigVerb::Check { file } => {
            let found = match &file {
                Some(file) => Loaded::read_from(file)?,
                None => Loaded::read()?,
            };
            // To check a file that does not exist is a mistake; to run without one is not.
            if let Some(file) = file.filter(|_| !found.exists) {
                let message = format!("{} does not exist", file.display());
                return Err(Fault::new(Code::PathNotFound, message, "check its name").into());
            }
            let name = found.file.as_deref().unwrap_or(Path::new("no file")).display();
            let text = if found.exists {
                format!("{name}: valid, {} settings\n", found.set.len())
            } else {
                format!("{name} does not exist; the defaults are in effect\n")
            };
            let value = json!({ "file": found.file, "exists": found.exists, "valid": true });
            show_one(global, &value, &text)
        }
        ConfigVerb::Path => {
            // Not read: it may be asked for in order to mend it, or to make it.
            let Some(file) = Loaded::place() else {
                let message = "there is no home directory, and so no file";
                let hint = "name one with GROUNDSKEEPER_CONFIG";
                return Err(Fault::new(Code::InvalidConfig, message, hint).into());
            };
            if global.json {
                return show_one(global, &json!({ "file": file, "exists": file.exists() }), "");
            }
            render::out(&format!("{}\n", render::printable(&file.display().to_string())));
            if !file.exists() && !global.quiet {
                render::note("this file does not exist yet");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
