//! `mmcls golden`: whether a model gives the numbers that the original gave.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmcv::cli::{TaskCommand, golden_command, run_golden};
use mmcv::config::Node;
use mmcv::nn::{Ctx, ParamStore, VarBuilder, no_grad};
use mmcv::testing::golden::{Golden, Report};
use mmcv::testing::{fill_by_name, input_by_name};
use mmcv::{Error, Result, Rng, say};

use crate::datasets::ClsBatch;
use crate::models::classifiers::build_classifier;

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand { command: golden_command, run: |matches| run_golden(matches, check) };

/// Builds the golden's model, runs what the golden holds and compares.
pub fn check(file: &Path) -> Result<Report> {
    let golden = Golden::read(file, "mmcls")?;
    let store = ParamStore::new(&Device::Cpu, 0);
    let model = build_classifier(&Node::from_json(&golden.model.to_string())?, VarBuilder::new(&store))?;
    let mut report = Report::new(&golden, &store);
    for line in report.differing_keys(&golden) {
        say!("  {line}")?;
    }
    fill_by_name(&store)?;
    if golden.input.len() != 4 {
        return Err(Error::data(file, "input is not [N, C, H, W]"));
    }
    let x = input_by_name("input", &golden.input, &Device::Cpu)?;
    let (feats, logits) =
        no_grad(|| candle_core::Result::Ok((model.extract_feat(&x, &Ctx::eval())?, model.logits(&x, &Ctx::eval())?)))?;
    let feats = feats.into_iter().enumerate().map(|(i, t)| (format!("feat.{i}"), t));
    report.outputs(&golden, feats.chain([("logits".to_owned(), logits)]))?;

    // What golden.py trains on: the input and its mirror image, as classes 3 and 7.
    let mirrored = mirror(&x)?;
    let labels: Vec<i64> = [3, 7].repeat(golden.input[0]);
    let batch = ClsBatch { img: Tensor::cat(&[&x, &mirrored], 0)?, gt_label: Tensor::new(labels, &Device::Cpu)? };
    for train in [false, true].into_iter().filter(|t| golden.has_losses(*t)) {
        let ctx = if train { Ctx::train(Rng::new(0)).without_dropout() } else { Ctx::eval() };
        report.losses(&golden, &store, train, &model.forward_train(&batch, &ctx)?)?;
    }
    Ok(report)
}

/// `[B, C, H, W]` from right to left.
pub(super) fn mirror(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(3)? as u32;
    let order: Vec<u32> = (0..width).rev().collect();
    Ok(x.index_select(&Tensor::new(order, x.device())?, 3)?)
}
