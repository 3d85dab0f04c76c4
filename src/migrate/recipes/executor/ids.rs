//! Makes ids of rows: 24 characters, the first a letter, each greater than the one before. An id
//! starts with a count from a random start, and the rest is random. Every table has an index over
//! these ids; filling and checking an index in its own order costs half as much as at random.

use groundskeeper_migrate::{Code, Fault};

/// Length of an id in characters.
const LENGTH: usize = 24;
/// Random bytes that one system call fetches.
const POOL_BYTES: usize = 8_192;
/// Characters of an id that hold the count, including the first letter.
const COUNTING: usize = 8;
/// Bound of the random start. It is small compared with the 26 * 36^7 values of the count, so that
/// the count never wraps around.
const START_MAX: u64 = 1 << 37;
/// Alphabets in byte order, which is the order in which an index sorts them.
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Generator of ids.
pub(crate) struct RowIds {
    pool: Vec<u8>,
    used: usize,
    id: String,
    count: Option<u64>,
}

impl RowIds {
    /// Returns a generator that has not fetched random bytes yet.
    pub(crate) fn new() -> Self {
        let id = String::with_capacity(LENGTH);
        Self { pool: vec![0; POOL_BYTES], used: POOL_BYTES, id, count: None }
    }

    /// Returns the next id.
    ///
    /// # Errors
    /// `io` when the system returns no random bytes.
    pub(crate) fn next(&mut self) -> Result<&str, Fault> {
        let count = match self.count {
            Some(count) => count + 1,
            None => self.start()?,
        };
        self.count = Some(count);
        self.id.clear();
        self.id.push(counting(LETTERS, count, COUNTING - 1));
        (0..COUNTING - 1).rev().for_each(|place| self.id.push(counting(DIGITS, count, place)));
        while self.id.len() < LENGTH {
            let next = self.pick(DIGITS)?;
            self.id.push(next);
        }
        Ok(&self.id)
    }

    fn start(&mut self) -> Result<u64, Fault> {
        let mut start = 0;
        for _ in 0..size_of::<u64>() {
            start = start << 8 | u64::from(self.byte()?);
        }
        Ok(start % START_MAX)
    }

    /// Returns one character of an alphabet, all with equal probability.
    fn pick<const N: usize>(&mut self, alphabet: &[u8; N]) -> Result<char, Fault> {
        // Bytes past the last whole multiple of the alphabet's length would favour its first
        // characters.
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
                let hint = "check that /dev/urandom can be read";
                Fault::new(Code::Io, "cannot read random bytes from the system", hint)
                    .because(error)
            })?;
            self.used = 0;
        }
        self.used += 1;
        Ok(self.pool[self.used - 1])
    }
}

/// Returns the character at a position of a count; position 0 is the last.
fn counting<const N: usize>(alphabet: &[u8; N], count: u64, place: usize) -> char {
    let digits = DIGITS.len() as u64;
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    let digit = count / digits.saturating_pow(place) % N as u64;
    char::from(alphabet[usize::try_from(digit).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_are_ordered_and_unique() {
        let mut ids = RowIds::new();
        let mut before = String::new();
        // Enough ids that the last three digits of the count wrap around.
        for _ in 0..50_000 {
            let id = ids.next().expect("chance").to_owned();
            assert_eq!(id.len(), LENGTH);
            assert!(id.starts_with(|c: char| c.is_ascii_lowercase()));
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
            assert!(id > before, "{id} after {before}");
            before = id;
        }
        let mut others = RowIds::new();
        assert_ne!(others.next().expect("chance").get(COUNTING..), before.get(COUNTING..));
    }
}
