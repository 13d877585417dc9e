//! What goes into an evaluation and what comes out.

use std::fmt;

use indexmap::IndexMap;
use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::{DetResult, ScoredBox};

/// What a model found in each image of a data set, in its order.
#[derive(Debug, Clone, Copy)]
pub enum TestResults<'a> {
    /// Boxes of each class, with masks where the model makes them.
    Detections(&'a [DetResult]),
    /// Boxes without a class (RPN).
    Proposals(&'a [Vec<ScoredBox>]),
}

impl TestResults<'_> {
    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Detections(d) => d.len(),
            Self::Proposals(p) => p.len(),
        }
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An error unless there is one result per image of the data set.
    pub(crate) fn check_len(&self, images: usize) -> Result<()> {
        if self.len() == images {
            return Ok(());
        }
        let message = format!("The length of results is not equal to the dataset len: {} != {images}", self.len());
        Err(Error::Run(message))
    }
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// A number.
    Number(f64),
    /// Several numbers in one line, to copy.
    Text(String),
}

impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n:.4}"),
            Self::Text(t) => f.write_str(t),
        }
    }
}

/// Metrics by name and what there is to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Metrics under mmdet's names, in its order.
    pub metrics: IndexMap<String, MetricValue>,
    /// What mmdet logs on the way: summaries and tables.
    pub report: String,
}

impl Evaluation {
    pub(crate) fn put(&mut self, name: impl Into<String>, value: f64) {
        self.metrics.insert(name.into(), MetricValue::Number(value));
    }

    /// A metric that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.metrics.get(name) {
            Some(MetricValue::Number(n)) => Some(*n),
            _ => None,
        }
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Proposals per image at which recall is measured, by default.
pub(crate) fn proposal_nums() -> Vec<usize> {
    vec![100, 300, 1000]
}

/// As Python's `round(value, digits)` and `float(f"{value:.{digits}f}")`.
pub(crate) fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap_or(value)
}
