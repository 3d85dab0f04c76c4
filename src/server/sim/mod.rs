//! Model of a session: host and server over a simulated network, for tests of the protocol.

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod histories;
#[cfg(test)]
pub(crate) mod host;
#[cfg(test)]
mod line;
#[cfg(test)]
pub(crate) mod network;
#[cfg(test)]
mod requests;
