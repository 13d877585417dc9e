//! `checkpoint`: what is in a checkpoint file, and the same in another format.

use std::fmt::Write as _;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use clap::Subcommand;

use crate::checkpoint::{Checkpoint, Sources, load, publish, save};
use crate::error::{Error, Result};

/// Arguments of `checkpoint`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List a file's tensors: name, type, shape, mean and deviation; and what its `meta` says.
    List {
        /// A .pth or .safetensors file, a URL, or a name (`torchvision://resnet50`).
        file: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Write the weights and `meta` alone, as OUTPUT-{first 8 hex digits of the SHA-256}.{extension}.
    Publish {
        /// A .pth or .safetensors file.
        input: PathBuf,
        /// The new file; its extension decides the format.
        output: PathBuf,
    },
    /// Write everything that a file holds in the format that the other name's extension says.
    Convert {
        /// A .pth or .safetensors file.
        input: PathBuf,
        /// The new file: .pth or .safetensors.
        output: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
}

/// Runs it.
pub fn run(args: &Args) -> Result<()> {
    let text = match &args.command {
        Command::List { file, json } => {
            let path = Sources::default().find(file)?;
            let checkpoint = load(&path)?;
            if *json { as_json(&checkpoint)? } else { as_table(&checkpoint)? }
        }
        Command::Publish { input, output } => publish(input, output)?.display().to_string(),
        Command::Convert { input, output, force } => {
            if output.exists() && !force {
                return Err(Error::Usage(format!("{} is there already (--force replaces it)", output.display())));
            }
            let checkpoint = load(input)?;
            save(output, &checkpoint)?;
            format!("{}: {} tensors", output.display(), checkpoint.state_dict.len())
        }
    };
    crate::say!("{}", text.trim_end())
}

/// Mean and standard deviation, `None` for an empty tensor.
fn moments(t: &Tensor) -> Result<Option<(f64, f64)>> {
    if t.elem_count() == 0 {
        return Ok(None);
    }
    let values = t.to_dtype(DType::F64)?.flatten_all()?;
    let mean = values.mean_all()?.to_scalar::<f64>()?;
    let variance = values.broadcast_sub(&values.mean_all()?)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok(Some((mean, variance.sqrt())))
}

fn as_table(checkpoint: &Checkpoint) -> Result<String> {
    let width = checkpoint.state_dict.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    let (mut elements, mut bytes) = (0, 0);
    for (name, t) in &checkpoint.state_dict {
        let shape = format!("{:?}", t.dims());
        let kind = format!("{:?}", t.dtype()).to_lowercase();
        let _ = write!(text, "{name:width$}  {kind:5} {shape:20}");
        if let Some((mean, deviation)) = moments(t)? {
            let _ = write!(text, " mean {mean:.5} std {deviation:.5}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        elements += t.elem_count();
        bytes += t.elem_count() * t.dtype().size_in_bytes();
    }
    let count = checkpoint.state_dict.len();
    let _ = writeln!(text, "\n{count} tensors, {elements} elements, {:.1} MB", bytes as f64 / 1e6);
    if let Some(state) = &checkpoint.optimizer {
        let _ = writeln!(text, "optimizer: {} groups, {} tensors", state.groups.len(), state.tensors.len());
    }
    if !checkpoint.extra.is_empty() {
        let keys: Vec<_> = checkpoint.extra.keys().map(String::as_str).collect();
        let _ = writeln!(text, "state of the run: {}", keys.join(", "));
    }
    for (key, value) in &checkpoint.meta {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let lines = value.trim_end().lines().count();
        let first: String = value.trim().lines().next().unwrap_or("").chars().take(100).collect();
        let more = if lines > 1 { format!(" ... ({lines} lines)") } else { String::new() };
        let _ = writeln!(text, "meta.{key}: {first}{more}");
    }
    Ok(text)
}

fn as_json(checkpoint: &Checkpoint) -> Result<String> {
    let tensor = |(name, t): (&String, &Tensor)| -> Result<(String, serde_json::Value)> {
        let (mean, std) = moments(t)?.unzip();
        let kind = format!("{:?}", t.dtype()).to_lowercase();
        Ok((name.clone(), serde_json::json!({"dtype": kind, "shape": t.dims(), "mean": mean, "std": std})))
    };
    let tensors: serde_json::Map<_, _> = checkpoint.state_dict.iter().map(tensor).collect::<Result<_>>()?;
    let all = serde_json::json!({"meta": checkpoint.meta, "tensors": tensors});
    serde_json::to_string_pretty(&all).map_err(|e| Error::Run(e.to_string()))
}
