//! A config as a figment: typed extraction, merging with other providers, and every value's file and line.
//!
//! ```
//! use figment::Figment;
//! use mmcv::config::Config;
//!
//! # fn main() -> mmcv::Result<()> {
//! # let dir = tempfile::tempdir().map_err(|e| mmcv::Error::io("tmp", e))?;
//! # let path = dir.path().join("run.toml");
//! # std::fs::write(&path, "[optimizer]\nlr = 0.01\n").map_err(|e| mmcv::Error::io(&path, e))?;
//! let config = Config::from_file(&path)?;
//! let figment = Figment::from(config.figment()).merge(("optimizer.momentum", 0.9));
//! assert_eq!(figment.extract_inner::<f64>("optimizer.lr").ok(), Some(0.01));
//! let place = figment.find_metadata("optimizer.lr").and_then(|m| m.source.clone());
//! assert!(place.is_some_and(|p| p.to_string().ends_with("run.toml:2")));
//! # Ok(())
//! # }
//! ```
//!
//! figment's dictionaries are sorted and its lists have one place as a whole, which is why the tree of [`Node`]s stays what
//! components are built from.

use figment::value::{Dict, Empty, Map, Tag, Value as Figure};
use figment::{Figment, Metadata, Profile, Provider};
use indexmap::IndexMap;

use super::node::{Node, Value};
use super::{Config, Origin};

impl Config {
    /// The config as a figment, which is a provider too: one layer for each place that sets values, so that each value knows
    /// its own.
    pub fn figment(&self) -> Figment {
        figment_of(&self.root)
    }
}

fn figment_of(root: &Node) -> Figment {
    let mut places: IndexMap<String, Place> = IndexMap::new();
    collect(root, &mut Vec::new(), &mut places);
    places.into_values().fold(Figment::new(), |all, place| all.merge(place))
}

/// The values that one file and line set.
struct Place {
    origin: Origin,
    values: Dict,
}

impl Provider for Place {
    fn metadata(&self) -> Metadata {
        match &self.origin.file {
            Some(_) => Metadata::from("config", self.origin.to_string()),
            None => Metadata::named("a value made in code"),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn collect<'n>(node: &'n Node, path: &mut Vec<&'n str>, places: &mut IndexMap<String, Place>) {
    if let Value::Dict(d) = &node.value
        && (!d.is_empty() || path.is_empty())
    {
        for (key, child) in d {
            path.push(key);
            collect(child, path, places);
            path.pop();
        }
        return;
    }
    let Some((leaf, parents)) = path.split_last() else { return };
    let place = places
        .entry(node.origin.to_string())
        .or_insert_with(|| Place { origin: node.origin.clone(), values: Dict::new() });
    let mut dict = &mut place.values;
    for key in parents {
        let inner = dict.entry((*key).to_owned()).or_insert_with(|| Figure::Dict(Tag::Default, Dict::new()));
        if !matches!(inner, Figure::Dict(..)) {
            *inner = Figure::Dict(Tag::Default, Dict::new());
        }
        let Figure::Dict(_, inner) = inner else { return };
        dict = inner;
    }
    dict.insert((*leaf).to_owned(), figure(node));
}

fn figure(node: &Node) -> Figure {
    match &node.value {
        Value::Null => Figure::Empty(Tag::Default, Empty::None),
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(s) => s.as_str().into(),
        Value::List(l) => Figure::Array(Tag::Default, l.iter().map(figure).collect()),
        Value::Dict(d) => Figure::Dict(Tag::Default, d.iter().map(|(k, v)| (k.clone(), figure(v))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Model {
        depth: usize,
        norm: Option<String>,
        stages: Vec<usize>,
        neck: Neck,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Neck {
        start: f64,
    }

    fn config() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let base =
            "model = dict(\n    depth=50,\n    norm=None,\n    stages=[1, 2],\n    neck=dict(start=1))\nempty = dict()";
        std::fs::write(dir.path().join("base.py"), base).unwrap();
        std::fs::write(dir.path().join("top.toml"), "_base_ = \"base.py\"\n[model]\ndepth = 18\n").unwrap();
        let config = Config::from_file(dir.path().join("top.toml")).unwrap();
        (dir, config)
    }

    #[test]
    fn typed_structs_come_out_and_each_value_knows_its_file_and_line() {
        let (_dir, mut config) = config();
        config.merge_options(&["model.neck.start=2.5"]).unwrap();
        let figment = Figment::from(config.figment());
        let model: Model = figment.extract_inner("model").unwrap();
        assert_eq!(model, Model { depth: 18, norm: None, stages: vec![1, 2], neck: Neck { start: 2.5 } });
        let place = |f: &Figment, key: &str| f.find_metadata(key).unwrap().source.as_ref().unwrap().to_string();
        for (key, end) in
            [("model.depth", "top.toml:3"), ("model.stages", "base.py:4"), ("model.neck.start", "--cfg-options")]
        {
            assert!(place(&figment, key).ends_with(end), "{key}: {}", place(&figment, key));
            assert!(place(&config.figment(), key).ends_with(end), "{key}");
        }
        assert!(figment.find_value("empty").unwrap().as_dict().unwrap().is_empty());
    }

    #[test]
    fn other_providers_go_over_it_and_errors_name_the_line() {
        let (_dir, config) = config();
        let figment = Figment::from(config.figment()).merge(("model.depth", 101));
        assert_eq!(figment.extract_inner::<usize>("model.depth").unwrap(), 101);
        assert_eq!(figment.extract_inner::<Vec<usize>>("model.stages").unwrap(), [1, 2]);
        let e = Figment::from(config.figment()).extract_inner::<String>("model.depth").unwrap_err().to_string();
        assert!(e.contains("model.depth") && e.contains("top.toml:3"), "{e}");
    }
}
