//! Parses JSON: exactly the grammar of ECMA-404, to any depth. It keeps its own stack of open
//! containers, so it does not recurse.

use std::fmt;

use super::number::is_exact;
use super::text::{Text, plain_run, push_point};
use super::value::{Object, Value};
use std::rc::Rc;

/// The parsed value, and the losses of reading it.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// An object names a member twice; the earlier values are lost.
    pub(crate) repeated: bool,
    /// A number has no double of the same value.
    pub(crate) rounded: bool,
}

/// The reason why a text is not JSON. It never contains the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Offset of the byte at which the text stops being JSON.
    pub(crate) at: usize,
    what: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for SyntaxError {}

/// A container that is not closed yet; an object with the name of its next member.
enum Open {
    Array(Vec<Value>),
    Object(Vec<(Text, Value)>, Text),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    repeated: bool,
    rounded: bool,
    scratch: Vec<u8>,
}

/// Parses a text as exactly one JSON value.
pub(crate) fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let mut reader = Reader { text, at: 0, repeated: false, rounded: false, scratch: Vec::new() };
    let value = reader.document()?;
    Ok(Parsed { value, repeated: reader.repeated, rounded: reader.rounded })
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Value, SyntaxError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let Some(mut value) = self.start(&mut open)? else { continue };
            // A value is complete; so may be the containers that end with it.
            loop {
                let Some(container) = open.last_mut() else { return self.end(value) };
                if self.put(container, value)? {
                    break;
                }
                value = match open.pop() {
                    Some(Open::Array(items)) => Value::array(items),
                    Some(Open::Object(members, _)) => self.close(members),
                    None => return Err(self.error("a closing bracket has no opening one")),
                };
            }
        }
    }

    /// Reads a value; or opens a container that is not empty, and returns none.
    fn start(&mut self, open: &mut Vec<Open>) -> Result<Option<Value>, SyntaxError> {
        self.space();
        let value = match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.space();
                if self.peek() != Some(b'}') {
                    let name = self.name()?;
                    open.push(Open::Object(Vec::new(), name));
                    return Ok(None);
                }
                self.at += 1;
                Value::object(Vec::new())
            }
            Some(b'[') => {
                self.at += 1;
                self.space();
                if self.peek() != Some(b']') {
                    open.push(Open::Array(Vec::new()));
                    return Ok(None);
                }
                self.at += 1;
                Value::array(Vec::new())
            }
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(_) => return Err(self.error("no value starts with this character")),
            None => return Err(self.error("the text ends where a value is expected")),
        };
        Ok(Some(value))
    }

    /// Puts a value into its container. Returns whether another value follows.
    fn put(&mut self, container: &mut Open, value: Value) -> Result<bool, SyntaxError> {
        self.space();
        let next = self.peek();
        let more = match (&container, next) {
            (_, Some(b',')) => true,
            (Open::Array(_), Some(b']')) | (Open::Object(..), Some(b'}')) => false,
            _ => return Err(self.error("a comma or a closing bracket is expected")),
        };
        self.at += 1;
        match container {
            Open::Array(items) => items.push(value),
            Open::Object(members, name) => {
                let following = if more { self.name_after_space()? } else { "".into() };
                members.push((std::mem::replace(name, following), value));
            }
        }
        Ok(more)
    }

    fn close(&mut self, members: Vec<(Text, Value)>) -> Value {
        let (object, repeated) = Object::from_members(members);
        self.repeated |= repeated;
        Value::Object(Rc::new(object))
    }

    fn end(&mut self, value: Value) -> Result<Value, SyntaxError> {
        self.space();
        if self.at == self.text.len() {
            Ok(value)
        } else {
            Err(self.error("text follows the value"))
        }
    }

    fn name_after_space(&mut self) -> Result<Text, SyntaxError> {
        self.space();
        self.name()
    }

    fn name(&mut self) -> Result<Text, SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("a member name is expected"));
        }
        let name = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.error("a colon is expected"));
        }
        self.at += 1;
        Ok(name)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, SyntaxError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("true, false or null is expected"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn string(&mut self) -> Result<Text, SyntaxError> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        self.scratch.clear();
        loop {
            let from = self.at;
            self.at += plain_run(&bytes[from..]);
            let run = &bytes[from..self.at];
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    if self.scratch.is_empty() {
                        return Ok(Text::from_bytes(run));
                    }
                    self.scratch.extend_from_slice(run);
                    return Ok(Text::from_bytes(&self.scratch));
                }
                Some(b'\\') => {
                    self.scratch.extend_from_slice(run);
                    self.escape()?;
                }
                Some(_) => return Err(self.error("a string contains a control character")),
                None => return Err(self.error("a string has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        let code = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match code {
            Some(code @ (b'"' | b'\\' | b'/')) => code,
            Some(b'b') => 8,
            Some(b't') => 9,
            Some(b'n') => 10,
            Some(b'f') => 12,
            Some(b'r') => 13,
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("a string contains an invalid escape")),
        };
        self.scratch.push(plain);
        self.at += 2;
        Ok(())
    }

    /// Reads one `\u` escape, or two that make a surrogate pair.
    fn unicode(&mut self) -> Result<(), SyntaxError> {
        let high = self.unit(self.at)?;
        self.at += 6;
        if (0xd800..0xdc00).contains(&high)
            && let Ok(low @ 0xdc00..=0xdfff) = self.unit(self.at)
        {
            self.at += 6;
            push_point(&mut self.scratch, 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            return Ok(());
        }
        push_point(&mut self.scratch, high);
        Ok(())
    }

    fn unit(&self, at: usize) -> Result<u32, SyntaxError> {
        let escape = self.text.as_bytes().get(at..at + 6).and_then(|e| e.strip_prefix(b"\\u"));
        let digits = escape.filter(|e| e.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|e| std::str::from_utf8(e).ok());
        digits
            .and_then(|e| u32::from_str_radix(e, 16).ok())
            .ok_or_else(|| self.error("four hexadecimal digits are expected"))
    }

    fn number(&mut self) -> Result<f64, SyntaxError> {
        let from = self.at;
        self.skip(|b| b == b'-', 1);
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.error("a digit is expected")),
        }
        if self.skip(|b| b == b'.', 1) {
            self.digits()?;
        }
        if self.skip(|b| matches!(b, b'e' | b'E'), 1) {
            self.skip(|b| matches!(b, b'+' | b'-'), 1);
            self.digits()?;
        }
        let text = &self.text[from..self.at];
        let number = text.parse().map_err(|_| self.error("the number is invalid"))?;
        self.rounded |= !is_exact(text, number);
        Ok(number)
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if self.skip(|b| b.is_ascii_digit(), usize::MAX) {
            return Ok(());
        }
        Err(self.error("a digit is expected"))
    }

    /// Skips at most `most` bytes of a kind. Returns whether it skipped any.
    fn skip(&mut self, kind: impl Fn(u8) -> bool, most: usize) -> bool {
        let from = self.at;
        while self.at - from < most && self.peek().is_some_and(&kind) {
            self.at += 1;
        }
        self.at > from
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { at: self.at, what }
    }
}
