//! `config`: what a config file comes to, and why.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::config::{Config, Node, Value};
use crate::error::{Error, Result, did_you_mean};

/// Arguments of `config`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the merged tree of a file and its bases.
    #[command(visible_alias = "print")]
    Dump {
        /// A .py, .toml, .yaml or .json config.
        file: PathBuf,
        /// What to print.
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
        /// `key.path=value`, as in training and testing.
        #[arg(long, num_args = 1..)]
        cfg_options: Vec<String>,
    },
    /// Say which file and line set a value, and what it replaced.
    Explain {
        /// A .py, .toml, .yaml or .json config.
        file: PathBuf,
        /// A dotted key: `model.backbone.depth`, `data.train.pipeline.2.type`.
        key: String,
        /// `key.path=value`, as in training and testing.
        #[arg(long, num_args = 1..)]
        cfg_options: Vec<String>,
    },
    /// Print the keys in which two configs differ. The exit code is 0 either way.
    Diff {
        /// The one.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Toml,
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let text = match &args.command {
        Command::Dump { file, format, cfg_options } => {
            let config = read(file, cfg_options)?;
            match format {
                Format::Json => config.root.to_json(true),
                Format::Toml => toml::to_string(&without_nulls(&config.root))
                    .map_err(|e| config.root.error(format!("can't be written as TOML: {e}")))?,
            }
        }
        Command::Explain { file, key, cfg_options } => explain(&read(file, cfg_options)?, key)?,
        Command::Diff { a, b } => {
            let mut lines = Vec::new();
            diff("", &Config::from_file(a)?.root, &Config::from_file(b)?.root, &mut lines);
            lines.join("\n")
        }
    };
    crate::say!("{}", text.trim_end())
}

fn read(file: &PathBuf, options: &[String]) -> Result<Config> {
    let mut config = Config::from_file(file)?;
    for warning in config.merge_options(options)? {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    Ok(config)
}

fn explain(config: &Config, key: &str) -> Result<String> {
    let Some(node) = config.root.at(key) else {
        // The longest part of the key that is there, and what it holds.
        let mut parent = key;
        let dict = loop {
            parent = parent.rsplit_once('.').map_or("", |(p, _)| p);
            if let Some(found) = config.root.at(parent) {
                break found;
            }
        };
        let missing = key[parent.len()..].trim_start_matches('.').split('.').next().unwrap_or(key);
        let names = dict.as_dict().into_iter().flat_map(|d| d.keys().map(String::as_str));
        return Err(Error::Usage(format!(
            "{}: nothing sets '{key}'{}",
            config.path.display(),
            did_you_mean(missing, names)
        )));
    };
    let mut text = format!("{key} = {}\n  set at {}", node.to_json(false), node.origin);
    let mut origin = &node.origin;
    while let Some(old) = &origin.over {
        text += &format!("\n  over {}, set at {}", old.value, old.origin);
        origin = &old.origin;
    }
    Ok(text)
}

fn diff(path: &str, a: &Node, b: &Node, lines: &mut Vec<String>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let show = |sign, path: &str, n: &Node| format!("{sign} {path} = {}  ({})", n.to_json(false), n.origin);
    match (&a.value, &b.value) {
        (Value::Dict(x), Value::Dict(y)) => {
            for (key, node) in x {
                match y.get(key) {
                    Some(other) => diff(&join(key), node, other, lines),
                    None => lines.push(show('-', &join(key), node)),
                }
            }
            lines.extend(y.iter().filter(|(k, _)| !x.contains_key(*k)).map(|(k, n)| show('+', &join(k), n)));
        }
        (Value::List(x), Value::List(y)) if x.len() == y.len() => {
            for (i, (m, n)) in x.iter().zip(y).enumerate() {
                diff(&join(&i.to_string()), m, n, lines);
            }
        }
        (x, y) if x == y => {}
        _ => lines.extend([show('-', path, a), show('+', path, b)]),
    }
}

/// TOML has no null: such keys are left out, which reads back as their default.
fn without_nulls(node: &Node) -> Node {
    let value = match &node.value {
        Value::Dict(d) => {
            Value::Dict(d.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::List(l) => Value::List(l.iter().map(without_nulls).collect()),
        other => other.clone(),
    };
    Node { value, origin: node.origin.clone() }
}
