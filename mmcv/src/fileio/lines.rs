//! Lists and mappings kept as lines of text.

use indexmap::IndexMap;

use super::FileClient;
use crate::error::{Error, Result};

/// The lines of `path` with `prefix` in front, from line `offset` (0-based), at most `max_num` (0: all).
/// Line ends (`\n`, `\r\n`) are dropped, other spaces stay.
pub fn list_from_file(
    client: &FileClient,
    path: &str,
    prefix: &str,
    offset: usize,
    max_num: usize,
) -> Result<Vec<String>> {
    let text = client.get_text(path)?;
    let max = if max_num == 0 { usize::MAX } else { max_num };
    Ok(text.lines().skip(offset).take(max).map(|line| format!("{prefix}{line}")).collect())
}

/// Key and values of each line of `path`, split at white space: the first word is the key.
pub fn dict_from_file(client: &FileClient, path: &str) -> Result<IndexMap<String, Vec<String>>> {
    let text = client.get_text(path)?;
    let mut dict = IndexMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let key = words.next().unwrap_or_default();
        let values: Vec<String> = words.collect();
        if values.is_empty() {
            return Err(Error::data(path, format!("line {}: '{key}' has no value", i + 1)));
        }
        dict.insert(key, values);
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
        let c = client("a\r\nb\nc\n");
        assert_eq!(list_from_file(&c, "mem:a", "x/", 1, 1).unwrap(), ["x/b"]);
        assert_eq!(list_from_file(&c, "mem:a", "", 0, 0).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn dicts_hold_one_or_more_values() {
        let d = dict_from_file(&client("1 cat\n2 brown cow\n"), "mem:a").unwrap();
        assert_eq!(d["2"], ["brown", "cow"]);
        assert!(dict_from_file(&client("1 a\n2\n"), "mem:a").unwrap_err().to_string().contains("line 2"));
    }
}
