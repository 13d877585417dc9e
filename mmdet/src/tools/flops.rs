//! `mmdet flops`: what a model costs; mmdet's `get_flops.py`.

use candle_core::{DType, Device, Tensor};
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::cnn::flops;
use mmcv::nn::{Ctx, ParamStore, VarBuilder, no_grad};
use mmcv::{Error, Result, say};

use crate::models::detectors::build_detector;

/// Arguments of `mmdet flops`.
#[derive(Debug, clap::Args)]
struct FlopsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Height and width of the image (one number: both).
    #[arg(long, num_args = 1..=2, default_values_t = [800, 1280], value_name = "PIXELS")]
    shape: Vec<usize>,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        FlopsArgs::augment_args(Command::new("flops"))
            .about("Count a model's parameters and multiply-adds, in mmcv's convention (one multiply-add is one FLOP)")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = FlopsArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let config = args.config.load()?;
    let (h, w) = (args.shape[0], *args.shape.last().unwrap_or(&args.shape[0]));
    let model_cfg = config.require("model")?;
    let store = ParamStore::new(&Device::Cpu, 0);
    let model =
        build_detector(model_cfg, config.root.get("train_cfg"), config.root.get("test_cfg"), VarBuilder::new(&store))?;
    let image = Tensor::zeros((1, 3, h, w), DType::F32, &Device::Cpu)?;
    let (done, layers) = flops::count(|| {
        no_grad(|| {
            let ctx = Ctx::eval();
            model.forward_head(&model.extract_feat(&image, &ctx)?, &ctx)
        })
    });
    done?;
    let total: u64 = layers.iter().map(|l| l.flops).sum();
    let mut parts: Vec<(String, u64)> = Vec::new();
    for layer in &layers {
        let part = layer.path.split('.').next().filter(|p| !p.is_empty()).unwrap_or(layer.kind).to_owned();
        match parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += layer.flops,
            None => parts.push((part, layer.flops)),
        }
    }
    say!("Input shape: 3 x {h} x {w}")?;
    for (part, flops) in parts {
        say!("  {part:<12} {:>9.2} GFLOPs", flops as f64 / 1e9)?;
    }
    say!("Flops: {:.2} GFLOPs (multiply-adds, mmcv's convention)", total as f64 / 1e9)?;
    // mmcv's counter leaves frozen parameters out.
    let trained: usize = store.trainable().iter().map(|p| p.shape().elem_count()).sum();
    say!("Params: {:.2} M ({:.2} M with the frozen ones)", trained as f64 / 1e6, store.num_params() as f64 / 1e6)?;
    Ok(())
}
