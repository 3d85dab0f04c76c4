//! The laws of the core over random histories, on a simulated disk.

#[cfg(test)]
pub(crate) mod actions;
#[cfg(test)]
pub(crate) mod checks;
#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
pub(crate) mod laws;
#[cfg(test)]
pub(crate) mod migration_laws;
#[cfg(test)]
pub(crate) mod output_laws;
