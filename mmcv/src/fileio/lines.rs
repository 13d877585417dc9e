//! Lists and mappings kept as lines of text.

use std::hash::Hash;
use std::str::FromStr;

use indexmap::IndexMap;

use super::FileClient;
use crate::error::{Error, Result};

/// The text of `path` with every line end (`\r\n`, `\r`) as `\n`, as Python opens text files.
fn text(client: &FileClient, path: &str) -> Result<String> {
    let text = client.get_text(path)?;
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

/// The lines of `path` with `prefix` in front, from line `offset` (0-based), at most `max_num` (0: all).
/// Line ends (`\n`, `\r\n`, `\r`) are dropped, other spaces stay.
pub fn list_from_file(
    client: &FileClient,
    path: &str,
    prefix: &str,
    offset: usize,
    max_num: usize,
) -> Result<Vec<String>> {
    let text = text(client, path)?;
    let max = if max_num == 0 { usize::MAX } else { max_num };
    Ok(text.lines().skip(offset).take(max).map(|line| format!("{prefix}{line}")).collect())
}

/// What stands behind a key of [`dict_from_file`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DictValue {
    /// One word.
    One(String),
    /// Two or more words.
    Many(Vec<String>),
}

impl DictValue {
    /// The words.
    pub fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }
}

/// Key and values of each line of `path`, split at white space: the first word is the key, read as a `K` (mmcv's
/// `key_type`). A line without value, an empty one too, is an error; a later line of the same key replaces the value.
pub fn dict_from_file<K: FromStr + Hash + Eq>(client: &FileClient, path: &str) -> Result<IndexMap<K, DictValue>> {
    let text = text(client, path)?;
    let mut dict = IndexMap::new();
    for (i, line) in text.lines().enumerate() {
        let fail = |message: String| Error::data(path, format!("line {}: {message}", i + 1));
        let mut words = line.split_whitespace().map(str::to_owned);
        let word = words.next().ok_or_else(|| fail("it is empty, expected a key and its value".into()))?;
        let key =
            word.parse().map_err(|_| fail(format!("'{word}' is no key of type {}", std::any::type_name::<K>())))?;
        let first = words.next().ok_or_else(|| fail(format!("'{word}' has no value")))?;
        let rest: Vec<String> = words.collect();
        let value = if rest.is_empty() {
            DictValue::One(first)
        } else {
            DictValue::Many(std::iter::once(first).chain(rest).collect())
        };
        dict.insert(key, value);
    }
    Ok(dict)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::MemoryBackend;
    use super::*;

    fn client(text: &str) -> FileClient {
        let m = MemoryBackend::default();
        m.put("mem:a", text.into());
        FileClient::default().with_prefix("mem:", Arc::new(m))
    }

    #[test]
    fn lists_are_cut_and_prefixed() {
        let c = client("a\r\nb\rc\n");
        assert_eq!(list_from_file(&c, "mem:a", "x/", 1, 1).unwrap(), ["x/b"]);
        assert_eq!(list_from_file(&c, "mem:a", "", 0, 0).unwrap(), ["a", "b", "c"]);
        assert!(list_from_file(&c, "mem:a", "", 9, 0).unwrap().is_empty());
    }

    #[test]
    fn dicts_hold_one_or_more_values() {
        let d = dict_from_file::<String>(&client("1 cat\n2 brown\tcow\n1 dog\n"), "mem:a").unwrap();
        assert_eq!(d["2"], DictValue::Many(vec!["brown".into(), "cow".into()]));
        assert_eq!((&d["1"], d["1"].words()), (&DictValue::One("dog".into()), &["dog".to_owned()][..]));
        assert_eq!(dict_from_file::<i64>(&client("-3 a"), "mem:a").unwrap()[&-3].words(), ["a"]);
        for (text, part) in [("1 a\n2\n", "line 2: '2' has no value"), ("1 a\n\n2 b", "line 2: it is empty")] {
            assert!(dict_from_file::<String>(&client(text), "mem:a").unwrap_err().to_string().contains(part));
        }
        let e = dict_from_file::<i64>(&client("x a"), "mem:a").unwrap_err().to_string();
        assert!(e.contains("line 1: 'x' is no key of type i64"), "{e}");
    }
}
