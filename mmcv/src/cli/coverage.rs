//! `coverage`: of which of the original's shipped configs the models have the original's weights.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::nn::ParamStore;
use crate::say;

/// Name and shape of a weight or buffer.
type Key = (String, Vec<usize>);

/// A model's, in order.
type Keys = Vec<Key>;

#[derive(Debug, clap::Args)]
struct Args {
    /// The folder of configs; those that FILE names are looked for by their paths in it, as .py, .toml, .yaml or .json.
    #[arg(long, value_name = "DIR")]
    configs: PathBuf,
    /// Lines `{"config": PATH, "keys": [[NAME, SHAPE], ...]}` of the original's models, plain or .gz.
    #[arg(long, value_name = "FILE.jsonl[.gz]")]
    keys: PathBuf,
    /// Build every config in DIR that has a model, not only those that FILE names; others may match any list of FILE's.
    #[arg(long)]
    all: bool,
}

/// One line of the file.
#[derive(Debug, Deserialize)]
struct Line {
    config: String,
    keys: Keys,
}

/// The command's name and arguments.
pub fn coverage_command() -> Command {
    Args::augment_args(Command::new("coverage")).about(
        "Build the models of many configs and compare their weights' names, shapes and order with the original's",
    )
}

/// Builds each config's model by `build`, and prints which have the original's weights, and why others have not.
pub fn run_coverage(matches: &ArgMatches, build: fn(&Config) -> Result<ParamStore>) -> Result<()> {
    let args = Args::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    if !args.configs.is_dir() {
        return Err(Error::Usage(format!("--configs {}: is no folder", args.configs.display())));
    }
    let lines = read(&args.keys)?;
    let known: HashSet<&Keys> = lines.iter().map(|l| &l.keys).collect();
    let by_stem: HashMap<PathBuf, &Line> = lines.iter().map(|l| (Path::new(&l.config).with_extension(""), l)).collect();
    let files = if args.all { configs(&args.configs) } else { named(&args.configs, &lines) };
    let (mut matched, mut others) = (0usize, Vec::new());
    let mut absent: HashSet<&str> = lines.iter().map(|l| l.config.as_str()).collect();
    for file in &files {
        let stem = file.with_extension("");
        let line = by_stem.get(&stem).copied();
        if let Some(line) = line {
            absent.remove(line.config.as_str());
        }
        let differs = match ours(&args.configs.join(file), build) {
            // A file without a model is a part of others.
            Ok(None) if line.is_none() => continue,
            Ok(None) => Some("has no model".to_owned()),
            Ok(Some(keys)) => match line {
                Some(line) => difference(&keys, &line.keys),
                None => (!known.contains(&keys)).then(|| "its weights are those of no model of the file".to_owned()),
            },
            Err(e) => Some(e.to_string().replace('\n', " ")),
        };
        match differs {
            None => {
                matched += 1;
                say!("ok    {}", file.display())?;
            }
            Some(why) => others.push((file.display().to_string(), why)),
        }
    }
    for (file, why) in &others {
        say!("other {file}: {why}")?;
    }
    let built = matched + others.len();
    say!("{matched} of {built} models have the original's names, shapes and order")?;
    if !absent.is_empty() {
        let mut absent: Vec<_> = absent.into_iter().collect();
        absent.sort_unstable();
        let more = if absent.len() > 5 { ", ..." } else { "" };
        let first = absent.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        say!("{} configs of the file are not in the folder: {first}{more}", absent.len())?;
    }
    if built == 0 {
        return Err(Error::data(&args.configs, "none of its configs could be compared"));
    }
    Ok(())
}

/// The lines of a file.
fn read(path: &Path) -> Result<Vec<Line>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let packed = path.extension().is_some_and(|e| e == "gz");
    let text: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut lines = Vec::new();
    for (i, line) in BufReader::new(text).lines().enumerate() {
        let line = line.map_err(|e| Error::io(path, e))?;
        if !line.trim().is_empty() {
            lines.push(serde_json::from_str(&line).map_err(|e| Error::data(path, format!("line {}: {e}", i + 1)))?);
        }
    }
    Ok(lines)
}

/// Endings of configs, the one that wins first.
const EXTENSIONS: [&str; 5] = ["py", "toml", "yaml", "yml", "json"];

/// Those that `lines` name and the folder has, relative to it.
fn named(folder: &Path, lines: &[Line]) -> Vec<PathBuf> {
    let find = |line: &Line| {
        let mut names = EXTENSIONS.iter().map(|e| Path::new(&line.config).with_extension(e));
        names.find(|name| folder.join(name).is_file())
    };
    lines.iter().filter_map(find).collect()
}

/// All configs in the folder and below it, relative to it.
fn configs(folder: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(std::result::Result::ok);
    let is_config = |p: &PathBuf| p.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
    let files = walk.filter(|e| e.file_type().is_file());
    files.filter_map(|e| e.path().strip_prefix(folder).ok().map(Path::to_owned)).filter(is_config).collect()
}

/// The weights of a config's model; `None` where it has no model.
fn ours(file: &Path, build: fn(&Config) -> Result<ParamStore>) -> Result<Option<Keys>> {
    let config = Config::from_file(file)?;
    if config.root.get("model").is_none_or(|m| m.is_null()) {
        return Ok(None);
    }
    let store = build(&config)?;
    Ok(Some(store.entries().into_iter().map(|(name, p)| (name, p.shape().dims().to_vec())).collect()))
}

/// What differs first, `None` where nothing does.
fn difference(ours: &[Key], theirs: &[Key]) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let own: HashMap<&str, &[usize]> = ours.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    let original: HashMap<&str, &[usize]> = theirs.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    let lacks: Vec<&str> = theirs.iter().map(|(n, _)| n.as_str()).filter(|n| !own.contains_key(n)).collect();
    let more: Vec<&str> = ours.iter().map(|(n, _)| n.as_str()).filter(|n| !original.contains_key(n)).collect();
    let mut why = Vec::new();
    if let Some(first) = lacks.first() {
        why.push(format!("lacks {} names ({first} first)", lacks.len()));
    }
    if let Some(first) = more.first() {
        why.push(format!("has {} names more ({first} first)", more.len()));
    }
    let shape = |n: &str, s: &[usize]| original.get(n).is_some_and(|t| *t != s);
    if let Some((name, s)) = ours.iter().find(|(n, s)| shape(n, s)) {
        why.push(format!("{name} is {s:?}, {:?} there", original[name.as_str()]));
    }
    if why.is_empty() {
        let at = ours.iter().zip(theirs).position(|(a, b)| a.0 != b.0).unwrap_or(ours.len().min(theirs.len()));
        let name = |keys: &[Key]| keys.get(at).map_or_else(|| "nothing".to_owned(), |(n, _)| n.clone());
        why.push(format!("another order: {} in place of {} at {at}", name(ours), name(theirs)));
    }
    Some(why.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[(&str, &[usize])]) -> Keys {
        all.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).collect()
    }

    #[test]
    fn differences_are_named() {
        let theirs = keys(&[("a", &[1]), ("b", &[2, 3])]);
        assert_eq!(difference(&theirs.clone(), &theirs), None);
        let cases: [(Keys, &str); 4] = [
            (keys(&[("a", &[1])]), "lacks 1 names (b first)"),
            (keys(&[("a", &[1]), ("b", &[2, 3]), ("c", &[])]), "has 1 names more (c first)"),
            (keys(&[("a", &[1]), ("b", &[3, 2])]), "b is [3, 2], [2, 3] there"),
            (keys(&[("b", &[2, 3]), ("a", &[1])]), "another order: b in place of a at 0"),
        ];
        for (ours, why) in cases {
            assert_eq!(difference(&ours, &theirs).as_deref(), Some(why));
        }
    }

    #[test]
    fn packed_and_plain_files_are_read_and_configs_found() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"sig\": \"x\", \"config\": \"a/b.py\", \"keys\": [[\"w\", [1, 2]]]}\n\n";
        let plain = dir.path().join("keys.jsonl");
        std::fs::write(&plain, text).unwrap();
        let packed = dir.path().join("keys.jsonl.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        gz.finish().unwrap();
        for file in [plain, packed] {
            let lines = read(&file).unwrap();
            assert_eq!(
                (lines.len(), lines[0].config.as_str(), &lines[0].keys),
                (1, "a/b.py", &keys(&[("w", &[1, 2])]))
            );
        }
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b.toml"), "x = 1\n").unwrap();
        let lines = read(&dir.path().join("keys.jsonl")).unwrap();
        assert_eq!(named(dir.path(), &lines), [Path::new("a/b.toml")]);
        assert_eq!(configs(dir.path()), [Path::new("a/b.toml")]);
    }
}
