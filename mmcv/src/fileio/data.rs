//! What a data file holds, whatever its format.

use indexmap::IndexMap;

use super::NdArray;

/// A value of a JSON, YAML, TOML, pickle or numpy file, in Python's types.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Data {
    /// `None`, JSON's `null`.
    #[default]
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A float, non-finite ones included.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list, or a set.
    List(Vec<Data>),
    /// A tuple.
    Tuple(Vec<Data>),
    /// A dictionary, in its order.
    Dict(IndexMap<Key, Data>),
    /// A numpy array, or a numpy scalar (without axes).
    Array(NdArray),
}

/// A key of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A float's bits.
    Float(u64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A tuple of keys.
    Tuple(Vec<Key>),
}

impl Data {
    /// A short name of its kind, as Python says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float(_) => "a float",
            Self::Str(_) => "a str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Array(_) => "an array",
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The integer (a numpy scalar's too), if it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => i64::try_from(*i).ok(),
            Self::Bool(b) => Some(i64::from(*b)),
            Self::Array(a) if a.shape().is_empty() => a.item(0)?.as_i64(),
            _ => None,
        }
    }

    /// The number (a numpy scalar's too) as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            Self::Int(i) => Some(*i as f64),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Array(a) if a.shape().is_empty() => a.item(0)?.as_f64(),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub fn as_list(&self) -> Option<&[Data]> {
        if let Self::List(v) | Self::Tuple(v) = self { Some(v) } else { None }
    }

    /// The entries of a dictionary.
    pub fn as_dict(&self) -> Option<&IndexMap<Key, Data>> {
        if let Self::Dict(d) = self { Some(d) } else { None }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&NdArray> {
        if let Self::Array(a) = self { Some(a) } else { None }
    }

    /// The value of a dictionary's text key.
    pub fn get(&self, key: &str) -> Option<&Data> {
        self.as_dict()?.get(&Key::from(key))
    }

    /// It as a key, if Python could hash it.
    pub fn into_key(self) -> Option<Key> {
        Some(match self {
            Self::None => Key::None,
            Self::Bool(b) => Key::Bool(b),
            Self::Int(i) => Key::Int(i),
            Self::Float(f) => Key::Float(f.to_bits()),
            Self::Str(s) => Key::Str(s),
            Self::Bytes(b) => Key::Bytes(b),
            Self::Tuple(v) => Key::Tuple(v.into_iter().map(Self::into_key).collect::<Option<_>>()?),
            Self::Array(a) if a.shape().is_empty() => a.item(0)?.into_key()?,
            Self::List(_) | Self::Dict(_) | Self::Array(_) => return None,
        })
    }
}

impl From<Key> for Data {
    fn from(key: Key) -> Self {
        match key {
            Key::None => Self::None,
            Key::Bool(b) => Self::Bool(b),
            Key::Int(i) => Self::Int(i),
            Key::Float(bits) => Self::Float(f64::from_bits(bits)),
            Key::Str(s) => Self::Str(s),
            Key::Bytes(b) => Self::Bytes(b),
            Key::Tuple(v) => Self::Tuple(v.into_iter().map(Self::from).collect()),
        }
    }
}

macro_rules! data_from {
    ($($t:ty => |$v:ident| $e:expr),* $(,)?) => {$(
        impl From<$t> for Data { fn from($v: $t) -> Self { $e } }
    )*};
}
data_from! {
    bool => |v| Self::Bool(v),
    i64 => |v| Self::Int(v.into()),
    i32 => |v| Self::Int(v.into()),
    usize => |v| Self::Int(v as i128),
    f64 => |v| Self::Float(v),
    &str => |v| Self::Str(v.to_owned()),
    String => |v| Self::Str(v),
    Vec<Data> => |v| Self::List(v),
    NdArray => |v| Self::Array(v),
}

impl From<&str> for Key {
    fn from(v: &str) -> Self {
        Self::Str(v.to_owned())
    }
}

/// A dictionary with text keys.
impl<'k> FromIterator<(&'k str, Data)> for Data {
    fn from_iter<I: IntoIterator<Item = (&'k str, Data)>>(entries: I) -> Self {
        Self::Dict(entries.into_iter().map(|(k, v)| (Key::from(k), v)).collect())
    }
}
