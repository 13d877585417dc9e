//! Reading a config file with its `_base_` chain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::merge::merge;
use super::node::{Node, Origin, Value};
use super::{lined, options, python};
use crate::error::{Error, Result};

/// Marks `{{_base_.key}}` until the bases are read.
pub(super) const BASE_MARK: char = '\u{1}';

/// A whole config: the merged tree of a file, its bases and the command line's options.
#[derive(Debug, Clone)]
pub struct Config {
    /// The tree.
    pub root: Node,
    /// The file.
    pub path: PathBuf,
}

impl Config {
    /// Reads `.toml`, `.yaml`, `.yml`, `.json` or OpenMMLab's `.py`, and everything in its `_base_` chain.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let root = load(path, &mut Vec::new(), &Origin::default())?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// The value at a dotted path that must be there.
    pub fn require(&self, path: &str) -> Result<&Node> {
        let missing = || self.root.error(format!("missing required field '{path}'"));
        self.root.at(path).filter(|n| !n.is_null()).ok_or_else(missing)
    }

    /// Lays `key.path=value` options over it, as `--cfg-options` does. Returns a warning for each that set a key
    /// which was not there before.
    pub fn merge_options<S: AsRef<str>>(&mut self, options: &[S]) -> Result<Vec<String>> {
        options::apply(&mut self.root, options)
    }
}

fn load(path: &Path, chain: &mut Vec<PathBuf>, asked: &Origin) -> Result<Node> {
    let name: Arc<str> = path.to_string_lossy().into();
    let at = |line| Origin::new(name.clone(), line);
    let fail = |origin: Origin, message: String| Error::Config { origin, path: String::new(), message };
    let real = path.canonicalize().map_err(|e| match asked.file {
        Some(_) => fail(asked.clone(), format!("base {} can't be read: {e}", path.display())),
        None => fail(at(0), format!("can't be read: {e}")),
    })?;
    if chain.contains(&real) {
        let mut names: Vec<String> = chain.iter().map(|p| p.display().to_string()).collect();
        names.push(real.display().to_string());
        return Err(fail(asked.clone(), format!("circular _base_: {}", names.join(" -> "))));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(at(0), format!("can't be read: {e}")))?;
    let text = predefined(&text, path);
    let marked = mark_bases(&text, path.extension().is_some_and(|e| e == "py"));
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut node = match extension {
        "py" => python::evaluate(&marked, &name)?,
        "toml" => from_toml(&marked, &name)
            .map_err(|e| fail(at(line_of(&marked, e.span().map_or(0, |s| s.start))), e.message().to_owned()))?,
        "json" => lined::from_json(&marked, &name).map_err(|(line, message)| fail(at(line), message))?,
        "yaml" | "yml" => lined::from_yaml(&marked, &name).map_err(|(line, message)| fail(at(line), message))?,
        other => return Err(fail(at(0), format!("'.{other}' is no config (known: .py, .toml, .yaml, .yml, .json)"))),
    };
    let Some(dict) = node.as_dict_mut() else { return Err(fail(at(1), "a config is a dict".into())) };
    if let Some(newer) = dict.shift_remove("_deprecation_") {
        let expected = newer.get("expected").and_then(Node::as_str).unwrap_or("another file");
        tracing::warn!("{name} is deprecated, use {expected}");
    }
    let Some(bases) = dict.shift_remove("_base_") else {
        return Ok(node);
    };
    let files: Vec<Node> = match &bases.value {
        Value::Str(_) => vec![bases.clone()],
        Value::List(list) => list.clone(),
        _ => return Err(bases.error("_base_ is a file name or a list of file names")),
    };
    chain.push(real);
    let mut base: IndexMap<String, Node> = IndexMap::new();
    for file in &files {
        let relative =
            file.as_str().ok_or_else(|| file.error(format!("found {}, expected a file name", file.kind())))?;
        let below = load(&path.parent().unwrap_or(Path::new(".")).join(relative), chain, &file.origin)?;
        for (key, value) in below.as_dict().cloned().unwrap_or_default() {
            if let Some(first) = base.get(&key) {
                return Err(fail(
                    file.origin.clone(),
                    format!("two bases set '{key}': {} and {}", first.origin, value.origin),
                ));
            }
            base.insert(key, value);
        }
    }
    chain.pop();
    let mut base = Node { value: Value::Dict(base), origin: node.origin.clone() };
    substitute(&mut node, &base)?;
    merge(node, &mut base, false)?;
    Ok(base)
}

/// 1-based line of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> u32 {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() as u32
}

/// `{{ fileDirname }}` and its like.
fn predefined(text: &str, path: &Path) -> String {
    let part = |p: Option<&std::ffi::OsStr>| p.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = std::path::absolute(path).ok().and_then(|p| p.parent().map(|p| p.display().to_string()));
    let mut out = text.to_owned();
    for (name, value) in [
        ("fileDirname", folder.unwrap_or_default()),
        ("fileBasename", part(path.file_name())),
        ("fileBasenameNoExtension", part(path.file_stem())),
        ("fileExtname", path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default()),
    ] {
        for form in [format!("{{{{ {name} }}}}"), format!("{{{{{name}}}}}")] {
            out = out.replace(&form, &value.replace('\\', "/"));
        }
    }
    out
}

/// Turns `{{_base_.key}}` into a marked string; where it stands bare it gets quotes.
fn mark_bases(text: &str, python: bool) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find("{{") {
        let Some(len) = rest[start..].find("}}") else { break };
        let inner = rest[start + 2..start + len].trim();
        let end = start + len + 2;
        if let Some(key) = inner.strip_prefix("_base_.") {
            let before = rest[..start].chars().next_back();
            let after = rest[end..].chars().next();
            let quoted =
                matches!(before, Some('"' | '\'')) || matches!(after, Some('"' | '\'')) || in_string(&rest[..start]);
            let quote = if quoted { "" } else { "\"" };
            // A control character is no text in TOML and JSON, but its escape is.
            let mark = if python { BASE_MARK.to_string() } else { "\\u0001".to_owned() };
            out += &format!("{}{quote}{mark}{key}{mark}{quote}", &rest[..start]);
        } else {
            out += &rest[..end];
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Whether the last line of `text` ends inside a string.
fn in_string(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or_default();
    line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1
}

/// Puts the bases' values where `{{_base_.key}}` stood.
fn substitute(node: &mut Node, base: &Node) -> Result<()> {
    let origin = node.origin.clone();
    match &mut node.value {
        Value::Dict(d) => d.values_mut().try_for_each(|v| substitute(v, base)),
        Value::List(l) => l.iter_mut().try_for_each(|v| substitute(v, base)),
        Value::Str(text) if text.contains(BASE_MARK) => {
            let find = |key: &str| {
                base.at(key).ok_or_else(|| Error::Config {
                    origin: origin.clone(),
                    path: String::new(),
                    message: format!("no base sets '{key}'"),
                })
            };
            let parts: Vec<&str> = text.split(BASE_MARK).collect();
            if let ["", key, ""] = parts.as_slice() {
                let found = find(key)?.value.clone();
                node.value = found;
                return Ok(());
            }
            let mut out = String::new();
            for (i, part) in parts.iter().enumerate() {
                out += &if i % 2 == 0 { (*part).to_owned() } else { python::text(find(part)?) };
            }
            *text = out;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A TOML text with the line of every value.
fn from_toml(text: &str, name: &Arc<str>) -> Result<Node, toml::de::Error> {
    let value: toml::Value = toml::from_str(text)?;
    let places = toml::de::DeTable::parse(text)?;
    let lines = Lines { name: name.clone(), ends: text.match_indices('\n').map(|(at, _)| at).collect() };
    let root = toml::de::DeValue::Table(places.into_inner());
    Ok(lines.node(value, &root, Origin::new(name.clone(), 1)))
}

struct Lines {
    name: Arc<str>,
    /// Offsets of the line ends.
    ends: Vec<usize>,
}

impl Lines {
    fn at(&self, offset: usize) -> Origin {
        Origin::new(self.name.clone(), self.ends.partition_point(|end| *end < offset) as u32 + 1)
    }

    /// Values from the one tree, places from the other; both are of one text.
    fn node(&self, value: toml::Value, place: &toml::de::DeValue<'_>, origin: Origin) -> Node {
        use toml::Value as T;
        let child = |v, p: Option<&toml::Spanned<toml::de::DeValue<'_>>>| match p {
            Some(p) => self.node(v, p.get_ref(), self.at(p.span().start)),
            None => self.node(v, place, origin.clone()),
        };
        let value = match value {
            T::String(s) => Value::Str(s),
            T::Integer(i) => Value::Int(i),
            T::Float(f) => Value::Float(f),
            T::Boolean(b) => Value::Bool(b),
            T::Datetime(d) => Value::Str(d.to_string()),
            T::Array(a) => Value::List(a.into_iter().enumerate().map(|(i, v)| child(v, place.get(i))).collect()),
            T::Table(t) => Value::Dict(
                t.into_iter()
                    .map(|(k, v)| {
                        let node = child(v, place.get(k.as_str()));
                        (k, node)
                    })
                    .collect(),
            ),
        };
        Node { value, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn read(files: &[(&str, &str)]) -> Result<Config> {
        Config::from_file(folder(files).path().join(files[0].0))
    }

    fn json(files: &[(&str, &str)]) -> String {
        serde_json::to_string(&read(files).unwrap().root).unwrap()
    }

    #[test]
    fn every_format_lies_on_every_other() {
        for top in [
            ("t.py", "_base_ = 'b.toml'\nmodel = dict(depth=18)"),
            ("t.toml", "_base_ = [\"b.toml\"]\n[model]\ndepth = 18"),
            ("t.yaml", "_base_: b.toml\nmodel:\n  depth: 18"),
            ("t.json", r#"{"_base_": "b.toml", "model": {"depth": 18}}"#),
        ] {
            let files = [top, ("b.toml", "lr = 1e-4\n[model]\ntype = \"A\"\ndepth = 50")];
            assert_eq!(json(&files), r#"{"lr":0.0001,"model":{"type":"A","depth":18}}"#, "{}", top.0);
        }
    }

    #[test]
    fn values_of_a_base_are_put_in_place() {
        let base = ("b.py", "model = dict(n=[1, 2])\nname = 'x'");
        assert_eq!(
            json(&[("t.py", "_base_ = './b.py'\na = {{_base_.model}}\nb = 'v_{{_base_.name}}'"), base]),
            r#"{"model":{"n":[1,2]},"name":"x","a":{"n":[1,2]},"b":"v_x"}"#
        );
        assert_eq!(
            json(&[("t.toml", "_base_ = \"b.py\"\na = {{_base_.model.n}}"), base]),
            r#"{"model":{"n":[1,2]},"name":"x","a":[1,2]}"#
        );
    }

    #[test]
    fn a_value_knows_its_file_and_line() {
        let config = read(&[("t.py", "_base_ = 'b.py'\nx = 1"), ("b.py", "\nm = dict(\n  depth=50)")]).unwrap();
        let origin = config.root.at("m.depth").unwrap().origin.to_string();
        assert!(origin.ends_with("b.py:3"), "{origin}");
    }

    #[test]
    fn a_toml_value_knows_its_line() {
        let text =
            "a = 1\n\n[m]\ndepth = 50\nlist = [\n  1,\n  { x = 2 },\n]\n[[m.heads]]\nn = 1\n[[m.heads]]\nn = 2\n";
        let config = read(&[("t.toml", text)]).unwrap();
        let line = |key: &str| config.root.at(key).unwrap().origin.line;
        let keys = ["a", "m", "m.depth", "m.list.0", "m.list.1.x", "m.heads.0.n", "m.heads.1", "m.heads.1.n"];
        assert_eq!(keys.map(line), [1, 3, 4, 6, 7, 10, 11, 12]);
        let e = config.root.at("m").unwrap().parse::<std::collections::HashMap<String, i64>>().unwrap_err().to_string();
        assert!(e.contains("t.toml:5: list"), "{e}");
    }

    #[test]
    fn json_and_yaml_values_know_their_lines() {
        let json =
            "{\n \"a\": 1, \"m\": {\n  \"depth\": 50,\n  \"l\": [1,\n   {\"x\": -Infinity}, NaN, \"q\\\"] }\"]\n }\n}";
        let config = read(&[("t.json", json)]).unwrap();
        let line = |key: &str| config.root.at(key).unwrap().origin.line;
        assert_eq!(["a", "m", "m.depth", "m.l.0", "m.l.1.x", "m.l.3"].map(line), [2, 2, 3, 4, 5, 5]);
        assert_eq!(config.root.at("m.l.1.x").unwrap().as_f64(), Some(f64::NEG_INFINITY));
        assert!(config.root.at("m.l.2").unwrap().as_f64().unwrap().is_nan());
        assert_eq!(config.root.at("m.l.3").unwrap().as_str(), Some("q\"] }"));
        let yaml = "a: 1\nm:\n  depth: 50\n  l:\n    - 1\n    - {x: .inf}\n  none: null\n";
        let config = read(&[("t.yaml", yaml)]).unwrap();
        let line = |key: &str| config.root.at(key).unwrap().origin.line;
        assert_eq!(["a", "m.depth", "m.l.0", "m.l.1.x", "m.none"].map(line), [1, 3, 5, 6, 7]);
        let e = read(&[
            ("t.toml", "_base_ = [\"a.json\", \"b.yaml\"]"),
            ("a.json", "{\n\"x\": 1}"),
            ("b.yaml", "\n\nx: 2"),
        ]);
        let e = e.unwrap_err().to_string();
        assert!(e.contains("a.json:2 and ") && e.contains("b.yaml:3"), "{e}");
    }

    #[test]
    fn non_finite_floats_are_written_as_python_writes_them() {
        let config = read(&[("t.toml", "a = [inf, -inf, nan, 1.5]\nb = \"Infinity\"")]).unwrap();
        let text = r#"{"a":[Infinity,-Infinity,NaN,1.5],"b":"Infinity"}"#;
        assert_eq!(config.root.to_json(false), text);
        assert_eq!(read(&[("t.json", text)]).unwrap().root.to_json(false), text);
    }

    #[test]
    fn a_value_knows_what_it_replaced() {
        let files = [
            ("t.py", "_base_ = 'b.toml'\nm = dict(\n  depth=18)\nn = dict(_delete_=True, y=1)"),
            ("b.toml", "_base_ = \"c.json\"\n[m]\ndepth = 50\n"),
            ("c.json", r#"{"m": {"depth": 101, "type": "A"}, "n": {"x": 1}}"#),
        ];
        let mut config = read(&files).unwrap();
        config.merge_options(&["m.depth=34"]).unwrap();
        let mut chain = Vec::new();
        let mut origin = &config.root.at("m.depth").unwrap().origin;
        while let Some(old) = &origin.over {
            let file = old.origin.to_string();
            chain.push(format!("{} {}", old.value, file.rsplit('/').next().unwrap()));
            origin = &old.origin;
        }
        assert_eq!(chain, ["18 t.py:3", "50 b.toml:3", "101 c.json:1"]);
        assert_eq!(config.root.at("n").unwrap().origin.over.as_ref().unwrap().value, r#"{"x":1}"#);
        assert!(config.root.at("m.type").unwrap().origin.over.is_none());
    }

    #[test]
    fn bad_files_are_errors_that_name_file_and_line() {
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[("t.py", "_base_ = 't.py'")], "circular _base_"),
            (&[("t.py", "\n_base_ = 'none.py'")], "t.py:2: base"),
            (&[("t.py", "_base_ = ['a.py', 'b.py']"), ("a.py", "x = 1"), ("b.py", "x = 2")], "two bases set 'x'"),
            (&[("t.py", "_base_ = 'b.py'\na = dict(x=1)"), ("b.py", "a = 1")], "a dict can't be merged into an int"),
            (&[("t.toml", "a = 1\nb = = 2")], "t.toml:2"),
            (&[("t.json", "{\n\"a\": }")], "t.json:2"),
            (&[("t.yaml", "a: 1\nb: [1")], "t.yaml:2"),
            (&[("t.yaml", "\n_base_: none.py")], "t.yaml:2: base"),
            (&[("t.json", "{\n\"_base_\": \"t.json\"}")], "t.json:2: circular _base_"),
            (
                &[
                    ("t.toml", "\n_base_ = [\"a.json\", \"b.yaml\"]"),
                    ("a.json", "{\n\"x\": 1}"),
                    ("b.yaml", "\n\nx: 2"),
                ],
                "t.toml:2: two bases set 'x': ",
            ),
            (&[("t.ini", "a = 1")], "'.ini' is no config"),
            (&[("t.py", "_base_ = 'b.py'\na = {{_base_.y}}"), ("b.py", "x = 1")], "no base sets 'y'"),
        ];
        for (files, message) in cases {
            let e = read(files).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(message), "{files:?}: {e}");
        }
    }
}
