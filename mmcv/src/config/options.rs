//! `--cfg-options key.path=value` (mmcv `DictAction`).

use indexmap::IndexMap;

use super::merge::merge;
use super::node::{Node, Origin, Value};
use crate::error::{Error, Result, did_you_mean};

/// Lays the options over `root`; the warnings name keys that were not there.
pub(super) fn apply<S: AsRef<str>>(root: &mut Node, options: &[S]) -> Result<Vec<String>> {
    let origin = Origin::new("--cfg-options", 0);
    let mut warnings = Vec::new();
    for option in options {
        let option = option.as_ref();
        let Some((key, text)) = option.split_once('=').filter(|(k, _)| k.split('.').all(|p| !p.is_empty())) else {
            return Err(Error::Usage(format!("--cfg-options {option}: expected key.path=value")));
        };
        if root.at(key).is_none() {
            let (parent, leaf) = key.rsplit_once('.').unwrap_or(("", key));
            let siblings = root.at(parent).and_then(Node::as_dict);
            let hint = siblings.map_or_else(String::new, |d| did_you_mean(leaf, d.keys().map(String::as_str)));
            warnings.push(format!("--cfg-options {key}: no file of this config sets it{hint}"));
        }
        let leaf = Node { value: parse(text), origin: origin.clone() };
        let over = key.rsplit('.').fold(leaf, |node, part| Node {
            value: Value::Dict(IndexMap::from([(part.to_owned(), node)])),
            origin: origin.clone(),
        });
        merge(over, root, true)?;
    }
    Ok(warnings)
}

/// Ints, floats, `true`/`false`, `None`, lists (`[1,2]`, `(1,2)` or `1,2`), else text.
fn parse(text: &str) -> Value {
    let text = text.trim();
    let scalar = |t: &str| -> Value {
        let t = t.trim();
        if let Ok(i) = t.parse::<i64>() {
            return Value::Int(i);
        }
        if let Ok(f) = t.parse::<f64>() {
            return Value::Float(f);
        }
        match t.to_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "none" => Value::Null,
            _ => Value::Str(t.trim_matches(['\'', '"']).to_owned()),
        }
    };
    let bracketed = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .or_else(|| text.strip_prefix('(').and_then(|t| t.strip_suffix(')')));
    let items = split(bracketed.unwrap_or(text));
    if bracketed.is_none() && items.len() == 1 {
        return scalar(text);
    }
    Value::List(items.into_iter().filter(|i| !i.trim().is_empty()).map(|i| parse(i).into()).collect())
}

/// Splits at commas outside brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &[&str]) -> Result<(String, Vec<String>)> {
        let mut root = Node::from_json(r#"{"model":{"depth":50,"heads":[{"n":1},{"n":2}]}}"#)?;
        let warnings = apply(&mut root, options)?;
        Ok((serde_json::to_string(&root).unwrap(), warnings))
    }

    #[test]
    fn values_are_read_as_openmmlab_reads_them() {
        for (text, json) in [
            ("1", "1"),
            ("1e-4", "0.0001"),
            ("true", "true"),
            ("None", "null"),
            ("a", "\"a\""),
            ("[1,2]", "[1,2]"),
            ("1,2", "[1,2]"),
            ("[(a,b),(c,d)]", r#"[["a","b"],["c","d"]]"#),
        ] {
            assert_eq!(serde_json::to_string(&Node::from(parse(text))).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn options_reach_into_dicts_and_lists() {
        let (json, warnings) = applied(&["model.depth=18", "model.heads.1.n=7"]).unwrap();
        assert_eq!(json, r#"{"model":{"depth":18,"heads":[{"n":1},{"n":7}]}}"#);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_new_key_warns_and_names_the_nearest() {
        let (_, warnings) = applied(&["model.dept=18"]).unwrap();
        assert!(warnings[0].contains("model.dept") && warnings[0].contains("did you mean 'depth'"), "{warnings:?}");
    }

    #[test]
    fn what_is_no_option_is_an_error() {
        for bad in ["a", "=1", "a..b=1"] {
            assert!(applied(&[bad]).unwrap_err().to_string().contains("expected key.path=value"), "{bad}");
        }
    }
}
