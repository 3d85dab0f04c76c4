//! Prints JSON as `JSON.stringify` does. It keeps its own stack of open containers, so it does not
//! recurse.

use super::number::print_number;
use super::text::{Text, plain_run};
use super::value::Value;

/// A container that is being printed: the part that is still to come.
enum Rest<'a> {
    Array(std::slice::Iter<'a, Value>),
    Object(std::slice::Iter<'a, (Text, Value)>),
}

/// Prints a value without white space.
pub(crate) fn compact(value: &Value) -> String {
    print(value, None)
}

/// Prints a value in lines, indented by two spaces a level.
pub(crate) fn pretty(value: &Value) -> String {
    print(value, Some(2))
}

fn print(value: &Value, indent: Option<usize>) -> String {
    let mut out = Vec::with_capacity(512);
    let mut open = Vec::new();
    put(&mut out, value, &mut open);
    while let Some(rest) = open.last_mut() {
        let first = matches!(out.last(), Some(b'[' | b'{'));
        let next = match rest {
            Rest::Array(items) => items.next().map(|item| (None, item)),
            Rest::Object(members) => members.next().map(|(name, item)| (Some(name), item)),
        };
        let close = if matches!(rest, Rest::Array(_)) { b']' } else { b'}' };
        let Some((name, item)) = next else {
            open.pop();
            line(&mut out, indent, open.len());
            out.push(close);
            continue;
        };
        if !first {
            out.push(b',');
        }
        line(&mut out, indent, open.len());
        if let Some(name) = name {
            string(&mut out, name);
            out.extend_from_slice(if indent.is_some() { b": " } else { b":" });
        }
        put(&mut out, item, &mut open);
    }
    // Every byte is from valid text or is ASCII; lone halves were escaped. A replacement character
    // would be a defect.
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Prints a scalar or an empty container whole; of another container only the opening.
fn put<'a>(out: &mut Vec<u8>, value: &'a Value, open: &mut Vec<Rest<'a>>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) if n.is_finite() => out.extend_from_slice(print_number(*n).as_bytes()),
        Value::Number(_) => out.extend_from_slice(b"null"),
        Value::String(text) => string(out, text),
        Value::Array(array) if array.items().is_empty() => out.extend_from_slice(b"[]"),
        Value::Object(object) if object.members().is_empty() => out.extend_from_slice(b"{}"),
        Value::Array(array) => {
            out.push(b'[');
            open.push(Rest::Array(array.items().iter()));
        }
        Value::Object(object) => {
            out.push(b'{');
            open.push(Rest::Object(object.members().iter()));
        }
    }
}

fn line(out: &mut Vec<u8>, indent: Option<usize>, depth: usize) {
    if let Some(width) = indent {
        out.push(b'\n');
        out.resize(out.len() + width * depth, b' ');
    }
}

fn string(out: &mut Vec<u8>, text: &Text) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let run = printed_run(rest);
        out.extend_from_slice(&rest[..run]);
        at += run;
        match rest.get(run) {
            Some(0xed) => at += half(out, &rest[run..]),
            Some(byte) => at += escape(out, *byte),
            None => {}
        }
    }
    out.push(b'"');
}

/// Returns how many bytes from the start are printed unchanged: up to the next escape or lone half.
fn printed_run(bytes: &[u8]) -> usize {
    let mut run = plain_run(bytes);
    // Only a lone half ends the run early, and its first byte hardly ever occurs.
    let mut from = 0;
    while let Some(at) = bytes[from..run].iter().position(|byte| *byte == 0xed) {
        if bytes.get(from + at + 1).is_some_and(|next| *next >= 0xa0) {
            run = from + at;
            break;
        }
        from += at + 1;
    }
    run
}

fn escape(out: &mut Vec<u8>, byte: u8) -> usize {
    let short = match byte {
        8 => b'b',
        9 => b't',
        10 => b'n',
        12 => b'f',
        13 => b'r',
        b'"' | b'\\' => byte,
        _ => {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            return 1;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

/// Prints half of a pair as an escape, which is the only valid form of it.
fn half(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let low = |at: usize| u32::from(bytes.get(at).copied().unwrap_or_default() & 0x3f);
    let unit = 0xd000 | low(1) << 6 | low(2);
    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
    3
}
