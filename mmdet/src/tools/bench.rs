//! `mmdet bench`: how fast a model is, by stage; mmdet's `tools/analysis_tools/benchmark.py`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::nn::{Ctx, no_grad};
use mmcv::{Error, Result};
use serde_json::json;

use super::results::test_data;
use crate::apis::{DetModel, infer_image};
use crate::core::DetSample;

/// Arguments of `mmdet bench`.
#[derive(Debug, clap::Args)]
struct BenchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint; without it the weights are as the seed draws them, and few boxes are found.
    checkpoint: Option<PathBuf>,
    /// Images that are timed.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_iter: u64,
    /// Images before them that are not.
    #[arg(long, default_value_t = 5, value_name = "N")]
    warmup: u64,
    /// Write the numbers as JSON.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value_t = mmcv::cli::default_device(), value_name = "DEVICE")]
    device: String,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        BenchArgs::augment_args(Command::new("bench"))
            .about("Time a detector on the test images, one by one: loading, network, post-processing, peak memory")
    },
    run,
};

/// How long the stages of one image took.
#[derive(Debug, Clone, Copy, Default)]
struct Stages {
    load: Duration,
    forward: Duration,
    /// What a test spends beyond the network.
    post: Duration,
}

fn run(matches: &ArgMatches) -> Result<()> {
    let args = BenchArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let (config, dataset) = test_data(&args.config)?;
    let model = DetModel::from_config(&config, &parse_device(&args.device)?, 0)?;
    if let Some(file) = &args.checkpoint {
        load_whole_checkpoint(&model.store, file)?;
    }
    let mut timed = Vec::new();
    for i in 0..args.warmup + args.max_iter {
        let start = Instant::now();
        let views = dataset.test_samples((i % dataset.len().max(1) as u64) as usize)?;
        let load = start.elapsed();
        let stages = Stages { load, ..stages(&model, &views)? };
        if i >= args.warmup {
            timed.push(stages);
        }
    }
    let n = timed.len() as f64;
    let mean = |of: fn(&Stages) -> Duration| timed.iter().map(of).sum::<Duration>().as_secs_f64() / n;
    let (load, forward, post) = (mean(|s| s.load), mean(|s| s.forward), mean(|s| s.post));
    let total = load + forward + post;
    let threads = rayon::current_num_threads();
    mmcv::say!("{} images, {threads} threads", timed.len())?;
    for (stage, seconds) in [("load", load), ("forward", forward), ("post-process", post), ("all", total)] {
        mmcv::say!("  {stage:<13} {:>9.2} ms {:>9.2} img/s", 1e3 * seconds, 1.0 / seconds.max(1e-9))?;
    }
    let peak = peak_memory();
    match peak {
        Some(bytes) => mmcv::say!("peak memory: {:.0} MB", bytes as f64 / 1e6)?,
        None => mmcv::say!("peak memory: not known on this system")?,
    }
    if let Some(out) = &args.out {
        let numbers = json!({
            "images": timed.len(), "threads": threads, "load_s": load, "forward_s": forward, "post_process_s": post,
            "img_per_s": 1.0 / total.max(1e-9), "peak_bytes": peak,
        });
        let text = serde_json::to_string_pretty(&numbers).map_err(|e| Error::Run(e.to_string()))?;
        mmcv::fileio::write_atomic(out, |file| file.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// The network alone, then the whole test: their difference is post-processing, whatever the kind of detector.
fn stages(model: &DetModel, views: &[DetSample]) -> Result<Stages> {
    let detector = model.detector.as_ref().as_ref();
    let start = Instant::now();
    no_grad(|| -> candle_core::Result<()> {
        let ctx = Ctx::eval();
        for view in views {
            detector.forward_head(&detector.extract_feat(&view.img.unsqueeze(0)?, &ctx)?, &ctx)?;
        }
        Ok(())
    })?;
    let forward = start.elapsed();
    let start = Instant::now();
    infer_image(detector, views)?;
    Ok(Stages { load: Duration::ZERO, forward, post: start.elapsed().saturating_sub(forward) })
}

/// The most memory this process has held, as Linux counts it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
