//! Model of a session: host and server over a simulated network, for tests of the protocol.

#[cfg(test)]
pub(crate) mod host;
#[cfg(test)]
pub(crate) mod network;
