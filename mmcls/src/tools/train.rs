//! `mmcls train`: trains a classifier as a config says; mmcls's `tools/train.py`.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{TaskCommand, TrainArgs, parse_device};
use mmcv::config::Config;
use mmcv::data::{BatchSampler, DataLoader, LoaderConfig, RandomSampler, Sampler as _, SequentialSampler, Split};
use mmcv::optim::build_optimizer;
use mmcv::runner::hooks::EvalConfig;
use mmcv::runner::{Batches, LogValue, Mode, RunLength, Runner, RunnerOptions};
use mmcv::{Error, Result};

use crate::apis::{ClsModel, num_classes_fit, single_gpu_test};
use crate::datasets::{ClsBatch, ClsDataset, DatasetDefaults, build_dataset, collate};
use crate::evaluation::evaluate_dataset;

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        TrainArgs::augment_args(Command::new("train"))
            .about("Train a classifier: checkpoints, logs and curves go to the work dir")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = TrainArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let device = parse_device(&args.device)?;
    let mut config = args.config.load()?;
    let work_dir = args.settle(&mut config)?;
    train(&args, &config, &work_dir, &device)
}

fn train(args: &TrainArgs, config: &Config, work_dir: &Path, device: &Device) -> Result<()> {
    let mut options = RunnerOptions { name: "mmcls".into(), ..RunnerOptions::from_config(&config.root)? };
    let seed = options.seed;
    let (by_iter, flows) = (matches!(options.length, RunLength::Iters(_)), options.workflow.clone());
    let loading = LoaderConfig::from_config(&config.root, Split::Train)?;
    let dataset: Arc<dyn ClsDataset> = Arc::from(
        build_dataset(config.require("data.train")?, DatasetDefaults { test_mode: false })
            .map_err(|e| e.under("data.train"))?,
    );
    let model = ClsModel::from_config(config, device, seed)?;
    num_classes_fit(&*model.classifier, dataset.classes(), config)?;
    args.start_weights(config, &model.store)?;
    let text = serde_json::to_string_pretty(&config.root).unwrap_or_default();
    options.meta.insert("config".into(), text.into());
    options.meta.insert("CLASSES".into(), dataset.classes().into());
    options.meta.insert("mmcls_version".into(), env!("CARGO_PKG_VERSION").into());

    let optimizer = build_optimizer(config.require("optimizer")?, &model.store).map_err(|e| e.under("optimizer"))?;
    let mut runner = Runner::new(options, model.store.clone(), optimizer)?;
    runner.state.logger.info(&format!(
        "{} training images, {} classes, {:.2} M parameters, seed {seed}, work dir {}",
        dataset.len(),
        dataset.classes().len(),
        model.store.num_params() as f64 / 1e6,
        work_dir.display()
    ))?;
    runner.register_hooks_from_config(&config.root)?;
    if !args.no_validate {
        validate(&mut runner, &model, config)?;
    }
    args.resume(config, &mut runner)?;
    // A resumed run goes on with its first seed.
    let seed = runner.state.seed;
    if by_iter && loading.samples_per_gpu > dataset.len() {
        let message = format!("is {}, the data set has {} images", loading.samples_per_gpu, dataset.len());
        return Err(Error::config(message).under("data.samples_per_gpu"));
    }
    let load = |dataset: Arc<dyn ClsDataset>| {
        let order = sampler(dataset.len(), &loading, seed);
        DataLoader::new(dataset, order, collate, loading.options(seed))
    };
    let loaders = flows
        .iter()
        .map(|(mode, _)| match mode {
            Mode::Train => Ok(load(dataset.clone())),
            Mode::Val => Ok(load(loss_dataset(config)?)),
        })
        .collect::<Result<Vec<_>>>()?;
    let parts: Vec<&dyn Batches<ClsBatch>> = loaders.iter().map(|l| l as _).collect();
    runner.run_workflow(&model, &parts)
}

/// The pictures of the `val` workflow, whose losses are logged: `data.val` through the pipeline of training, as in mmcls.
fn loss_dataset(config: &Config) -> Result<Arc<dyn ClsDataset>> {
    let mut data = config.require("data.val").map_err(|e| e.under("workflow"))?.clone();
    if let Some(pipeline) = config.root.at("data.train.pipeline") {
        data.set("pipeline", pipeline.clone());
    }
    let dataset = build_dataset(&data, DatasetDefaults { test_mode: false }).map_err(|e| e.under("data.val"))?;
    Ok(Arc::from(dataset))
}

/// The order of the training images.
fn sampler(len: usize, loading: &LoaderConfig, seed: u64) -> Box<dyn BatchSampler> {
    if loading.shuffle {
        return RandomSampler { len, seed }.batched(loading.samples_per_gpu, loading.drop_last);
    }
    SequentialSampler { len }.batched(loading.samples_per_gpu, loading.drop_last)
}

/// Registers the evaluation of `data.val`, where the config has both.
fn validate(runner: &mut Runner, model: &ClsModel, config: &Config) -> Result<()> {
    let given = |key: &str| config.root.at(key).filter(|n| !n.is_null());
    let (Some(node), Some(data)) = (given("evaluation"), given("data.val")) else { return Ok(()) };
    let (_, options) = EvalConfig::split(node).map_err(|e| e.under("evaluation"))?;
    let dataset: Arc<dyn ClsDataset> =
        Arc::from(build_dataset(data, DatasetDefaults { test_mode: true }).map_err(|e| e.under("data.val"))?);
    num_classes_fit(&*model.classifier, dataset.classes(), config)?;
    let train = LoaderConfig::from_config(&config.root, Split::Train)?;
    let own = LoaderConfig::from_config(&config.root, Split::Val)?;
    // As in mmcls, `samples_per_gpu` holds for validation too unless its own loader says otherwise.
    let loading = match given("data.val_dataloader.samples_per_gpu") {
        Some(_) => own,
        None => LoaderConfig { samples_per_gpu: train.samples_per_gpu, ..own },
    };
    let model = model.clone();
    runner.register_evaluation(node, dataset.len(), move |state| {
        state.logger.start_bar("val", dataset.len(), 0);
        let scores = single_gpu_test(&*model.classifier, &dataset, &loading, |_| {})?;
        state.logger.end_bar();
        let metrics = evaluate_dataset(&scores, &*dataset, &options).map_err(|e| e.under("evaluation"))?;
        let value = |v: Vec<f64>| match v[..] {
            [one] => LogValue::from(one),
            _ => v.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(" ").as_str().into(),
        };
        Ok(metrics.into_iter().map(|(k, v)| (k, value(v))).collect())
    })?;
    Ok(())
}
