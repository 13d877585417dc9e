//! The arguments that training and testing share in every framework, as in OpenMMLab's tools.

use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::checkpoint::{load_checkpoint, start_model};
use crate::config::{Config, Node};
use crate::error::{Error, Result};
use crate::nn::ParamStore;
use crate::runner::Runner;

/// A config, and options over it.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// A .toml, .yaml, .json or OpenMMLab .py config.
    pub config: PathBuf,
    /// Set values of the config: `--cfg-options optimizer.lr=1e-3 data.samples_per_gpu=4 model.backbone.depth=50`.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    pub cfg_options: Vec<String>,
}

impl ConfigArgs {
    /// The config with its options; warns about an option that changes nothing that was there.
    pub fn load(&self) -> Result<Config> {
        let mut config = Config::from_file(&self.config)?;
        for warning in config.merge_options(&self.cfg_options)? {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

/// What `train` takes in every framework.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    /// The config.
    pub config: ConfigArgs,
    /// Folder for logs, checkpoints and pictures; default `work_dirs/<config's name>`.
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Go on from this checkpoint: weights, optimizer, schedule, random numbers, place in the data.
    #[arg(long, value_name = "FILE")]
    pub resume_from: Option<PathBuf>,
    /// Go on from the newest readable checkpoint of the work dir, if there is one.
    #[arg(long)]
    pub auto_resume: bool,
    /// Start from the weights of this checkpoint, and nothing else of it.
    #[arg(long, value_name = "FILE")]
    pub load_from: Option<PathBuf>,
    /// Don't evaluate while training.
    #[arg(long)]
    pub no_validate: bool,
    /// Decides every random number; without it one is drawn and written to the log.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Accepted as in OpenMMLab. Every run here is repeatable: the same seed gives the same bits on one machine.
    #[arg(long)]
    pub deterministic: bool,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value_t = super::default_device(), value_name = "DEVICE")]
    pub device: String,
}

impl TrainArgs {
    /// Settles the run's work dir and seed and writes them into the config, where checkpoints keep them. Gives the work dir.
    pub fn settle(&self, config: &mut Config) -> Result<PathBuf> {
        let work_dir = self.work_dir(config);
        config.root.set("work_dir", work_dir.display().to_string());
        let seed = self.run_seed(config)?;
        config.root.set("seed", i64::try_from(seed & i64::MAX as u64).unwrap_or(0));
        Ok(work_dir)
    }

    /// The weights that training starts from: every module's `init_cfg`, then the checkpoint of `--load-from` or the
    /// config's `load_from`. An error when nothing of that checkpoint fits.
    pub fn start_weights(&self, config: &Config, store: &ParamStore) -> Result<()> {
        start_model(store)?;
        if let Some(file) = self.load_from.clone().or_else(|| file_in(config, "load_from")) {
            let (_, report) = load_checkpoint(store, &file)?;
            report.require_some(&file)?;
            tracing::info!("{}: {report}", file.display());
        }
        Ok(())
    }

    /// Goes on from the checkpoint of `--resume-from` or the config's `resume_from`, or by `--auto-resume`.
    pub fn resume(&self, config: &Config, runner: &mut Runner) -> Result<()> {
        match self.resume_from.clone().or_else(|| file_in(config, "resume_from")) {
            Some(file) => runner.resume(&file).map(|_| ()),
            None if self.auto_resume => runner.auto_resume().map(|_| ()),
            None => Ok(()),
        }
    }

    /// The run's seed: the argument, the config's `seed`, or the time of day.
    fn run_seed(&self, config: &Config) -> Result<u64> {
        match (self.seed, config.root.get("seed").filter(|n| !n.is_null())) {
            (Some(seed), _) => Ok(seed),
            (None, Some(node)) => node.parse().map_err(|e: Error| e.under("seed")),
            (None, None) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Ok(now.map_or(0, |d| d.as_nanos() as u64))
            }
        }
    }

    /// Where the run's files go: the argument, the config's `work_dir`, or `work_dirs/<config's name>`.
    fn work_dir(&self, config: &Config) -> PathBuf {
        let own = config.root.get("work_dir").and_then(|n| n.as_str()).map(PathBuf::from);
        self.work_dir.clone().or(own).unwrap_or_else(|| {
            let stem = self.config.config.file_stem().unwrap_or_default();
            Path::new("work_dirs").join(stem)
        })
    }
}

fn file_in(config: &Config, key: &str) -> Option<PathBuf> {
    config.root.get(key).and_then(Node::as_str).map(PathBuf::from)
}

/// The device that `name` (`cpu`, `cuda`, `cuda:1`) means.
pub fn parse_device(name: &str) -> Result<Device> {
    let bad = || Error::Usage(format!("--device {name}: expected cpu or cuda:N"));
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", index)) => cuda(index.parse().map_err(|_| bad())?),
        _ => Err(bad()),
    }
}

fn cuda(index: usize) -> Result<Device> {
    // `cuda_is_available` answers for the build, not for the machine.
    match Device::cuda_if_available(index) {
        Ok(device) if device.is_cuda() => Ok(device),
        Ok(_) => Err(Error::Usage("--device cuda: this binary was built without CUDA, or there is no GPU".into())),
        Err(e) => Err(Error::Usage(format!("--device cuda:{index}: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_in_pytorch() {
        assert!(parse_device("cpu").unwrap().is_cpu());
        for bad in ["gpu", "cuda:x", "cuda:", ""] {
            assert!(parse_device(bad).unwrap_err().to_string().contains("expected cpu or cuda:N"), "{bad}");
        }
    }
}
