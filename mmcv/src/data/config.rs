//! What a config's `data` says of loading: `samples_per_gpu`, `workers_per_gpu`, `train_dataloader` and so on.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{LoaderOptions, OnError};
use crate::config::Node;
use crate::error::Result;

/// What a sample that can't be read does in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnErrorConfig {
    /// It is reported with its path, and another one is read in its stead; ten in a row that can't be read end the run.
    #[default]
    Skip,
    /// It ends the run.
    Fatal,
}

impl From<OnErrorConfig> for OnError {
    fn from(choice: OnErrorConfig) -> Self {
        match choice {
            OnErrorConfig::Skip => LoaderOptions::default().on_error,
            OnErrorConfig::Fatal => Self::Fatal,
        }
    }
}

/// `data.train_dataloader` and its like: what it says goes over what `data` says.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataLoaderConfig {
    /// Samples in a batch; default that of `data`, else 1.
    #[serde(default)]
    pub samples_per_gpu: Option<usize>,
    /// Threads that read ahead, 0 for none; default that of `data`, else 2.
    #[serde(default)]
    pub workers_per_gpu: Option<usize>,
    /// Whether the order is random; default true in training.
    #[serde(default)]
    pub shuffle: Option<bool>,
    /// Whether a shorter last batch is left out; default false.
    #[serde(default)]
    pub drop_last: Option<bool>,
    /// Batches that each thread may be ahead; default 2.
    #[serde(default)]
    pub prefetch_factor: Option<usize>,
    /// Classes in turn, so that rare ones are seen as often as common ones (epoch-based runs).
    #[serde(default)]
    pub class_aware_sampler: Option<ClassAwareConfig>,
    /// `skip` or `fatal`; default `skip`.
    #[serde(default)]
    pub on_error: Option<OnErrorConfig>,
    /// Accepted: the threads start anew for each epoch, which costs nothing.
    #[serde(default)]
    pub persistent_workers: Option<bool>,
    /// Accepted: memory is shared between threads.
    #[serde(default)]
    pub pin_memory: Option<bool>,
}

/// `class_aware_sampler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassAwareConfig {
    /// Images taken of a class at its turn; default 1.
    #[serde(default = "one")]
    pub num_sample_class: usize,
}

fn one() -> usize {
    1
}

/// A config's `data`, without what its data sets say.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DataConfig {
    #[serde(default)]
    #[allow(dead_code)] // built by the task's own registry
    train: Option<Node>,
    #[serde(default)]
    #[allow(dead_code)] // likewise
    val: Option<Node>,
    #[serde(default)]
    #[allow(dead_code)] // likewise
    test: Option<Node>,
    #[serde(default)]
    samples_per_gpu: Option<usize>,
    /// The older name of `samples_per_gpu`, which goes over it.
    #[serde(default)]
    imgs_per_gpu: Option<usize>,
    #[serde(default)]
    workers_per_gpu: Option<usize>,
    #[serde(default)]
    #[allow(dead_code)] // as in DataLoaderConfig
    persistent_workers: Option<bool>,
    #[serde(default)]
    drop_last: Option<bool>,
    #[serde(default)]
    on_error: Option<OnErrorConfig>,
    #[serde(default)]
    train_dataloader: Option<DataLoaderConfig>,
    #[serde(default)]
    val_dataloader: Option<DataLoaderConfig>,
    #[serde(default)]
    test_dataloader: Option<DataLoaderConfig>,
}

/// Which of a config's data sets is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// `data.train`.
    Train,
    /// `data.val`.
    Val,
    /// `data.test`.
    Test,
}

/// How one of a config's data sets is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Samples in a batch, at least 1.
    pub samples_per_gpu: usize,
    /// Threads that read ahead.
    pub workers_per_gpu: usize,
    /// Whether the order is random.
    pub shuffle: bool,
    /// Whether a shorter last batch is left out.
    pub drop_last: bool,
    /// Batches that each thread may be ahead.
    pub prefetch: usize,
    /// Classes in turn.
    pub class_aware_sampler: Option<ClassAwareConfig>,
    /// What a sample that can't be read does.
    pub on_error: OnError,
}

impl LoaderConfig {
    /// Of `split`, from the whole config. As in OpenMMLab, `data`'s own `samples_per_gpu` is for training alone (an
    /// evaluation takes one sample at a time unless its own loader says otherwise) and its `workers_per_gpu` for all.
    /// Outside training a sample that can't be read is always fatal.
    pub fn from_config(config: &Node, split: Split) -> Result<Self> {
        let Some(node) = config.get("data").filter(|n| !n.is_null()) else {
            return Err(config.error("missing required field 'data'"));
        };
        Self::from_data(node, split).map_err(|e| e.under("data"))
    }

    fn from_data(node: &Node, split: Split) -> Result<Self> {
        let data: DataConfig = node.parse()?;
        let (name, own) = match split {
            Split::Train => ("train_dataloader", data.train_dataloader),
            Split::Val => ("val_dataloader", data.val_dataloader),
            Split::Test => ("test_dataloader", data.test_dataloader),
        };
        let train = split == Split::Train;
        let own = own.unwrap_or_default();
        if let Some(old) = data.imgs_per_gpu {
            tracing::warn!("data.imgs_per_gpu is the older name of samples_per_gpu; {old} is used");
        }
        let all = data.imgs_per_gpu.or(data.samples_per_gpu).filter(|_| train);
        let samples_per_gpu = own.samples_per_gpu.or(all).unwrap_or(1);
        if samples_per_gpu == 0 {
            let (key, at) = match own.samples_per_gpu {
                Some(_) => (format!("{name}.samples_per_gpu"), node.at(&format!("{name}.samples_per_gpu"))),
                None => ("samples_per_gpu".to_owned(), node.get("samples_per_gpu")),
            };
            return Err(at.unwrap_or(node).error("found 0, expected a number of at least 1").under(&key));
        }
        Ok(Self {
            samples_per_gpu,
            workers_per_gpu: own.workers_per_gpu.or(data.workers_per_gpu).unwrap_or(2),
            shuffle: own.shuffle.unwrap_or(train),
            drop_last: own.drop_last.or(data.drop_last.filter(|_| train)).unwrap_or(false),
            prefetch: own.prefetch_factor.unwrap_or(LoaderOptions::default().prefetch),
            class_aware_sampler: own.class_aware_sampler,
            on_error: if train { own.on_error.or(data.on_error).unwrap_or_default().into() } else { OnError::Fatal },
        })
    }

    /// For the loader of a run with `seed`.
    pub fn options(&self, seed: u64) -> LoaderOptions {
        LoaderOptions {
            workers: self.workers_per_gpu,
            prefetch: self.prefetch,
            seed,
            on_error: self.on_error,
            ..LoaderOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, split: Split) -> Result<LoaderConfig> {
        LoaderConfig::from_config(&Node::from_json(json).unwrap(), split)
    }

    #[test]
    fn a_loaders_own_options_go_over_those_for_all() {
        let json = r#"{"data": {"samples_per_gpu": 4, "workers_per_gpu": 3, "on_error": "fatal", "train": {"type": "X"},
            "train_dataloader": {"workers_per_gpu": 0, "class_aware_sampler": {}, "drop_last": true},
            "test_dataloader": {"samples_per_gpu": 2, "prefetch_factor": 5}}}"#;
        let train = read(json, Split::Train).unwrap();
        let want = LoaderConfig {
            samples_per_gpu: 4,
            workers_per_gpu: 0,
            shuffle: true,
            drop_last: true,
            prefetch: 2,
            class_aware_sampler: Some(ClassAwareConfig { num_sample_class: 1 }),
            on_error: OnError::Fatal,
        };
        assert_eq!(train, want);
        let test = read(json, Split::Test).unwrap();
        assert_eq!((test.samples_per_gpu, test.workers_per_gpu, test.prefetch, test.shuffle), (2, 3, 5, false));
        assert_eq!(read(json, Split::Val).unwrap().samples_per_gpu, 1);
        assert_eq!(test.options(9).seed, 9);
        let plain = read(r#"{"data": {"imgs_per_gpu": 3, "samples_per_gpu": 2}}"#, Split::Train).unwrap();
        assert_eq!((plain.samples_per_gpu, plain.workers_per_gpu), (3, 2));
        assert_eq!(plain.on_error, OnError::Replace(10));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (json, words) in [
            ("{}", "'data'"),
            (r#"{"data": {"samples_per_gpus": 2}}"#, "data.samples_per_gpus: unknown field"),
            (r#"{"data": {"samples_per_gpu": 0}}"#, "data.samples_per_gpu: found 0"),
            (
                r#"{"data": {"train_dataloader": {"samples_per_gpu": 0}}}"#,
                "data.train_dataloader.samples_per_gpu: found 0",
            ),
            (r#"{"data": {"workers_per_gpu": -1}}"#, "data.workers_per_gpu"),
            (r#"{"data": {"on_error": "ignore"}}"#, "unknown value 'ignore' (allowed: 'skip', 'fatal')"),
        ] {
            let e = read(json, Split::Train).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
