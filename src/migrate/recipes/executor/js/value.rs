//! JSON values: immutable data, shared when cloned, dropped without recursion.

use std::mem;
use std::rc::Rc;

use super::number::print_number;
use super::text::Text;

/// Number of members up to which duplicate names are found by comparing all pairs; beyond it names
/// are sorted.
const COMPARED_MAX: usize = 16;
/// Largest array index in JavaScript; a larger number is an ordinary name.
const INDEX_MAX: u32 = u32::MAX - 1;

/// A JSON value as JavaScript holds it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Text),
    Array(Rc<Array>),
    Object(Rc<Object>),
}

/// Items of an array; a type of its own for the sake of its `Drop`.
#[derive(Debug)]
pub(crate) struct Array(Vec<Value>);

/// Members in JavaScript's order of iteration; every name is unique.
#[derive(Debug)]
pub(crate) struct Object(Vec<(Text, Value)>);

impl Value {
    /// Returns a member of an object; none for any other value.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }

    /// Returns a member that exists and is not null.
    pub(crate) fn present(&self, name: &str) -> Option<&Self> {
        self.get(name).filter(|v| !matches!(v, Self::Null))
    }

    /// Returns a member that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<&Text> {
        self.get(name)?.as_text()
    }

    /// Returns whether a member is exactly this string.
    pub(crate) fn has(&self, name: &str, text: &str) -> bool {
        self.text(name).is_some_and(|t| t == text)
    }

    /// Returns the string; none for any other value.
    pub(crate) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the object; none for any other value.
    pub(crate) fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Returns the items of an array; none for any other value.
    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(array) => Some(array.items()),
            _ => None,
        }
    }

    /// Returns whether JavaScript takes the value for true in a condition.
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(is) => *is,
            Self::Number(n) => *n != 0.0 && !n.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// Converts the value to text. An array or object gives only its type, unlike JavaScript's
    /// arrays.
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

    /// Returns an array of these items.
    pub(crate) fn array(items: Vec<Self>) -> Self {
        Self::Array(Rc::new(Array(items)))
    }

    /// Returns an object of these members, in JavaScript's order.
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
    /// Returns the items in order.
    pub(crate) fn items(&self) -> &[Value] {
        &self.0
    }
}

impl Object {
    /// Builds an object from members in the order of the text. Also returns whether a name came
    /// twice.
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

    /// Returns the members in JavaScript's order.
    pub(crate) fn members(&self) -> &[(Text, Value)] {
        &self.0
    }

    /// Returns a member by name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

/// Returns the number of a name that JavaScript takes for an array index.
pub(crate) fn index_key(name: &Text) -> Option<u32> {
    let bytes = name.as_bytes();
    let plain = matches!(bytes, [b'0'] | [b'1'..=b'9', ..]) && bytes.iter().all(u8::is_ascii_digit);
    if !plain || bytes.len() > 10 {
        return None;
    }
    name.as_str()?.parse().ok().filter(|index| *index <= INDEX_MAX)
}

/// Keeps first positions and last values, by comparing all pairs.
fn few_once(members: &mut Vec<(Text, Value)>) {
    let mut at = 1;
    while at < members.len() {
        match members[..at].iter().position(|(name, _)| *name == members[at].0) {
            Some(first) => members[first].1 = members.remove(at).1,
            None => at += 1,
        }
    }
}

/// Keeps first positions and last values, by sorting.
fn many_once(members: Vec<(Text, Value)>) -> Vec<(Text, Value)> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| members[*a].0.cmp(&members[*b].0));
    if order.windows(2).all(|pair| members[pair[0]].0 != members[pair[1]].0) {
        return members;
    }
    // For the first position of a name, the index of its last value; none for later positions.
    let mut last: Vec<Option<usize>> = vec![None; members.len()];
    for group in order.chunk_by(|a, b| members[*a].0 == members[*b].0) {
        last[group[0]] = group.last().copied();
    }
    last.into_iter().flatten().map(|from| members[from].clone()).collect()
}

// The generated drop would recurse into children: one stack frame per level of nesting.
impl Drop for Array {
    fn drop(&mut self) {
        dismantle(mem::take(&mut self.0));
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Scalars drop without a stack: a flat object, the usual case, costs no allocation.
        if self.0.iter().any(|(_, v)| matches!(v, Value::Array(_) | Value::Object(_))) {
            dismantle(self.0.drain(..).map(|(_, value)| value).collect());
        }
    }
}

fn dismantle(mut rest: Vec<Value>) {
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(shared) => {
                // A shared container stays; its last owner takes it apart.
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
