//! [`Data`] from and into serde: how texts become it, and how it becomes typed records.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Data, Key, NdArray};

/// How `toml` hands out dates.
const TOML_DATE: &str = "$__toml_private_datetime";

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Data;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Data, E> {
                Ok(Data::None)
            }
            fn visit_none<E>(self) -> Result<Data, E> {
                Ok(Data::None)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Data, D::Error> {
                d.deserialize_any(self)
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Data, D::Error> {
                d.deserialize_any(self)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Data, E> {
                Ok(Data::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Data, E> {
                Ok(Data::Int(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Data, E> {
                Ok(Data::Int(v.into()))
            }
            fn visit_i128<E>(self, v: i128) -> Result<Data, E> {
                Ok(Data::Int(v))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Data, E> {
                Ok(Data::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Data, E> {
                Ok(super::load::unmark(v).map_or_else(|| Data::Str(v.to_owned()), Data::Float))
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Data, E> {
                Ok(Data::Bytes(v.to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Data::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
                let mut entries = IndexMap::new();
                while let Some((key, value)) = map.next_entry::<Data, Data>()? {
                    let kind = key.kind();
                    let key = key.into_key().ok_or_else(|| de::Error::custom(format!("{kind} as a key")))?;
                    entries.insert(key, value);
                }
                if let (1, Some(Data::Str(date))) = (entries.len(), entries.get(&Key::from(TOML_DATE))) {
                    return Ok(Data::Str(date.clone()));
                }
                Ok(Data::Dict(entries))
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for Data {
    /// Tuples and arrays become lists, as mmcv's `dump` has it; bytes are an error in JSON, YAML and TOML, as there.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => s.serialize_none(),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
                (Ok(i), _) => s.serialize_i64(i),
                (_, Ok(u)) => s.serialize_u64(u),
                _ => s.serialize_i128(*i),
            },
            Self::Float(f) => s.serialize_f64(*f),
            Self::Str(t) => s.serialize_str(t),
            Self::Bytes(_) => Err(S::Error::custom("bytes can't be written as text")),
            Self::List(v) | Self::Tuple(v) => s.collect_seq(v),
            Self::Array(a) => a.to_list().serialize(s),
            Self::Dict(d) => {
                let mut map = s.serialize_map(Some(d.len()))?;
                for (key, value) in d {
                    map.serialize_entry(&Data::from(key.clone()), value)?;
                }
                map.end()
            }
        }
    }
}

/// Reads `data` into `T`; an error names the place (`[3].ann.bboxes[0]`).
pub(super) fn from_data<T: DeserializeOwned>(data: &Data) -> Result<T, String> {
    serde_path_to_error::deserialize(De::Data(data)).map_err(|e| placed(&e))
}

/// The message of an error, behind its place where there is one.
pub(super) fn placed<E: fmt::Display>(e: &serde_path_to_error::Error<E>) -> String {
    match e.path().to_string() {
        path if path == "." => e.inner().to_string(),
        path => format!("{path}: {}", e.inner()),
    }
}

#[derive(Clone, Copy)]
enum De<'a> {
    Data(&'a Data),
    Key(&'a Key),
    /// The part of an array that starts at an axis and an element.
    Part(&'a NdArray, usize, usize),
}

type Failure = de::value::Error;

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failure> {
        match self {
            Self::Part(a, axis, at) => match a.shape().get(axis) {
                Some(n) => {
                    let step: usize = a.shape()[axis + 1..].iter().product();
                    v.visit_seq(Items((0..*n).map(move |i| De::Part(a, axis + 1, at + i * step))))
                }
                None => De::Data(&a.item(at).unwrap_or_default()).deserialize_any(v),
            },
            Self::Key(key) => match key {
                Key::Str(s) => v.visit_str(s),
                other => De::Data(&Data::from(other.clone())).deserialize_any(v),
            },
            Self::Data(data) => match data {
                Data::None => v.visit_unit(),
                Data::Bool(b) => v.visit_bool(*b),
                Data::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
                    (Ok(i), _) => v.visit_i64(i),
                    (_, Ok(u)) => v.visit_u64(u),
                    _ => v.visit_i128(*i),
                },
                Data::Float(f) => v.visit_f64(*f),
                Data::Str(s) => v.visit_str(s),
                Data::Bytes(b) => v.visit_bytes(b),
                Data::List(items) | Data::Tuple(items) => v.visit_seq(Items(items.iter().map(De::Data))),
                Data::Array(a) => De::Part(a, 0, 0).deserialize_any(v),
                Data::Dict(d) => v.visit_map(Entries { rest: d.iter(), value: None }),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Failure> {
        if matches!(self, Self::Data(Data::None)) { v.visit_none() } else { v.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Failure> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, Failure> {
        match self {
            Self::Data(Data::Str(s)) => v.visit_enum(s.as_str().into_deserializer()),
            _ => Err(de::Error::custom("expected text")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<I>(I);

impl<'de, 'a, I: ExactSizeIterator<Item = De<'a>>> SeqAccess<'de> for Items<I> {
    type Error = Failure;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        self.0.next().map(|d| seed.deserialize(d)).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'a> {
    rest: indexmap::map::Iter<'a, Key, Data>,
    value: Option<&'a Data>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(De::Key(key)).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Failure> {
        let value = self.value.take().ok_or_else(|| <Failure as de::Error>::custom("a value without key"))?;
        seed.deserialize(De::Data(value))
    }
}
