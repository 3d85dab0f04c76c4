//! Ids of rows: 24 characters by chance, the first a letter. Fast, since every row needs one.

use crate::core::{Code, Fault};

/// Characters of an id.
const LENGTH: usize = 24;
/// Random bytes that are fetched at once.
const POOL_BYTES: usize = 8_192;
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A source of ids.
pub(crate) struct RowIds {
    pool: Vec<u8>,
    used: usize,
    id: String,
}

impl RowIds {
    /// One that has not fetched any chance yet.
    pub(crate) fn new() -> Self {
        Self { pool: vec![0; POOL_BYTES], used: POOL_BYTES, id: String::with_capacity(LENGTH) }
    }

    /// The next id.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(crate) fn next(&mut self) -> Result<&str, Fault> {
        self.id.clear();
        let first = self.pick(LETTERS)?;
        self.id.push(first);
        while self.id.len() < LENGTH {
            let next = self.pick(DIGITS)?;
            self.id.push(next);
        }
        Ok(&self.id)
    }

    /// One character of an alphabet, each as likely as the others.
    fn pick<const N: usize>(&mut self, alphabet: &[u8; N]) -> Result<char, Fault> {
        // Bytes past the last whole run of the alphabet would favour its start.
        let fair = 256 / N * N;
        loop {
            let byte = usize::from(self.byte()?);
            if byte < fair {
                return Ok(char::from(alphabet[byte % N]));
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        if self.used >= self.pool.len() {
            getrandom::fill(&mut self.pool).map_err(|error| {
                Fault::new(Code::Io, "the system has no random bytes", "try again").because(error)
            })?;
            self.used = 0;
        }
        self.used += 1;
        Ok(self.pool[self.used - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_and_differ() {
        let mut ids = RowIds::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..5_000 {
            let id = ids.next().expect("chance").to_owned();
            assert_eq!(id.len(), LENGTH);
            assert!(id.starts_with(|c: char| c.is_ascii_lowercase()));
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
            assert!(seen.insert(id));
        }
    }
}
