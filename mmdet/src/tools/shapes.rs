//! `mmdet shapes`: makes the project's own small detection data set.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use mmcv::cli::TaskCommand;
use mmcv::{Error, Result, say};

use crate::datasets::shapes::{SHAPES_CLASSES, make_shapes};

/// Arguments of `mmdet shapes`.
#[derive(Args)]
struct ShapesArgs {
    /// Folder to make: `train/`, `val/` and `annotations/{train,val}.json` in COCO format.
    dir: PathBuf,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Training images.
    #[arg(long, default_value_t = 400)]
    train: usize,
    /// Validation images.
    #[arg(long, default_value_t = 100)]
    val: usize,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    // After the arguments, whose own doc would take its place.
    command: || {
        ShapesArgs::augment_args(Command::new("shapes"))
            .about("Make a small detection data set of drawn shapes (COCO format)")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = ShapesArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    make_shapes(&args.dir, args.seed, args.train, args.val)?;
    say!(
        "{}: {} train and {} val images, classes {}",
        args.dir.display(),
        args.train,
        args.val,
        SHAPES_CLASSES.join(", ")
    )?;
    Ok(())
}
