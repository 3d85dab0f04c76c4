//! The manual: what the program guarantees, its commands and settings, the control server, and the
//! API. The same pages lie as files in `src/manual`. It holds no code.

#[doc = include_str!("manual/guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("manual/commands.md")]
pub mod commands {}

#[doc = include_str!("manual/settings.md")]
pub mod settings {}

#[doc = include_str!("manual/control-server.md")]
pub mod control_server {}

#[doc = include_str!("manual/programs.md")]
pub mod programs {}
