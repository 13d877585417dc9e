//! `checkpoint`: what is in a checkpoint file, and the same in another format or under other names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use clap::Subcommand;

use crate::checkpoint::{Checkpoint, Sources, from_torchvision, load, publish, save};
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
    /// Write everything that a file holds in the format that the other name's extension says, or (`convert torchvision`)
    /// the weights under the names that mmcls has for them.
    Convert(ConvertArgs),
}

// No doc: it would take the place of the command's own.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct ConvertArgs {
    #[command(subcommand)]
    from: Option<ConvertFrom>,
    /// A .pth or .safetensors file.
    #[arg(required = true)]
    input: Option<PathBuf>,
    /// The new file: .pth or .safetensors.
    #[arg(required = true)]
    output: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Subcommand)]
enum ConvertFrom {
    /// Give a classifier of torchvision's (AlexNet, MobileNetV2 and V3, RegNetX, ResNet, ResNeXt, ShuffleNetV2, VGG; which one
    /// is seen by its names) the names of mmcls's.
    Torchvision {
        /// A .pth or .safetensors file, a URL, or a name (`torchvision://resnet50`).
        input: String,
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
        Command::Convert(args) => convert(args)?,
    };
    crate::say!("{}", text.trim_end())
}

/// Does what `checkpoint convert` says; gives the line to print.
fn convert(args: &ConvertArgs) -> Result<String> {
    if let Some(ConvertFrom::Torchvision { input, output, force }) = &args.from {
        is_free(output, *force)?;
        let path = Sources::default().find(input)?;
        let found = load(&path)?;
        let renamed = from_torchvision(&found.state_dict).map_err(|message| Error::checkpoint(&path, message))?;
        let checkpoint = Checkpoint { meta: found.meta, state_dict: renamed.state_dict, ..Checkpoint::default() };
        save(output, &checkpoint)?;
        let count = checkpoint.state_dict.len();
        return Ok(format!("{}: {count} tensors of torchvision's {:?}", output.display(), renamed.net));
    }
    let (Some(input), Some(output)) = (&args.input, &args.output) else {
        return Err(Error::Usage("checkpoint convert: give the file and the new file".into()));
    };
    is_free(output, args.force)?;
    let checkpoint = load(input)?;
    save(output, &checkpoint)?;
    Ok(format!("{}: {} tensors", output.display(), checkpoint.state_dict.len()))
}

/// An error where `output` is there and may not be replaced.
fn is_free(output: &Path, force: bool) -> Result<()> {
    if output.exists() && !force {
        return Err(Error::Usage(format!("{} is there already (--force replaces it)", output.display())));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn convert_takes_two_files_or_a_source() {
        let parse = |words: &[&str]| match Line::try_parse_from([&["x", "convert"][..], words].concat()) {
            Ok(Line { args: Args { command: Command::Convert(args) } }) => Some(args),
            _ => None,
        };
        let plain = parse(&["a.pth", "b.safetensors", "--force"]).unwrap();
        assert!(plain.from.is_none() && plain.force);
        assert_eq!((plain.input, plain.output), (Some("a.pth".into()), Some("b.safetensors".into())));
        let renamed = parse(&["torchvision", "torchvision://resnet18", "b.pth"]).unwrap();
        let Some(ConvertFrom::Torchvision { input, force, .. }) = renamed.from else { panic!("no source") };
        assert_eq!((input.as_str(), force), ("torchvision://resnet18", false));
        assert!(parse(&["a.pth"]).is_none() && parse(&["torchvision", "a.pth"]).is_none());
    }
}
