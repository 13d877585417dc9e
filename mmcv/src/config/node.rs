//! The config tree.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Where a value was set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file as the user would name it, or `--cfg-options`.
    pub file: Option<Arc<str>>,
    /// 1-based line, 0 when unknown.
    pub line: u32,
    /// The value that this one replaced, of a base file or below `--cfg-options`.
    pub over: Option<Arc<Replaced>>,
}

/// A value that another one replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// What it was, as JSON; long ones are cut.
    pub value: String,
    /// Where it was set, and what it had replaced itself.
    pub origin: Origin,
}

impl Origin {
    /// A line of a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: Some(file.into()), line, over: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => f.write_str(file),
            (Some(file), line) => write!(f, "{file}:{line}"),
            (None, _) => f.write_str("config"),
        }
    }
}

/// What a node holds. Python tuples are lists.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, non-finite values included.
    Float(f64),
    /// Text.
    Str(String),
    /// A list or tuple.
    List(Vec<Node>),
    /// A dictionary, in the order of the file.
    Dict(IndexMap<String, Node>),
}

/// A value and where it was set. Equality compares values only.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// The place that set it.
    pub origin: Origin,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Default for Node {
    fn default() -> Self {
        Value::Null.into()
    }
}

impl<V: Into<Value>> From<V> for Node {
    fn from(value: V) -> Self {
        Self { value: value.into(), origin: Origin::default() }
    }
}

macro_rules! value_from {
    ($($t:ty => |$v:ident| $e:expr),* $(,)?) => {$(
        impl From<$t> for Value { fn from($v: $t) -> Self { $e } }
    )*};
}
value_from! {
    bool => |v| Value::Bool(v),
    i64 => |v| Value::Int(v),
    i32 => |v| Value::Int(v.into()),
    f64 => |v| Value::Float(v),
    &str => |v| Value::Str(v.to_owned()),
    String => |v| Value::Str(v),
    Vec<Node> => |v| Value::List(v),
    IndexMap<String, Node> => |v| Value::Dict(v),
}

impl From<serde_json::Value> for Value {
    fn from(v: serde_json::Value) -> Self {
        use serde_json::Value as J;
        match v {
            J::Null => Self::Null,
            J::Bool(b) => Self::Bool(b),
            J::Number(n) => n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN)), Self::Int),
            J::String(s) => Self::Str(s),
            J::Array(a) => Self::List(a.into_iter().map(Node::from).collect()),
            J::Object(o) => Self::Dict(o.into_iter().map(|(k, v)| (k, Node::from(v))).collect()),
        }
    }
}

impl Node {
    /// The tree of a JSON text, for tests and defaults.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str::<serde_json::Value>(text)
            .map(Node::from)
            .map_err(|e| Error::config(format!("not JSON: {e}")))
    }

    /// The dictionary, if it is one.
    pub fn as_dict(&self) -> Option<&IndexMap<String, Node>> {
        if let Value::Dict(d) = &self.value { Some(d) } else { None }
    }

    /// The dictionary, if it is one.
    pub fn as_dict_mut(&mut self) -> Option<&mut IndexMap<String, Node>> {
        if let Value::Dict(d) = &mut self.value { Some(d) } else { None }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        if let Value::List(l) = &self.value { Some(l) } else { None }
    }

    /// The elements to change, if it is a list.
    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        if let Value::List(l) = &mut self.value { Some(l) } else { None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(s) = &self.value { Some(s) } else { None }
    }

    /// The number as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        if let Value::Int(i) = self.value { Some(i) } else { None }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = self.value { Some(b) } else { None }
    }

    /// Whether it is `None`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The child at `key` of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_dict()?.get(key)
    }

    /// The node at a dotted path (`model.bbox_head.0.type`).
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').filter(|p| !p.is_empty()).try_fold(self, |node, part| match &node.value {
            Value::Dict(d) => d.get(part),
            Value::List(l) => l.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The `type` of a component's node.
    pub fn type_name(&self) -> Option<&str> {
        self.get("type")?.as_str()
    }

    /// A copy without `key`.
    #[must_use]
    pub fn without(&self, key: &str) -> Node {
        let mut node = self.clone();
        if let Some(d) = node.as_dict_mut() {
            d.shift_remove(key);
        }
        node
    }

    /// Sets `key` of a dictionary; of anything else, nothing happens.
    pub fn set(&mut self, key: &str, value: impl Into<Node>) {
        if let Some(d) = self.as_dict_mut() {
            d.insert(key.to_owned(), value.into());
        }
    }

    /// It as JSON, with `NaN`, `Infinity` and `-Infinity` for floats that are not finite, as Python writes them.
    pub fn to_json(&self, pretty: bool) -> String {
        let text = |node: &Node| {
            if pretty { serde_json::to_string_pretty(node) } else { serde_json::to_string(node) }.unwrap_or_default()
        };
        match self.marked() {
            None => text(self),
            Some(marked) => crate::fileio::unmark_text(&text(&marked)),
        }
    }

    /// A copy with marked text for floats that are not finite; none without such floats.
    fn marked(&self) -> Option<Node> {
        fn finite(node: &Node) -> bool {
            match &node.value {
                Value::Float(f) => f.is_finite(),
                Value::List(l) => l.iter().all(finite),
                Value::Dict(d) => d.values().all(finite),
                _ => true,
            }
        }
        fn mark(node: &Node) -> Node {
            match &node.value {
                Value::Float(f) if !f.is_finite() => crate::fileio::marked_float(*f).into(),
                Value::List(l) => Value::List(l.iter().map(mark).collect()).into(),
                Value::Dict(d) => Value::Dict(d.iter().map(|(k, v)| (k.clone(), mark(v))).collect()).into(),
                other => other.clone().into(),
            }
        }
        (!finite(self)).then(|| mark(self))
    }

    /// Reads it into `T`; an error names file, line, dotted key and what is allowed.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        super::from_node(self)
    }

    /// Remembers that this node replaces `old`.
    pub(super) fn replaces(&mut self, old: &Node) {
        let mut value = old.to_json(false);
        if value.chars().count() > 80 {
            value = value.chars().take(77).chain("...".chars()).collect();
        }
        self.origin.over = Some(Arc::new(Replaced { value, origin: old.origin.clone() }));
    }

    /// A config error about this node.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Config { origin: self.origin.clone(), path: String::new(), message: message.into() }
    }

    /// What kind of value it holds, as a user would say it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an int",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => s.serialize_none(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(i) => s.serialize_i64(*i),
            Value::Float(f) => s.serialize_f64(*f),
            Value::Str(t) => s.serialize_str(t),
            Value::List(l) => s.collect_seq(l),
            Value::Dict(d) => s.collect_map(d),
        }
    }
}

impl schemars::JsonSchema for Node {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Node".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "any value; a dict with `type` where a component is expected" })
    }
}
