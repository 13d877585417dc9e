//! mmcv's `load` and `dump`: data files by their extension.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::data_serde::{from_data, placed};
use super::pickle::{self, PickleWriter};
use super::{Data, FileClient, Key, npy, write_atomic};
use crate::error::{Error, Result, did_you_mean};

/// A format of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.json`, with Python's `NaN`, `Infinity` and `-Infinity`.
    Json,
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.toml`.
    Toml,
    /// `.pkl`, `.pickle`: plain values and numpy arrays of every protocol; nothing in it is run.
    Pickle,
    /// `.npy`.
    Npy,
    /// `.npz`.
    Npz,
}

impl Format {
    /// By the extension of `path`.
    pub fn of(path: &str) -> Result<Self> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let extension = name.rsplit_once('.').map_or("", |(_, e)| e).to_lowercase();
        Ok(match extension.as_str() {
            "json" => Self::Json,
            "yaml" | "yml" => Self::Yaml,
            "toml" => Self::Toml,
            "pkl" | "pickle" => Self::Pickle,
            "npy" => Self::Npy,
            "npz" => Self::Npz,
            other => {
                let known = ["json", "yaml", "yml", "toml", "pkl", "pickle", "npy", "npz"];
                let hint = did_you_mean(other, known);
                let known = known.map(|k| format!(".{k}")).join(", ");
                return Err(Error::data(path, format!("'.{other}' is no known format{hint} ({known})")));
            }
        })
    }
}

/// Reads a file as its extension says.
pub fn load(client: &FileClient, path: &str) -> Result<Data> {
    let format = Format::of(path)?;
    load_bytes(&client.get(path)?, format).map_err(|m| Error::data(path, m))
}

/// Reads a file as its extension says into `T`; an error names the place in it. numpy arrays are nested sequences.
pub fn load_as<T: DeserializeOwned>(client: &FileClient, path: &str) -> Result<T> {
    let format = Format::of(path)?;
    let bytes = client.get(path)?;
    let made = match format {
        Format::Json if !has_bare_floats(&bytes) => {
            let mut d = serde_json::Deserializer::from_slice(&bytes);
            serde_path_to_error::deserialize(&mut d)
                .map_err(|e| placed(&e))
                .and_then(|v| d.end().map(|()| v).map_err(|e| e.to_string()))
        }
        _ => load_bytes(&bytes, format).and_then(|data| from_data(&data)),
    };
    made.map_err(|m| Error::data(path, m))
}

/// Reads the content of a file.
pub fn load_bytes(bytes: &[u8], format: Format) -> Result<Data, String> {
    let text = || std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 text: {e}"));
    match format {
        Format::Json => {
            let text = text()?;
            let marked = if has_bare_floats(bytes) { mark(text) } else { text.into() };
            serde_json::from_str(&marked).map_err(|e| e.to_string())
        }
        Format::Yaml => serde_saphyr::from_str_with_options(text()?, yaml_options()).map_err(|e| e.to_string()),
        Format::Toml => toml::from_str(text()?).map_err(|e| e.to_string()),
        Format::Pickle => {
            let mut heap = pickle::Heap::default();
            let (root, used) = pickle::read(bytes, &mut heap).map_err(|e| e.to_string())?;
            if used < bytes.len() && bytes[used..].iter().any(|b| !b.is_ascii_whitespace()) {
                return Err(format!("pickle, byte {used}: there is more behind its end"));
            }
            pickle::value::data(&heap, root, bytes.len()).map_err(|e| e.to_string())
        }
        Format::Npy => npy::read_npy(bytes).map(Data::Array),
        Format::Npz => npy::read_npz(bytes),
    }
}

/// How YAML is read: `.inf` and `.nan` are floats, as PyYAML has them.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough }
}

/// Writes `data` through `client`'s backend, in the format of the extension.
pub fn dump(client: &FileClient, data: &Data, path: &str) -> Result<()> {
    let bytes = dump_bytes(data, Format::of(path)?).map_err(|m| Error::data(path, m))?;
    client.put(path, bytes)
}

/// Writes `data` to a file on disk, in the format of its extension, atomically.
pub fn dump_file(data: &Data, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let bytes = dump_bytes(data, Format::of(&path.to_string_lossy())?).map_err(|m| Error::data(path, m))?;
    write_atomic(path, |w| w.write_all(&bytes))
}

/// The content of a file. JSON is written as Python does; pickles are of protocol 4.
// Differs from mmcv: its pickles are of protocol 2, which has no bytes and writes arrays as text of twice their size.
pub fn dump_bytes(data: &Data, format: Format) -> Result<Vec<u8>, String> {
    match format {
        Format::Json => {
            let mut out = String::new();
            json(data, &mut out)?;
            Ok(out.into_bytes())
        }
        Format::Yaml => serde_saphyr::to_string(data).map(String::into_bytes).map_err(|e| e.to_string()),
        Format::Toml => toml::to_string(data).map(String::into_bytes).map_err(|e| e.to_string()),
        Format::Pickle => {
            let mut w = PickleWriter::new(4);
            w.data(data);
            Ok(w.finish())
        }
        Format::Npy => match data {
            Data::Array(a) => Ok(npy::write_npy(a)),
            other => Err(format!("an .npy file holds an array, not {}", other.kind())),
        },
        Format::Npz => npy::write_npz(data),
    }
}

/// `json.dumps` of Python.
fn json(data: &Data, out: &mut String) -> Result<(), String> {
    let text = |s: &str| serde_json::to_string(s).map_err(|e| e.to_string());
    match data {
        Data::None => out.push_str("null"),
        Data::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Data::Int(i) => out.push_str(&i.to_string()),
        Data::Float(f) => out.push_str(&float(*f)),
        Data::Str(s) => out.push_str(&text(s)?),
        Data::Bytes(_) => return Err("bytes can't be written as JSON".into()),
        Data::List(v) | Data::Tuple(v) => {
            out.push('[');
            for (i, item) in v.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                json(item, out)?;
            }
            out.push(']');
        }
        Data::Array(a) => json(&a.to_list(), out)?,
        Data::Dict(d) => {
            out.push('{');
            for (i, (key, value)) in d.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                let key = match key {
                    Key::Str(s) => s.clone(),
                    Key::None => "null".into(),
                    Key::Bool(b) => b.to_string(),
                    Key::Int(i) => i.to_string(),
                    Key::Float(bits) => float(f64::from_bits(*bits)),
                    Key::Bytes(_) | Key::Tuple(_) => return Err("keys of JSON are text".into()),
                };
                out.push_str(&text(&key)?);
                out.push_str(": ");
                json(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// A float as Python's JSON has it.
pub(crate) fn float(f: f64) -> String {
    if f.is_nan() {
        "NaN".into()
    } else if f.is_infinite() {
        if f > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        format!("{f:?}")
    }
}

/// Python's names of floats that JSON lacks, and the text that stands for each while JSON is read.
const BARE: [(&str, &str, f64); 3] = [
    ("-Infinity", "\u{1}-inf", f64::NEG_INFINITY),
    ("Infinity", "\u{1}inf", f64::INFINITY),
    ("NaN", "\u{1}nan", f64::NAN),
];

/// The text that stands for a float that is not finite.
pub(crate) fn marked_float(f: f64) -> &'static str {
    BARE.iter().find(|(_, _, b)| b.total_cmp(&f).is_eq()).map_or(BARE[2].1, |(_, mark, _)| *mark)
}

/// A JSON text with Python's names in place of marked text.
pub(crate) fn unmark_text(text: &str) -> String {
    BARE.iter().fold(text.to_owned(), |text, (name, stands, _)| {
        text.replace(&serde_json::to_string(stands).unwrap_or_default(), name)
    })
}

fn has_bare_floats(bytes: &[u8]) -> bool {
    [&b"NaN"[..], b"Infinity"].iter().any(|word| bytes.windows(word.len()).any(|w| w == *word))
}

/// The float that a marked text stands for.
pub(super) fn unmark(text: &str) -> Option<f64> {
    BARE.iter().find(|(_, mark, _)| *mark == text).map(|(_, _, f)| *f)
}

/// Puts marked text where `NaN`, `Infinity` and `-Infinity` stand outside of strings.
pub(crate) fn mark(text: &str) -> std::borrow::Cow<'_, str> {
    let mut out = String::with_capacity(text.len() + 64);
    let (mut rest, mut quoted) = (text, false);
    'next: while let Some(c) = rest.chars().next() {
        if quoted {
            let end = rest.find(['"', '\\']).unwrap_or(rest.len());
            let more = if rest[end..].starts_with('\\') {
                1 + rest[end + 1..].chars().next().map_or(0, char::len_utf8)
            } else {
                0
            };
            quoted = more > 0 || end == rest.len();
            let end = if more > 0 { end + more } else { (end + 1).min(rest.len()) };
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        for (name, stands, _) in BARE {
            if let Some(after) = rest.strip_prefix(name) {
                out.push_str(&serde_json::to_string(stands).unwrap_or_default());
                rest = after;
                continue 'next;
            }
        }
        quoted = c == '"';
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out.into()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
