//! Recognises JSON text that prints as itself, so that it need not be parsed and printed.
//!
//! It accepts only what it can prove in one pass over the bytes: a container without white space,
//! with short whole numbers, escapes as they are printed, index keys first and ascending, and no
//! duplicate names. Everything else is parsed and printed; a test compares every accepted text with
//! that result.

use super::text::plain_run;

/// Limit of members of one object whose names are compared; a larger object is not accepted.
const NAMES_MAX: usize = 64;
/// Limit of digits of a number that surely prints as it is read: fifteen digits are below 2^53.
const DIGITS_MAX: usize = 15;

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// Open containers: for an object the index of its first name in `names`, none for an array.
    open: Vec<Option<usize>>,
    names: Vec<&'a [u8]>,
}

/// Returns whether a text is an object or array in exactly the form in which it would be printed.
pub(crate) fn is_canonical(text: &str) -> bool {
    let mut scan = Scan { text: text.as_bytes(), at: 0, open: Vec::new(), names: Vec::new() };
    matches!(text.as_bytes().first(), Some(b'{' | b'[')) && scan.document().is_some()
}

impl<'a> Scan<'a> {
    fn document(&mut self) -> Option<()> {
        self.value()?;
        while let Some(container) = self.open.last().copied() {
            let next = self.next()?;
            match (container, next) {
                (Some(_), b',') => {
                    self.name()?;
                    self.value()?;
                }
                (None, b',') => self.value()?,
                (Some(_), b'}') | (None, b']') => self.close(),
                _ => return None,
            }
        }
        (self.at == self.text.len()).then_some(())
    }

    /// Scans a value; of a container that is not empty, everything up to the end of its first
    /// scalar.
    fn value(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                b'{' => {
                    self.open.push(Some(self.names.len()));
                    if self.closes(b'}') {
                        return Some(());
                    }
                    self.name()?;
                }
                b'[' => {
                    self.open.push(None);
                    if self.closes(b']') {
                        return Some(());
                    }
                }
                b'"' => return self.string().map(drop),
                b't' => return self.word(b"rue"),
                b'f' => return self.word(b"alse"),
                b'n' => return self.word(b"ull"),
                b'-' => {
                    let first = self.next()?;
                    // `-0` prints as `0`.
                    return if first == b'0' { None } else { self.number(first) };
                }
                first => return self.number(first),
            }
        }
    }

    fn closes(&mut self, end: u8) -> bool {
        let empty = self.text.get(self.at) == Some(&end);
        if empty {
            self.at += 1;
            self.close();
        }
        empty
    }

    fn close(&mut self) {
        if let Some(Some(start)) = self.open.pop() {
            self.names.truncate(start);
        }
    }

    fn name(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        let name = self.string()?;
        let start = self.open.last().copied().flatten()?;
        let earlier = &self.names[start..];
        if earlier.len() >= NAMES_MAX || earlier.contains(&name) || !in_place(earlier.last(), name)
        {
            return None;
        }
        self.names.push(name);
        (self.next()? == b':').then_some(())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        loop {
            self.at += plain_run(self.text.get(self.at..)?);
            match self.next()? {
                b'"' => return Some(&self.text[from..self.at - 1]),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r' => Some(()),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                // Only control characters without a short form are printed as `\u` escapes.
                let [b'0', b'0', high @ (b'0' | b'1'), low] = digits else { return None };
                let short = *high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd');
                (!short && matches!(low, b'0'..=b'9' | b'a'..=b'f')).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self, first: u8) -> Option<()> {
        if !first.is_ascii_digit() {
            return None;
        }
        let from = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        let digits = self.at - from + 1;
        let whole = !matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E'));
        (whole && digits <= DIGITS_MAX && (first != b'0' || digits == 1)).then_some(())
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let is = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is.then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }
}

/// Returns whether a name may follow another one: index keys come first, in ascending order. A name
/// that only resembles an index (leading zeros, too many digits) is not accepted.
fn in_place(last: Option<&&[u8]>, name: &[u8]) -> bool {
    let digits = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    if !digits(name) {
        return true;
    }
    let plain = name.len() < 10 && (name == b"0" || !name.starts_with(b"0"));
    plain && last.is_none_or(|last| digits(last) && (last.len(), *last) < (name.len(), name))
}
