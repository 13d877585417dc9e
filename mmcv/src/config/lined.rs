//! JSON and YAML texts with the line of every value.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::node::{Node, Origin, Value};
use crate::fileio::mark_bare_floats;

/// What is wrong with a text, and its 1-based line (0 when unknown).
pub(super) type Fault = (u32, String);

/// A JSON text. `NaN`, `Infinity` and `-Infinity` are floats, as in Python.
pub(super) fn from_json(text: &str, name: &Arc<str>) -> Result<Node, Fault> {
    // serde_json finds what is wrong, and bounds the depth; places are found below.
    serde_json::from_str::<serde_json::Value>(&mark_bare_floats(text))
        .map_err(|e| (u32::try_from(e.line()).unwrap_or(0), e.to_string()))?;
    Ok(Json { text, at: 0, line: 1, name }.value())
}

/// A walk over a text that is known to be JSON.
struct Json<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    name: &'a Arc<str>,
}

impl<'a> Json<'a> {
    /// The next byte that is no space.
    fn peek(&mut self) -> u8 {
        while let Some(b) = self.text.as_bytes().get(self.at) {
            match b {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                b => return *b,
            }
            self.at += 1;
        }
        0
    }

    /// The quoted string here.
    fn string(&mut self) -> String {
        let (start, bytes) = (self.at, self.text.as_bytes());
        self.at += 1;
        while bytes.get(self.at).is_some_and(|b| *b != b'"') {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        self.text.get(start..self.at).and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default()
    }

    fn literal(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn value(&mut self) -> Node {
        let first = self.peek();
        let origin = Origin::new(self.name.clone(), self.line);
        let value = match first {
            b'{' => {
                self.at += 1;
                let mut dict = IndexMap::new();
                while self.peek() == b'"' {
                    let key = self.string();
                    self.peek();
                    self.at += 1;
                    dict.insert(key, self.value());
                    if self.peek() == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Value::Dict(dict)
            }
            b'[' => {
                self.at += 1;
                let mut list = Vec::new();
                while !matches!(self.peek(), b']' | 0) {
                    list.push(self.value());
                    if self.peek() == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Value::List(list)
            }
            b'"' => Value::Str(self.string()),
            _ => match self.literal() {
                "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "Infinity" => Value::Float(f64::INFINITY),
                "-Infinity" => Value::Float(f64::NEG_INFINITY),
                number => number.parse().map_or_else(|_| Value::Float(number.parse().unwrap_or(f64::NAN)), Value::Int),
            },
        };
        Node { value, origin }
    }
}

/// A YAML text.
pub(super) fn from_yaml(text: &str, name: &Arc<str>) -> Result<Node, Fault> {
    let line = |l: u64| u32::try_from(l).unwrap_or(0);
    let found: Spanned<Lined> = serde_saphyr::from_str_with_options(text, crate::fileio::yaml_options())
        .map_err(|e| (e.location().map_or(0, |l| line(l.line())), e.to_string()))?;
    let mut node = found.value.0;
    node.origin.line = 1;
    Ok(named(node, name))
}

/// A node whose origin has a line and no file yet.
struct Lined(Node);

fn lined(found: Spanned<Lined>) -> Node {
    let mut node = found.value.0;
    node.origin.line = u32::try_from(found.referenced.line()).unwrap_or(0);
    node
}

fn named(mut node: Node, name: &Arc<str>) -> Node {
    node.origin = Origin::new(name.clone(), node.origin.line);
    match &mut node.value {
        Value::Dict(d) => d.values_mut().for_each(|v| *v = named(std::mem::take(v), name)),
        Value::List(l) => l.iter_mut().for_each(|v| *v = named(std::mem::take(v), name)),
        _ => {}
    }
    node
}

impl<'de> Deserialize<'de> for Lined {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Lined;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Lined, E> {
                Ok(Lined(Value::Null.into()))
            }
            fn visit_none<E>(self) -> Result<Lined, E> {
                Ok(Lined(Value::Null.into()))
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Lined, D::Error> {
                d.deserialize_any(self)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Lined, E> {
                Ok(Lined(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Lined, E> {
                Ok(Lined(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Lined, E> {
                Ok(Lined(i64::try_from(v).map_or_else(|_| Node::from(v as f64), Node::from)))
            }
            fn visit_i128<E>(self, v: i128) -> Result<Lined, E> {
                Ok(Lined((v as f64).into()))
            }
            fn visit_u128<E>(self, v: u128) -> Result<Lined, E> {
                Ok(Lined((v as f64).into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Lined, E> {
                Ok(Lined(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Lined, E> {
                Ok(Lined(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lined, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element::<Spanned<Lined>>()? {
                    list.push(lined(item));
                }
                Ok(Lined(list.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lined, A::Error> {
                let mut dict = IndexMap::new();
                while let Some((key, value)) = map.next_entry::<String, Spanned<Lined>>()? {
                    dict.insert(key, lined(value));
                }
                Ok(Lined(dict.into()))
            }
        }
        d.deserialize_any(V)
    }
}
