//! Both sides of a session over a simulated network, for the tests of the protocol.

#[cfg(test)]
pub(crate) mod host;
#[cfg(test)]
pub(crate) mod network;
