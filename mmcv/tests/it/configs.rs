//! Configs of any shape.

use indexmap::IndexMap;
use mmcv::config::{Config, Node, Value, merge};
use proptest::prelude::*;

/// A tree of what configs hold. Keys are identifiers, so that `.py` can say them.
fn tree() -> impl Strategy<Value = Node> {
    let key = "[a-z][a-z0-9_]{0,5}x";
    let leaf = prop_oneof![
        any::<bool>().prop_map(|b| Node::from(Value::Bool(b))),
        (-1_000_000_000_000i64..1_000_000_000_000).prop_map(|i| Node::from(Value::Int(i))),
        (-1e6f64..1e6).prop_map(|f| Node::from(Value::Float(f))),
        "[ -~äß中]{0,12}".prop_map(|s| Node::from(Value::Str(s))),
    ];
    let any = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|l| Node::from(Value::List(l))),
            prop::collection::vec((key, inner), 0..4).prop_map(dict),
        ]
    });
    prop::collection::vec((key, any), 1..5).prop_map(dict)
}

fn dict(pairs: Vec<(String, Node)>) -> Node {
    Node::from(Value::Dict(pairs.into_iter().collect::<IndexMap<_, _>>()))
}

/// As Python writes it.
fn python(node: &Node) -> String {
    match &node.value {
        Value::Null => "None".into(),
        Value::Bool(b) => if *b { "True" } else { "False" }.into(),
        Value::Str(s) => format!("'{}'", s.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::List(l) => format!("[{}]", l.iter().map(python).collect::<Vec<_>>().join(", ")),
        Value::Dict(d) => {
            format!("dict({})", d.iter().map(|(k, v)| format!("{k}={}", python(v))).collect::<Vec<_>>().join(", "))
        }
        _ => serde_json::to_string(node).unwrap(),
    }
}

fn load(name: &str, text: &str) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Config::from_file(&path).unwrap_or_else(|e| panic!("{e}\n{text}")).root
}

/// Every value of `over` is in `merged`, and every value of `base` that `over` says nothing about.
fn covers(merged: &Node, over: &Node, base: Option<&Node>) -> bool {
    let (Some(m), Some(o)) = (merged.as_dict(), over.as_dict()) else { return merged == over };
    let b = base.and_then(Node::as_dict);
    o.iter().all(|(k, v)| m.get(k).is_some_and(|found| covers(found, v, b.and_then(|b| b.get(k)))))
        && b.is_none_or(|b| b.iter().all(|(k, v)| o.contains_key(k) || m.get(k) == Some(v)))
        && m.keys().all(|k| o.contains_key(k) || b.is_some_and(|b| b.contains_key(k)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_format_says_the_same(node in tree()) {
        let json = serde_json::to_string(&node).unwrap();
        prop_assert_eq!(&load("a.json", &json), &node);
        // JSON is YAML.
        prop_assert_eq!(&load("a.yaml", &json), &node);
        prop_assert_eq!(&load("a.toml", &toml::to_string(&node).unwrap()), &node);
        let text: String =
            node.as_dict().unwrap().iter().map(|(k, v)| format!("{k} = {}\n", python(v))).collect();
        prop_assert_eq!(&load("a.py", &text), &node);
    }

    #[test]
    fn merging_takes_the_upper_and_keeps_the_rest(base in tree(), over in tree()) {
        let mut merged = base.clone();
        // A dictionary over a value of another kind is refused, as in mmcv.
        if merge(over.clone(), &mut merged, false).is_ok() {
            prop_assert!(covers(&merged, &over, Some(&base)));
            let mut twice = merged.clone();
            merge(over, &mut twice, false).unwrap();
            prop_assert_eq!(twice, merged);
        }
    }

    #[test]
    fn any_option_is_taken_or_refused(mut node in tree(), option in "[a-z_.0-9]{0,8}=?[ -~]{0,12}") {
        let mut config = Config { root: node.clone(), path: "a.py".into() };
        if let Err(e) = config.merge_options(&[&option]) {
            prop_assert!(e.is_usage(), "{}", e);
        }
        node.set("k", 1i64);
        let mut config = Config { root: node, path: "a.py".into() };
        config.merge_options(&["k=[1,2]"]).unwrap();
        prop_assert_eq!(config.root.get("k").and_then(Node::as_list).map(<[Node]>::len), Some(2));
    }
}
