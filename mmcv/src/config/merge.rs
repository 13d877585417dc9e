//! How one config is laid over another (mmcv `Config._merge_a_into_b`).

use indexmap::IndexMap;

use super::node::{Node, Value};
use crate::error::{Error, Result};

/// Says that a dictionary replaces the one below instead of being merged into it.
pub const DELETE: &str = "_delete_";

/// Lays `over` on `base`: dictionaries merge, everything else (lists too) replaces. With `list_keys`, a key
/// that is a number addresses an item of a list below (`--cfg-options a.0.b=1`).
pub fn merge(over: Node, base: &mut Node, list_keys: bool) -> Result<()> {
    let origin = over.origin.clone();
    let Value::Dict(over) = over.value else {
        let mut over = Node { value: over.value, origin };
        over.replaces(base);
        *base = over;
        return Ok(());
    };
    match &mut base.value {
        Value::Dict(base) => merge_dict(over, base, list_keys),
        Value::List(items) if list_keys => {
            let len = items.len();
            for (key, node) in over {
                let item = key
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| items.get_mut(i))
                    .ok_or_else(|| node.error(format!("'{key}' is no index of a list of {len}")).under(&key))?;
                merge(node, item, true).map_err(|e| e.under(&key))?;
            }
            Ok(())
        }
        _ => Err(Error::Config {
            path: String::new(),
            message: format!(
                "a dict can't be merged into {} (set at {}); `_delete_=True` in it replaces the old value",
                base.kind(),
                base.origin
            ),
            origin,
        }),
    }
}

fn merge_dict(over: IndexMap<String, Node>, base: &mut IndexMap<String, Node>, list_keys: bool) -> Result<()> {
    for (key, mut node) in over {
        match base.get_mut(&key) {
            Some(old) if node.as_dict().is_some() => {
                let delete = node.as_dict_mut().and_then(|d| d.shift_remove(DELETE));
                if delete.is_some_and(|d| d.as_bool().unwrap_or(true)) {
                    node.replaces(old);
                    *old = node;
                } else {
                    merge(node, old, list_keys).map_err(|e| e.under(&key))?;
                }
            }
            Some(old) => {
                node.replaces(old);
                *old = node;
            }
            None => {
                base.insert(key, node);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: &str, over: &str, list_keys: bool) -> Result<String> {
        let mut base = Node::from_json(base)?;
        merge(Node::from_json(over)?, &mut base, list_keys)?;
        Ok(serde_json::to_string(&base).unwrap())
    }

    #[test]
    fn dicts_merge_and_lists_replace() {
        let m = merged(r#"{"a":{"x":1,"y":[1,2]},"b":1}"#, r#"{"a":{"y":[3]},"c":null}"#, false).unwrap();
        assert_eq!(m, r#"{"a":{"x":1,"y":[3]},"b":1,"c":null}"#);
    }

    #[test]
    fn delete_replaces_the_whole_dict() {
        let m = merged(r#"{"a":{"x":1}}"#, r#"{"a":{"_delete_":true,"y":2}}"#, false).unwrap();
        assert_eq!(m, r#"{"a":{"y":2}}"#);
    }

    #[test]
    fn numbers_address_items_only_when_asked() {
        let (base, over) = (r#"{"a":[{"x":1},{"x":2}]}"#, r#"{"a":{"1":{"x":5}}}"#);
        assert_eq!(merged(base, over, true).unwrap(), r#"{"a":[{"x":1},{"x":5}]}"#);
        assert!(merged(base, over, false).unwrap_err().to_string().contains("a: a dict can't be merged into a list"));
        assert!(merged(base, r#"{"a":{"2":{"x":5}}}"#, true).unwrap_err().to_string().contains("no index"));
    }
}
