//! A string as JavaScript has it: Unicode text that may contain half of a surrogate pair.
//!
//! It is stored as UTF-8 in which such a half is encoded like a character (three bytes, `ED A0` to
//! `ED BF` first). So almost every string is plain UTF-8, and strings are compared as bytes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

/// Bytes of a string that needs no allocation; most names and many values are this short.
const SHORT_MAX: usize = 22;

/// A string that is cheap to clone.
#[derive(Clone)]
pub(crate) struct Text(Kept);

#[derive(Clone)]
enum Kept {
    Short(u8, [u8; SHORT_MAX]),
    Long(Rc<[u8]>),
}

impl Text {
    /// Makes a string from bytes in the form above; only the parser has such bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT_MAX];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Self(Kept::Short(length, short))
            }
            _ => Self(Kept::Long(bytes.into())),
        }
    }

    /// Returns the bytes; a lone half takes three bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Short(length, bytes) => &bytes[..usize::from(*length)],
            Kept::Long(bytes) => bytes,
        }
    }

    /// Returns the text; none when it contains a lone half.
    pub(crate) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// Returns the text as JavaScript writes it out: a lone half becomes U+FFFD.
    pub(crate) fn lossy(&self) -> Cow<'_, str> {
        match self.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => {
                Cow::Owned(self.points().map(|p| char::from_u32(p).unwrap_or('\u{fffd}')).collect())
            }
        }
    }

    /// Returns the text as the original's database driver writes it into a cell.
    ///
    /// A lone half becomes U+FFFD, which takes three bytes. The driver reckons two bytes for it
    /// when it sizes its buffer, so the text loses one byte for each at its end, in whole
    /// characters.
    pub(crate) fn written(&self) -> Cow<'_, str> {
        let Cow::Owned(mut text) = self.lossy() else { return self.lossy() };
        let halves = self.points().filter(|point| char::from_u32(*point).is_none()).count();
        let room = text.len() - halves;
        while text.len() > room {
            text.pop();
        }
        Cow::Owned(text)
    }

    /// Returns whether the string has a lone half.
    pub(crate) fn has_half(&self) -> bool {
        self.as_str().is_none()
    }

    /// Returns the text behind a prefix; none when the string does not start with it.
    pub(crate) fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        self.as_bytes().strip_prefix(prefix.as_bytes()).map(Self::from_bytes)
    }

    /// Returns the string without white space at both ends, as JavaScript's `trim` does.
    pub(crate) fn trimmed(&self) -> Self {
        // White space and U+FFFD take as many bytes in the lossy text as in this one.
        let text = self.lossy();
        let start = text.len() - text.trim_start_matches(is_space).len();
        let end = start + trim(&text).len();
        self.as_bytes().get(start..end).map_or_else(|| self.clone(), Self::from_bytes)
    }

    /// Returns the string with another one behind it. Two halves that meet become a pair.
    pub(crate) fn followed_by(&self, other: &Self) -> Self {
        let mut bytes = Vec::new();
        let mut high: Option<u32> = None;
        for point in self.points().chain(other.points()) {
            match (high.take(), point) {
                (Some(first), 0xdc00..0xe000) => {
                    push_point(&mut bytes, 0x1_0000 + ((first - 0xd800) << 10) + (point - 0xdc00));
                    continue;
                }
                (Some(first), _) => push_point(&mut bytes, first),
                (None, _) => {}
            }
            match point {
                0xd800..0xdc00 => high = Some(point),
                _ => push_point(&mut bytes, point),
            }
        }
        if let Some(first) = high {
            push_point(&mut bytes, first);
        }
        Self::from_bytes(&bytes)
    }

    /// Returns the strings joined by an ASCII separator, across which no two halves can meet.
    pub(crate) fn join(parts: &[Self], separator: u8) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(Self::as_bytes).collect();
        Self::from_bytes(&parts.join(&separator))
    }

    /// Returns whether the string is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the UTF-16 code units that JavaScript iterates over, each as a string of its own.
    pub(crate) fn units(&self) -> Vec<Self> {
        let mut units = Vec::new();
        for point in self.points() {
            match point.checked_sub(0x1_0000) {
                None => units.push(Self::from_point(point)),
                Some(rest) => {
                    units.push(Self::from_point(0xd800 + (rest >> 10)));
                    units.push(Self::from_point(0xdc00 + (rest & 0x3ff)));
                }
            }
        }
        units
    }

    fn from_point(point: u32) -> Self {
        let mut bytes = Vec::with_capacity(4);
        push_point(&mut bytes, point);
        Self::from_bytes(&bytes)
    }

    fn points(&self) -> impl Iterator<Item = u32> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (point, length) = point_at(self.as_bytes().get(at..)?)?;
            at += length;
            Some(point)
        })
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.lossy(), f)
    }
}

/// Bytes that stand for themselves inside a JSON string.
const PLAIN: [bool; 256] = plain();

const fn plain() -> [bool; 256] {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
}

/// Returns how many bytes from the start stand for themselves.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}

/// Appends a code point, which may be half of a surrogate pair.
pub(super) fn push_point(bytes: &mut Vec<u8>, point: u32) {
    if let Some(c) = char::from_u32(point) {
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        let low = |shift: u32| 0x80 | ((point >> shift) & 0x3f) as u8;
        bytes.extend_from_slice(&[0xed, low(6), low(0)]);
    }
}

/// Returns the code point at the start of bytes, and its length in bytes.
fn point_at(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let length = match first {
        0..0x80 => return Some((u32::from(first), 1)),
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let mut point = u32::from(first) & (0x7f >> length);
    for byte in bytes.get(1..length)? {
        point = point << 6 | u32::from(byte & 0x3f);
    }
    Some((point, length))
}

/// Returns whether JavaScript takes a character for white space. Unlike Rust it includes U+FEFF and
/// excludes U+0085.
pub(crate) fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c != '\u{85}' && c.is_whitespace())
}

/// Returns the text without white space at both ends, as JavaScript's `trim` does.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}
