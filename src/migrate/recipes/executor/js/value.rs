//! Values: plain data, shared when cloned, taken apart without recursion.

use std::mem;
use std::rc::Rc;

use super::number::print_number;
use super::text::Text;

/// Members up to which names are compared with one another; more are sorted.
const COMPARED_MAX: usize = 16;
/// The largest index of an array; a larger number is an ordinary name.
const INDEX_MAX: u32 = u32::MAX - 1;

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Text),
    Array(Rc<Array>),
    Object(Rc<Object>),
}

/// Values in a row.
#[derive(Debug)]
pub(crate) struct Array(Vec<Value>);

/// Members in the order in which JavaScript goes through them; no name is there twice.
#[derive(Debug)]
pub(crate) struct Object(Vec<(Text, Value)>);

impl Value {
    /// A member of an object; none of anything else.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }

    /// A member that is there and is not null.
    pub(crate) fn present(&self, name: &str) -> Option<&Self> {
        self.get(name).filter(|v| !matches!(v, Self::Null))
    }

    /// The string that a member is.
    pub(crate) fn text(&self, name: &str) -> Option<&Text> {
        self.get(name)?.as_text()
    }

    /// Whether a member is exactly this string.
    pub(crate) fn has(&self, name: &str, text: &str) -> bool {
        self.text(name).is_some_and(|t| t == text)
    }

    /// The string that it is.
    pub(crate) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members, when it is an object.
    pub(crate) fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The items, when it is an array.
    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(array) => Some(array.items()),
            _ => None,
        }
    }

    /// Whether a condition takes it for true.
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(is) => *is,
            Self::Number(n) => *n != 0.0 && !n.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// What it is when text is wanted; of an array or object only that it is one.
    pub(crate) fn to_text(&self) -> Text {
        match self {
            Self::Null => "null".into(),
            Self::Bool(true) => "true".into(),
            Self::Bool(false) => "false".into(),
            Self::Number(n) => print_number(*n).into(),
            Self::String(text) => text.clone(),
            Self::Array(_) => "[object Array]".into(),
            Self::Object(_) => "[object Object]".into(),
        }
    }

    /// An array of these.
    pub(crate) fn array(items: Vec<Self>) -> Self {
        Self::Array(Rc::new(Array(items)))
    }

    /// An object of these, in JavaScript's order.
    pub(crate) fn object(members: Vec<(Text, Self)>) -> Self {
        Self::Object(Rc::new(Object::from_members(members).0))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl Array {
    /// The items.
    pub(crate) fn items(&self) -> &[Value] {
        &self.0
    }
}

impl Object {
    /// From members as they were named, one after the other; says whether a name came twice.
    pub(super) fn from_members(mut members: Vec<(Text, Value)>) -> (Self, bool) {
        let before = members.len();
        if before <= COMPARED_MAX {
            few_once(&mut members);
        } else {
            members = many_once(members);
        }
        let twice = members.len() < before;
        if members.iter().any(|(name, _)| index_key(name).is_some()) {
            members.sort_by_key(|(name, _)| index_key(name).unwrap_or(u32::MAX));
        }
        (Self(members), twice)
    }

    /// The members, in order.
    pub(crate) fn members(&self) -> &[(Text, Value)] {
        &self.0
    }

    /// A member.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// The number of a name that is an index of an array.
pub(crate) fn index_key(name: &Text) -> Option<u32> {
    let bytes = name.as_bytes();
    let plain = matches!(bytes, [b'0'] | [b'1'..=b'9', ..]) && bytes.iter().all(u8::is_ascii_digit);
    if !plain || bytes.len() > 10 {
        return None;
    }
    name.as_str()?.parse().ok().filter(|index| *index <= INDEX_MAX)
}

/// Keeps first places and last values, by comparing all with all.
fn few_once(members: &mut Vec<(Text, Value)>) {
    let mut at = 1;
    while at < members.len() {
        match members[..at].iter().position(|(name, _)| *name == members[at].0) {
            Some(first) => members[first].1 = members.remove(at).1,
            None => at += 1,
        }
    }
}

/// Keeps first places and last values, by sorting.
fn many_once(members: Vec<(Text, Value)>) -> Vec<(Text, Value)> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| members[*a].0.cmp(&members[*b].0));
    if order.windows(2).all(|pair| members[pair[0]].0 != members[pair[1]].0) {
        return members;
    }
    // For every member the last of its name, at the place of the first.
    let mut last: Vec<Option<usize>> = vec![None; members.len()];
    for group in order.chunk_by(|a, b| members[*a].0 == members[*b].0) {
        last[group[0]] = group.last().copied();
    }
    last.into_iter().flatten().map(|from| members[from].clone()).collect()
}

// A value drops its children; left to the compiler that would be one stack frame per level.
impl Drop for Array {
    fn drop(&mut self) {
        dismantle(mem::take(&mut self.0));
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.0.iter().any(|(_, v)| matches!(v, Value::Array(_) | Value::Object(_))) {
            dismantle(self.0.drain(..).map(|(_, value)| value).collect());
        }
    }
}

fn dismantle(mut rest: Vec<Value>) {
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(shared) => {
                if let Ok(mut array) = Rc::try_unwrap(shared) {
                    rest.append(&mut array.0);
                }
            }
            Value::Object(shared) => {
                if let Ok(mut object) = Rc::try_unwrap(shared) {
                    rest.extend(object.0.drain(..).map(|(_, value)| value));
                }
            }
            _ => {}
        }
    }
}
