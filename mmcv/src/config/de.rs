//! serde from a [`Node`] tree, with errors that say file, line, dotted key, what was found and what is allowed.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};

use super::node::{Node, Origin, Value};
use crate::error::{Error, Result, did_you_mean};

/// Reads `node` into `T`.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T> {
    T::deserialize(De(node)).map_err(|e| {
        let mut path: Vec<String> = e.path;
        path.reverse();
        let origin = e.origin.unwrap_or_else(|| node.origin.clone());
        Error::Config { origin, path: path.join("."), message: e.message }
    })
}

#[derive(Debug)]
struct DeError {
    message: String,
    /// Innermost key first.
    path: Vec<String>,
    origin: Option<Origin>,
    /// Key of an unknown field, so that the map can point at its line.
    field: Option<String>,
}

impl DeError {
    fn new(message: String) -> Self {
        Self { message, path: Vec::new(), origin: None, field: None }
    }
    fn under(mut self, key: String, origin: &Origin) -> Self {
        self.path.push(key);
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for DeError {}

fn one_of(names: &[&str]) -> String {
    names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self::new(msg.to_string())
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(field, expected.iter().copied());
        let allowed =
            if expected.is_empty() { "there are no fields".into() } else { format!("allowed: {}", one_of(expected)) };
        Self { field: Some(field.to_owned()), ..Self::new(format!("unknown field '{field}'{hint} ({allowed})")) }
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(variant, expected.iter().copied());
        Self::new(format!("unknown value '{variant}'{hint} (allowed: {})", one_of(expected)))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("missing required field '{field}'"))
    }
    fn invalid_type(unexp: de::Unexpected<'_>, exp: &dyn de::Expected) -> Self {
        Self::new(format!("found {unexp}, expected {exp}"))
    }
}

#[derive(Clone, Copy)]
struct De<'a>(&'a Node);

// A field of type `Node` takes the node itself, place and all: serde's data model can't carry it,
// so it is handed over here between `deserialize_newtype_struct` and the visitor.
const NODE: &str = "$mmcv::config::Node";
thread_local!(static HANDED: RefCell<Option<Node>> = const { RefCell::new(None) });

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(HANDED.take().unwrap_or_default())
            }
            fn visit_none<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::default())
            }
            // Reached from other formats (JSON in a checkpoint's metadata, say).
            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
                serde_json::Value::deserialize(d).map(Node::from)
            }
        }
        d.deserialize_newtype_struct(NODE, V)
    }
}

impl<'de> IntoDeserializer<'de, DeError> for De<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Null => v.visit_unit(),
            Value::Bool(b) => v.visit_bool(*b),
            Value::Int(i) => v.visit_i64(*i),
            Value::Float(f) => v.visit_f64(*f),
            Value::Str(s) => v.visit_str(s),
            Value::List(l) => v.visit_seq(Seq { items: l, next: 0 }),
            Value::Dict(d) => {
                let mut map = Map { entries: d.iter(), current: None };
                v.visit_map(&mut map).map_err(|mut e: DeError| match e.field.take().and_then(|f| d.get_full(&f)) {
                    Some((_, key, node)) => e.under(key.clone(), &node.origin),
                    None => e,
                })
            }
        }
        .map_err(|mut e: DeError| {
            e.origin.get_or_insert_with(|| self.0.origin.clone());
            e
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DeError> {
        if self.0.is_null() { v.visit_none() } else { v.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, v: V) -> Result<V::Value, DeError> {
        if name == NODE {
            HANDED.set(Some(self.0.clone()));
            return v.visit_unit();
        }
        v.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, DeError> {
        match &self.0.value {
            Value::Str(s) => v.visit_enum(s.as_str().into_deserializer()),
            Value::Dict(d) if d.len() == 1 => {
                let (key, node) = d.first().expect("it has one entry");
                v.visit_enum(de::value::MapAccessDeserializer::new(Map { entries: d.iter(), current: None }))
                    .map_err(|e: DeError| e.under(key.clone(), &node.origin))
            }
            _ => Err(DeError::new(format!("found {}, expected a string", self.0.kind()))),
        }
    }

    // `1` is a fine float in Python; `1.0` is no int there, and none here.
    fn deserialize_f64<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DeError> {
        match self.0.value {
            Value::Int(i) => v.visit_f64(i as f64),
            _ => self.deserialize_any(v),
        }
    }
    fn deserialize_f32<V: Visitor<'de>>(self, v: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(v)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Seq<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Seq<'_> {
    type Error = DeError;
    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(De(node)).map(Some).map_err(|e| e.under((self.next - 1).to_string(), &node.origin))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Map<'a> {
    entries: indexmap::map::Iter<'a, String, Node>,
    current: Option<(&'a String, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Map<'_> {
    type Error = DeError;
    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        self.current = self.entries.next();
        match self.current {
            Some((key, _)) => seed.deserialize(key.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }
    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DeError> {
        let (key, node) = self.current.expect("serde asks for a key before its value");
        seed.deserialize(De(node)).map_err(|e| e.under(key.clone(), &node.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fpn {
        in_channels: Vec<usize>,
        #[serde(default)]
        slope: Option<f64>,
        #[serde(default)]
        extra: Node,
    }

    fn read(json: &str) -> Result<Fpn> {
        Node::from_json(json).unwrap().parse()
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let e = read(r#"{"in_channels": [1], "slop": 1}"#).unwrap_err().to_string();
        assert!(e.contains("slop: unknown field 'slop'; did you mean 'slope'?"), "{e}");
    }

    #[test]
    fn a_wrong_type_names_the_key_inside_a_list() {
        let e = read(r#"{"in_channels": [1, "x"]}"#).unwrap_err().to_string();
        assert!(e.contains("in_channels.1") && e.contains("\"x\""), "{e}");
    }

    #[test]
    fn ints_are_floats_and_nodes_pass_through() {
        let f = read(r#"{"in_channels": [1], "slope": 2, "extra": {"a": [1, null]}}"#).unwrap();
        assert_eq!((f.in_channels, f.slope), (vec![1], Some(2.0)));
        assert_eq!(f.extra.at("a.0").unwrap().as_i64(), Some(1));
    }

    #[test]
    fn a_missing_field_is_named() {
        let e = read("{}").unwrap_err().to_string();
        assert!(e.contains("missing required field 'in_channels'"), "{e}");
    }
}
