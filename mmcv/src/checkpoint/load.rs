//! Weights from a checkpoint into a model, with a report of what fitted.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use candle_core::Tensor;
use indexmap::IndexMap;

use crate::error::{Error, Result, nearest};
use crate::nn::{Param, ParamStore};

/// How names of the checkpoint become names of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRules {
    /// mmcv's `revise_keys`: pairs of a pattern and what replaces it, applied in order. A pattern is plain text that may be
    /// anchored by `^` and `$` and may escape characters (`^module\.`); other regular expressions are refused.
    pub revise_keys: Vec<(String, String)>,
    /// Only names under this prefix are loaded, without it (`init_cfg`'s `prefix`).
    pub from: String,
    /// The module of the model that is loaded; empty for all of it.
    pub into: String,
}

impl Default for LoadRules {
    /// mmcv's `load_checkpoint`: `module.` at the start, from `DataParallel`, goes.
    fn default() -> Self {
        Self { revise_keys: vec![(r"^module\.".into(), String::new())], from: String::new(), into: String::new() }
    }
}

/// A tensor of another shape than the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name in the model.
    pub name: String,
    /// The checkpoint's shape.
    pub found: Vec<usize>,
    /// The model's shape.
    pub expected: Vec<usize>,
}

/// What [`load_state_dict`] did. Its `Display` is for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names that were loaded.
    pub loaded: Vec<String>,
    /// Names of the model that the checkpoint lacks (`num_batches_tracked` is not counted, as in mmcv).
    pub missing: Vec<String>,
    /// Names of the checkpoint that the model lacks.
    pub unexpected: Vec<String>,
    /// Tensors of another shape, which were not loaded.
    pub wrong_shape: Vec<Mismatch>,
}

/// Copies tensors into the parameters and buffers of the same name, converted to `f32`.
pub fn load_state_dict(
    store: &ParamStore,
    state_dict: &IndexMap<String, Tensor>,
    rules: &LoadRules,
) -> Result<LoadReport> {
    let patterns: Vec<(Pattern, &str)> =
        rules.revise_keys.iter().map(|(p, to)| Ok((Pattern::parse(p)?, to.as_str()))).collect::<Result<_>>()?;
    let (from, into) = (dotted(&rules.from), dotted(&rules.into));
    // Under each of its names where modules share a parameter, as PyTorch lists it.
    let model: IndexMap<String, Param> = store.entries().into_iter().filter(|(n, _)| n.starts_with(&into)).collect();
    let mut report = LoadReport::default();
    let mut seen = HashSet::new();
    let mut under = 0;
    for (key, tensor) in state_dict {
        let mut name = key.clone();
        for (pattern, to) in &patterns {
            name = pattern.replace(&name, to);
        }
        let Some(rest) = name.strip_prefix(&from) else { continue };
        under += 1;
        let name = format!("{into}{rest}");
        let Some((_, own, param)) = model.get_full(&name) else {
            if !name.ends_with("num_batches_tracked") {
                report.unexpected.push(name);
            }
            continue;
        };
        seen.insert(own.as_str());
        if tensor.shape() == param.shape() {
            param.set(tensor)?;
        } else if tensor.elem_count() == 1 && param.shape().elem_count() == 1 {
            // PyTorch reads a scalar's old form, a vector of one, likewise.
            param.set(&tensor.reshape(param.shape())?)?;
        } else {
            let (found, expected) = (tensor.dims().to_vec(), param.shape().dims().to_vec());
            report.wrong_shape.push(Mismatch { name, found, expected });
            continue;
        }
        report.loaded.push(name);
    }
    let settled = {
        // A checkpoint whose batch norms were fused into the convolutions.
        let renamed = |key: &str| patterns.iter().fold(key.to_owned(), |name, (p, to)| p.replace(&name, to));
        let ours = |key: &str| renamed(key).strip_prefix(&from).map(|rest| format!("{into}{rest}"));
        let biases = |name: &str| {
            let known = report.unexpected.iter().any(|n| n == name) || seen.contains(name);
            let found = || state_dict.iter().find(|(key, _)| ours(key).as_deref() == Some(name));
            known.then(found).flatten().map(|(_, t)| t.clone())
        };
        crate::cnn::fuse_conv_bn::load_fused(store, biases, |name| model.contains_key(name) && !seen.contains(name))?
    };
    report.unexpected.retain(|name| !settled.contains(name));
    for name in &settled {
        if let Some((_, own, _)) = model.get_full(name)
            && seen.insert(own.as_str())
        {
            report.loaded.push(name.clone());
        }
    }
    if under == 0 && !from.is_empty() {
        return Err(Error::config(format!("'{from}' is not in the checkpoint")).under("prefix"));
    }
    let missing = model.keys().map(String::as_str).filter(|n| !seen.contains(n) && !n.ends_with("num_batches_tracked"));
    report.missing = missing.map(str::to_owned).collect();
    Ok(report)
}

fn dotted(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('.') { prefix.to_owned() } else { format!("{prefix}.") }
}

/// Plain text with optional anchors.
#[derive(Debug)]
struct Pattern {
    text: String,
    start: bool,
    end: bool,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self> {
        let refuse = |what: &str| {
            let why = "text, '^' in front, '$' behind and '\\' before a character are read";
            Err(Error::config(format!("revise_keys: {what} in '{pattern}' is not supported ({why})")))
        };
        let (start, body) = pattern.strip_prefix('^').map_or((false, pattern), |b| (true, b));
        let (mut text, mut end) = (String::new(), false);
        let mut chars = body.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some(c) if !c.is_alphanumeric() => text.push(c),
                    _ => return refuse("a class"),
                },
                '$' if chars.peek().is_none() => end = true,
                // A bare dot means any character; names have one wherever people write it.
                '.' if !matches!(chars.peek(), Some('*' | '+' | '?')) => text.push('.'),
                '*' | '+' | '?' | '[' | ']' | '(' | ')' | '{' | '}' | '|' | '^' | '$' | '.' => {
                    return refuse(&format!("'{c}'"));
                }
                c => text.push(c),
            }
        }
        Ok(Self { text, start, end })
    }

    /// `re.sub`.
    fn replace(&self, name: &str, to: &str) -> String {
        match (self.start, self.end) {
            (true, true) if name == self.text => to.to_owned(),
            (true, false) => {
                name.strip_prefix(&self.text).map_or_else(|| name.to_owned(), |rest| format!("{to}{rest}"))
            }
            (false, true) => {
                name.strip_suffix(&self.text).map_or_else(|| name.to_owned(), |rest| format!("{rest}{to}"))
            }
            (false, false) if !self.text.is_empty() => name.replace(&self.text, to),
            _ => name.to_owned(),
        }
    }
}

impl LoadReport {
    /// Whether every tensor of both sides found its place.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong_shape.is_empty()
    }

    /// An error that says what is wrong, unless the model is filled whole. What the checkpoint has beyond it does no harm.
    pub fn require_filled(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        if self.missing.is_empty() && self.wrong_shape.is_empty() {
            return Ok(());
        }
        Err(Error::checkpoint(path, format!("it doesn't fit the model\n{self}")))
    }

    /// An error when not one tensor of the checkpoint is in the model, in its shape: a start from it would be one from nothing.
    pub fn require_some(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        if self.loaded.iter().any(|n| !n.ends_with("num_batches_tracked")) {
            return Ok(());
        }
        Err(Error::checkpoint(path, format!("nothing in it fits the model\n{self}")))
    }

    /// A prefix that, put before or taken from the checkpoint's names, would make most of them fit.
    fn prefix_hint(&self) -> Option<String> {
        let missing: HashSet<&str> = self.missing.iter().map(String::as_str).collect();
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        let mut put: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &self.unexpected {
            for (at, _) in name.match_indices('.') {
                if missing.contains(&name[at + 1..]) {
                    *taken.entry(&name[..at]).or_default() += 1;
                }
            }
        }
        let unexpected: HashSet<&str> = self.unexpected.iter().map(String::as_str).collect();
        for name in &self.missing {
            for (at, _) in name.match_indices('.') {
                if unexpected.contains(&name[at + 1..]) {
                    *put.entry(&name[..at]).or_default() += 1;
                }
            }
        }
        let best = |m: BTreeMap<&str, usize>| m.into_iter().max_by_key(|(_, n)| *n).map(|(p, n)| (p.to_owned(), n));
        match (best(taken), best(put)) {
            (Some((p, n)), other) if other.as_ref().is_none_or(|(_, m)| n >= *m) => {
                Some(format!("{n} names fit without their '{p}.' in front: is the checkpoint's '{p}' what is wanted?"))
            }
            (_, Some((p, n))) => Some(format!("{n} names fit with '{p}.' in front: are these weights of '{p}' alone?")),
            _ => None,
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.loaded.len() + self.missing.len() + self.wrong_shape.len();
        write!(f, "{} of the model's {model} tensors loaded", self.loaded.len())?;
        if !self.wrong_shape.is_empty() {
            write!(f, "\nof another shape ({}):", self.wrong_shape.len())?;
            for m in self.wrong_shape.iter().take(SHOWN) {
                write!(f, "\n  {}: {:?} in the checkpoint, {:?} in the model", m.name, m.found, m.expected)?;
            }
            more(f, self.wrong_shape.len())?;
        }
        group(f, "missing in the checkpoint", &self.missing, Some(&self.unexpected))?;
        group(f, "not in the model", &self.unexpected, None)?;
        if let Some(hint) = self.prefix_hint() {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

/// Lines shown of each kind.
const SHOWN: usize = 10;

fn more(f: &mut fmt::Formatter<'_>, n: usize) -> fmt::Result {
    if n > SHOWN { write!(f, "\n  and {} more", n - SHOWN) } else { Ok(()) }
}

/// Names by their module: `layer4.0.conv1: weight, bias`; a module of which one name misses gets the nearest of `others`.
fn group(f: &mut fmt::Formatter<'_>, title: &str, names: &[String], others: Option<&[String]>) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let mut modules: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for name in names {
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        modules.entry(module).or_default().push(leaf);
    }
    write!(f, "\n{title} ({}):", names.len())?;
    for (module, leaves) in modules.iter().take(SHOWN) {
        let colon = if module.is_empty() { "" } else { ": " };
        write!(f, "\n  {module}{colon}{}", leaves.join(", "))?;
        let full = if module.is_empty() { leaves[0].to_owned() } else { format!("{module}.{}", leaves[0]) };
        let near = others.and_then(|o| nearest(&full, o.iter().map(String::as_str)));
        if let Some(near) = near {
            write!(f, " (nearest: {near})")?;
        }
    }
    more(f, modules.len())
}
