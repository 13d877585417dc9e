//! `mmdet fuse`: a checkpoint whose batch norms are in its convolutions.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::{Checkpoint, load_whole_checkpoint, save};
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::cnn::fused_state_dict;
use mmcv::{Error, Result};

use crate::apis::DetModel;

/// Arguments of `mmdet fuse`.
#[derive(Debug, clap::Args)]
struct FuseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint of the config's model.
    checkpoint: PathBuf,
    /// The new file: .pth (as PyTorch's model after mmcv's `fuse_conv_bn` has it) or .safetensors.
    output: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        FuseArgs::augment_args(Command::new("fuse"))
            .about("Write a checkpoint without batch norms: they go into the convolutions before them")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = FuseArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    if args.output.exists() && !args.force {
        return Err(Error::Usage(format!("{} is there already (--force replaces it)", args.output.display())));
    }
    let config = args.config.load()?;
    let model = DetModel::from_config(&config, &parse_device("cpu")?, 0)?;
    let found = load_whole_checkpoint(&model.store, &args.checkpoint)?;
    let state_dict = fused_state_dict(&model.store)?;
    let (before, after) = (model.store.entries().len(), state_dict.len());
    save(&args.output, &Checkpoint { meta: found.meta, state_dict, ..Checkpoint::default() })?;
    mmcv::say!("{}: {after} tensors, {before} before", args.output.display())?;
    Ok(())
}
