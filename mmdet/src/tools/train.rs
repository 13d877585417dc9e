//! `mmdet train`: trains a detector as a config says; mmdet's `tools/train.py`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::Device;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{TaskCommand, TrainArgs, parse_device};
use mmcv::config::{Config, Node};
use mmcv::data::{
    BatchSampler, ClassAwareSampler, DataLoader, LoaderConfig, Sampler as _, SamplerConfig, Split, build_sampler,
};
use mmcv::optim::build_optimizer;
use mmcv::runner::hooks::EvalConfig;
use mmcv::runner::{Batches, LogValue, Mode, RunLength, Runner, RunnerOptions};
use mmcv::{Error, Result};

use crate::apis::{DetModel, ShowOptions, drawing_name, num_classes_fit, show_result, single_gpu_test};
use crate::core::{DetBatch, DetResult, ImgMeta};
use crate::datasets::{DatasetDefaults, DetDataset, build_dataset, collate, update_data_root};
use crate::evaluation::{MetricValue, TestResults, evaluate};

/// Images of the validation set that are drawn at the end of a run.
const DRAWN: usize = 8;

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        TrainArgs::augment_args(Command::new("train"))
            .about("Train a detector: checkpoints, logs, curves and drawings go to the work dir")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = TrainArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let device = parse_device(&args.device)?;
    let mut config = args.config.load()?;
    update_data_root(&mut config.root)?;
    let work_dir = args.settle(&mut config)?;
    train(&args, &config, &work_dir, &device)
}

fn train(args: &TrainArgs, config: &Config, work_dir: &Path, device: &Device) -> Result<()> {
    let options = RunnerOptions { name: "mmdet".into(), ..RunnerOptions::from_config(&config.root)? };
    let seed = options.seed;
    let loading = LoaderConfig::from_config(&config.root, Split::Train)?;
    let (by_iter, flows) = (matches!(options.length, RunLength::Iters(_)), options.workflow.clone());
    let dataset: Arc<dyn DetDataset> = Arc::from(
        build_dataset(config.require("data.train")?, DatasetDefaults { test_mode: false })
            .map_err(|e| e.under("data.train"))?,
    );
    let model = DetModel::from_config(config, device, seed)?;
    num_classes_fit(model.detector.as_ref().as_ref(), dataset.classes(), config)?;
    args.start_weights(config, &model.store)?;

    let optimizer = build_optimizer(config.require("optimizer")?, &model.store).map_err(|e| e.under("optimizer"))?;
    let mut runner = Runner::new(describe(options, config, &*dataset), model.store.clone(), optimizer)?;
    runner.state.logger.info(&format!(
        "{} training images, {} classes, {:.2} M parameters, seed {seed}, work dir {}",
        dataset.len(),
        dataset.classes().len(),
        model.store.num_params() as f64 / 1e6,
        work_dir.display()
    ))?;
    runner.register_hooks_from_config(&config.root)?;
    let validation = if args.no_validate { None } else { Validation::from_config(config, &model, work_dir)? };
    if let Some(validation) = &validation {
        validation.register(&mut runner)?;
    }
    args.resume(config, &mut runner)?;

    // A resumed run goes on with its first seed.
    let seed = runner.state.seed;
    let load = |dataset: Arc<dyn DetDataset>| -> Result<_> {
        let order = sampler(&*dataset, &loading, by_iter, seed)?;
        Ok(DataLoader::new(dataset, order, collate, loading.options(seed)))
    };
    let loaders = flows
        .iter()
        .map(|(mode, _)| match mode {
            Mode::Train => load(dataset.clone()),
            Mode::Val => load(loss_dataset(config)?),
        })
        .collect::<Result<Vec<_>>>()?;
    let parts: Vec<&dyn Batches<DetBatch>> = loaders.iter().map(|l| l as _).collect();
    runner.run_workflow(&model, &parts)?;
    if let Some(validation) = &validation {
        validation.finish()?;
    }
    Ok(())
}

/// The pictures of the `val` workflow, whose losses are logged: `data.val` through the pipeline of training, as in mmdet.
fn loss_dataset(config: &Config) -> Result<Arc<dyn DetDataset>> {
    let mut data = config.require("data.val").map_err(|e| e.under("workflow"))?.clone();
    let pipeline = ["data.train.pipeline", "data.train.dataset.pipeline"].iter().find_map(|at| config.root.at(at));
    if let Some(pipeline) = pipeline {
        data.set("pipeline", pipeline.clone());
    }
    let dataset = build_dataset(&data, DatasetDefaults { test_mode: false }).map_err(|e| e.under("data.val"))?;
    Ok(Arc::from(dataset))
}

/// The order of the training images: groups of one aspect ratio, or classes in turn.
fn sampler(dataset: &dyn DetDataset, cfg: &LoaderConfig, infinite: bool, seed: u64) -> Result<Box<dyn BatchSampler>> {
    if let (Some(by_class), false) = (cfg.class_aware_sampler, infinite) {
        let sampler = ClassAwareSampler {
            images_of_class: dataset.cat2imgs()?,
            len: dataset.len(),
            samples_per_gpu: cfg.samples_per_gpu,
            num_sample_class: by_class.num_sample_class,
            world: 1,
            rank: 0,
            seed,
        };
        return Ok(sampler.batched(cfg.samples_per_gpu, cfg.drop_last));
    }
    let options = SamplerConfig {
        samples_per_gpu: cfg.samples_per_gpu,
        shuffle: cfg.shuffle,
        infinite,
        drop_last: cfg.drop_last,
        seed,
        ..SamplerConfig::default()
    };
    build_sampler(&options, (0..dataset.len()).map(|i| dataset.flag(i)).collect())
}

/// Puts the config's text and the classes where checkpoints and logs take them from.
fn describe(mut options: RunnerOptions, config: &Config, dataset: &dyn DetDataset) -> RunnerOptions {
    let text = config.root.to_json(true);
    options.meta.insert("config".into(), text.into());
    options.meta.insert("CLASSES".into(), dataset.classes().into());
    options.meta.insert("mmdet_version".into(), env!("CARGO_PKG_VERSION").into());
    options
}

/// A picture's file, its name for the drawing, and what was found in it.
type Seen = (String, String, DetResult);

/// The evaluation while training, and what it saw last.
struct Validation {
    dataset: Arc<dyn DetDataset>,
    model: DetModel,
    node: Node,
    options: Node,
    folder: std::path::PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Validation {
    /// None where the config has no `evaluation` or no `data.val`.
    fn from_config(config: &Config, model: &DetModel, work_dir: &Path) -> Result<Option<Self>> {
        let given = |key: &str| config.root.at(key).filter(|n| !n.is_null());
        let (Some(node), Some(data)) = (given("evaluation"), given("data.val")) else { return Ok(None) };
        let (_, options) = EvalConfig::split(node).map_err(|e| e.under("evaluation"))?;
        let dataset = build_dataset(data, DatasetDefaults { test_mode: true }).map_err(|e| e.under("data.val"))?;
        num_classes_fit(model.detector.as_ref().as_ref(), dataset.classes(), config)?;
        Ok(Some(Self {
            dataset: Arc::from(dataset),
            model: model.clone(),
            node: node.clone(),
            options,
            folder: work_dir.join("vis"),
            seen: Arc::default(),
        }))
    }

    fn register(&self, runner: &mut Runner) -> Result<()> {
        let (dataset, model, options) = (self.dataset.clone(), self.model.clone(), self.options.clone());
        let seen = self.seen.clone();
        runner.register_evaluation(&self.node, dataset.len(), move |state| {
            state.logger.start_bar("val", dataset.len(), 0);
            let mut first: Vec<Seen> = Vec::new();
            let results = single_gpu_test(model.detector.as_ref().as_ref(), &dataset, 1, |i, found, meta: &ImgMeta| {
                state.logger.step_bar("");
                if i < DRAWN {
                    first.push((meta.filename.clone(), drawing_name(&meta.ori_filename), found.clone()));
                }
                Ok(())
            });
            state.logger.end_bar();
            let evaluation = evaluate(&*dataset, TestResults::Detections(&results?), &options)?;
            *seen.lock().unwrap_or_else(|e| e.into_inner()) = first;
            state.logger.info(evaluation.report.trim_end())?;
            let value = |v: MetricValue| match v {
                MetricValue::Number(n) => LogValue::from(n),
                MetricValue::Text(t) => LogValue::from(t),
            };
            Ok(evaluation.metrics.into_iter().map(|(k, v)| (k, value(v))).collect())
        })?;
        Ok(())
    }

    /// Draws what the last evaluation found in its first images.
    fn finish(&self) -> Result<()> {
        for (file, name, found) in self.seen.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            let out = self.folder.join(name);
            show_result(Path::new(file), found, self.dataset.classes(), &out, &ShowOptions::default())?;
        }
        Ok(())
    }
}
