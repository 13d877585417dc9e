//! `mmdet golden`: whether a model gives the numbers that the original gave.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indexmap::IndexMap;
use mmcv::cli::TaskCommand;
use mmcv::config::Node;
use mmcv::nn::{Ctx, ParamStore, VarBuilder, no_grad};
use mmcv::testing::{self, Summary, difference};
use mmcv::{Error, Result, say};
use serde::{Deserialize, Serialize};

use crate::core::{BBox, DetBatch, DetResult, ImgMeta};
use crate::models::detectors::{Detector, build_detector};

/// Compare models with the numbers of the Python originals.
///
/// Each FILE holds a model's config and what the original answered, with weights that are generated from their names:
/// keys, outputs, losses, gradients and detections. Prints one line per quantity with its greatest error, relative to the
/// quantity's greatest value.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Golden files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write our own numbers, in the form of the golden.
    #[arg(long, value_name = "OUT.json")]
    dump: Option<PathBuf>,
    /// Greatest relative error that passes.
    #[arg(long, default_value_t = 2e-3)]
    tolerance: f64,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    // After the arguments, whose own doc would take its place.
    command: || {
        Args::augment_args(Command::new("golden")).about("Compare models with the numbers of the Python originals")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = Args::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    if args.dump.is_some() && args.files.len() > 1 {
        return Err(Error::Usage("--dump takes one golden file".into()));
    }
    let mut failed = Vec::new();
    for file in &args.files {
        say!("{}", file.display())?;
        let report = check(file)?;
        for (name, error) in &report.errors {
            let mark = if *error <= args.tolerance { "ok  " } else { "FAIL" };
            say!("  {mark} {name:<48} {error:.2e}")?;
        }
        if report.worst() > args.tolerance {
            failed.push(file.display().to_string());
        }
        if let Some(out) = &args.dump {
            let text = serde_json::to_string(&report.ours).map_err(|e| Error::Run(e.to_string()))?;
            mmcv::fileio::write_atomic(out, |file| std::io::Write::write_all(file, text.as_bytes()))?;
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Run(format!("beyond {:e}: {}", args.tolerance, failed.join(", "))))
}

/// A gradient's norm and some of its values.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Gradient {
    norm: f64,
    pos: Vec<usize>,
    val: Vec<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Detection {
    score: f64,
    label: usize,
    #[serde(rename = "box")]
    bbox: [f64; 4],
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageDetections {
    n: usize,
    top: Vec<Detection>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageProposals {
    n: usize,
    top: Vec<[f64; 5]>,
}

/// A golden file, or ours in its form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Golden {
    package: String,
    config: String,
    model: serde_json::Value,
    params: usize,
    state_dict: Vec<(String, Vec<usize>)>,
    #[serde(default)]
    input: Vec<usize>,
    #[serde(default)]
    outputs: IndexMap<String, Summary>,
    #[serde(default)]
    detections: Vec<ImageDetections>,
    #[serde(default)]
    proposals_out: Vec<ImageProposals>,
    #[serde(default)]
    proposals: Vec<BBox>,
    #[serde(default)]
    score_thr_used: Option<f64>,
    #[serde(default)]
    gt_bboxes: Vec<BBox>,
    #[serde(default)]
    gt_labels: Vec<i64>,
    #[serde(default)]
    losses_eval: IndexMap<String, f64>,
    #[serde(default)]
    losses_train: IndexMap<String, f64>,
    #[serde(default)]
    loss_total_eval: Option<f64>,
    #[serde(default)]
    loss_total_train: Option<f64>,
    #[serde(default)]
    grads_eval: IndexMap<String, Gradient>,
    #[serde(default)]
    grads_train: IndexMap<String, Gradient>,
    #[serde(default)]
    n_grads_eval: usize,
    #[serde(default)]
    n_grads_train: usize,
    #[serde(default)]
    grad_norm_total_eval: Option<f64>,
    #[serde(default)]
    grad_norm_total_train: Option<f64>,
}

/// What a comparison found.
#[derive(Debug)]
pub struct Report {
    /// The greatest relative error of each quantity.
    pub errors: IndexMap<String, f64>,
    ours: Golden,
}

impl Report {
    /// The greatest error of all.
    pub fn worst(&self) -> f64 {
        self.errors.values().copied().fold(0.0, f64::max)
    }
}

/// Builds the golden's model, runs what the golden holds and compares.
pub fn check(file: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?;
    let golden: Golden = serde_json::from_str(&text).map_err(|e| Error::data(file, e.to_string()))?;
    if golden.package != "mmdet" {
        return Err(Error::data(file, format!("is a golden of {}, not of mmdet", golden.package)));
    }
    let model_cfg = Node::from_json(&golden.model.to_string())?;
    let store = ParamStore::new(&Device::Cpu, 0);
    let mut model_cfg = model_cfg;
    if let Some(thr) = golden.score_thr_used {
        set_everywhere(&mut model_cfg, &|node| {
            if node.get("score_thr").is_some() {
                node.set("score_thr", thr);
            }
        });
    }
    // The originals' samplers were made to take the first boxes in place of random ones.
    set_everywhere(&mut model_cfg, &|node| {
        if node.type_name() == Some("RandomSampler") {
            node.set("take_first", true);
        }
    });
    let model = build_detector(&model_cfg, None, None, VarBuilder::new(&store))?;
    let mut errors = IndexMap::new();
    let mut ours = Golden { state_dict: state_dict(&store), params: store.num_params(), ..golden.clone() };
    errors.insert("params".into(), different(ours.params != golden.params));
    errors.insert("state_dict".into(), different(ours.state_dict != golden.state_dict));
    for (ours, theirs) in ours.state_dict.iter().zip(&golden.state_dict).filter(|(a, b)| a != b).take(3) {
        say!("  state_dict: {ours:?} is {theirs:?} there")?;
    }
    testing::fill_by_name(&store)?;

    let [_, _, h, w] = golden.input.as_slice() else {
        return Err(Error::data(file, "input is not [N, C, H, W]".to_owned()));
    };
    let x = testing::input_by_name("input", &golden.input, &Device::Cpu)?;
    let metas = vec![meta(*h, *w); golden.input[0]];
    outputs(model.as_ref(), &x, &golden, &mut ours, &mut errors)?;
    // Of a detector that is handed its proposals the same for each image.
    let proposals = (!golden.proposals.is_empty()).then(|| vec![golden.proposals.clone(); metas.len()]);
    let found = match &proposals {
        Some(proposals) => model.test_proposals(&x, &metas, proposals, false)?,
        None => model.simple_test(&x, &metas, false)?,
    };
    let found: Vec<ImageDetections> = found.iter().map(image_detections).collect();
    if golden.proposals_out.is_empty() {
        ours.detections = found;
        if !golden.detections.is_empty() {
            errors.insert("detections".into(), detections_error(&ours.detections, &golden.detections));
        }
    } else {
        let theirs: Vec<_> = golden.proposals_out.iter().map(as_detections).collect();
        errors.insert("proposals".into(), detections_error(&found, &theirs));
        ours.proposals_out = found.iter().map(as_proposals).collect();
    }
    let batch = DetBatch {
        img: x,
        gt_bboxes: vec![golden.gt_bboxes.clone(); metas.len()],
        gt_labels: vec![golden.gt_labels.clone(); metas.len()],
        gt_bboxes_ignore: None,
        gt_masks: None,
        gt_semantic_seg: None,
        proposals,
        metas,
    };
    for train in [false, true] {
        losses(model.as_ref(), &store, &batch, train, &golden, &mut ours, &mut errors)?;
    }
    Ok(Report { errors, ours })
}

/// Applies `change` to every dict of the tree, parents first.
fn set_everywhere(node: &mut Node, change: &dyn Fn(&mut Node)) {
    if node.as_dict().is_some() {
        change(node);
    }
    if let Some(dict) = node.as_dict_mut() {
        dict.values_mut().for_each(|child| set_everywhere(child, change));
    } else if let Some(list) = node.as_list_mut() {
        list.iter_mut().for_each(|child| set_everywhere(child, change));
    }
}

fn as_detections(proposals: &ImageProposals) -> ImageDetections {
    let top = proposals.top.iter().map(|p| Detection { score: p[4], label: 0, bbox: [p[0], p[1], p[2], p[3]] });
    ImageDetections { n: proposals.n, top: top.collect() }
}

fn as_proposals(found: &ImageDetections) -> ImageProposals {
    let one = |d: &Detection| [d.bbox[0], d.bbox[1], d.bbox[2], d.bbox[3], d.score];
    ImageProposals { n: found.n, top: found.top.iter().map(one).collect() }
}

fn different(yes: bool) -> f64 {
    if yes { f64::INFINITY } else { 0.0 }
}

fn relative(ours: f64, theirs: f64) -> f64 {
    if ours == theirs { 0.0 } else { difference(ours, theirs) / theirs.abs().max(f64::MIN_POSITIVE) }
}

fn state_dict(store: &ParamStore) -> Vec<(String, Vec<usize>)> {
    store.entries().into_iter().map(|(name, p)| (name, p.shape().dims().to_vec())).collect()
}

/// What golden.py tells the model of its images.
fn meta(h: usize, w: usize) -> ImgMeta {
    ImgMeta {
        filename: "x.png".into(),
        ori_filename: "x.png".into(),
        ori_shape: [h, w, 3],
        img_shape: [h, w, 3],
        pad_shape: [h, w, 3],
        scale_factor: [1.0; 4],
        flip: false,
        flip_direction: None,
        img_norm_cfg: None,
        batch_input_shape: Some([h, w]),
    }
}

fn outputs(
    model: &dyn Detector,
    x: &Tensor,
    golden: &Golden,
    ours: &mut Golden,
    errors: &mut IndexMap<String, f64>,
) -> Result<()> {
    let ctx = Ctx::eval();
    let [_, _, h, w] = golden.input[..] else { return Ok(()) };
    let rois = testing::boxes_by_name("proposals", 16, h, w);
    let (feats, head) = no_grad(|| {
        let feats = model.extract_feat(x, &ctx)?;
        let head = model.named_outputs(&feats, &rois, &ctx)?;
        candle_core::Result::Ok((feats, head))
    })?;
    ours.outputs.clear();
    let named = feats.into_iter().enumerate().map(|(i, t)| (format!("feat.{i}"), t));
    for (name, tensor) in named.chain(head) {
        ours.outputs.insert(name.clone(), Summary::of(&name, &tensor)?);
    }
    for (name, theirs) in &golden.outputs {
        let error = ours.outputs.get(name).map_or(f64::INFINITY, |o| o.error(theirs));
        errors.insert(name.clone(), error);
    }
    Ok(())
}

fn losses(
    model: &dyn Detector,
    store: &ParamStore,
    batch: &DetBatch,
    train: bool,
    golden: &Golden,
    ours: &mut Golden,
    errors: &mut IndexMap<String, f64>,
) -> Result<()> {
    let mode = if train { "train" } else { "eval" };
    let (their_losses, their_grads, their_total, their_count, their_norm) = if train {
        let g = golden;
        (&g.losses_train, &g.grads_train, g.loss_total_train, g.n_grads_train, g.grad_norm_total_train)
    } else {
        let g = golden;
        (&g.losses_eval, &g.grads_eval, g.loss_total_eval, g.n_grads_eval, g.grad_norm_total_eval)
    };
    if their_losses.is_empty() {
        return Ok(());
    }
    let ctx = if train { Ctx::train(mmcv::Rng::new(0)) } else { Ctx::eval() };
    let losses = model.forward_train(batch, &ctx)?;
    let Some(total) = losses.total()? else { return Err(Error::Run("the model gave no loss".into())) };
    let grads = total.backward()?;
    let values = losses.log_vars(None)?;
    for (name, theirs) in their_losses {
        let error = values.get(name.as_str()).map_or(f64::INFINITY, |o| relative(*o, *theirs));
        errors.insert(format!("{name} ({mode})"), error);
    }
    if let Some(theirs) = their_total {
        errors.insert(format!("loss ({mode})"), relative(f64::from(total.to_scalar::<f32>()?), theirs));
    }
    let (mut count, mut square, mut sampled) = (0, 0f64, IndexMap::new());
    for param in store.trainable() {
        let Some(grad) = grads.get(param.var()) else { continue };
        let values: Vec<f32> = grad.flatten_all()?.to_vec1()?;
        let norm2: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        count += 1;
        square += norm2;
        let Some(theirs) = their_grads.get(param.name()) else { continue };
        let val: Vec<f64> = theirs.pos.iter().map(|&i| values.get(i).map_or(f64::NAN, |v| f64::from(*v))).collect();
        // Single values are measured by the tensor's mean magnitude, its norm by itself.
        let scale = theirs.norm / (values.len().max(1) as f64).sqrt();
        let worst =
            val.iter().zip(&theirs.val).map(|(a, b)| difference(*a, *b) / scale.max(b.abs())).fold(0.0, f64::max);
        errors.insert(format!("grad {} ({mode})", param.name()), worst);
        errors.insert(format!("grad norm {} ({mode})", param.name()), relative(norm2.sqrt(), theirs.norm));
        sampled.insert(param.name().to_owned(), Gradient { norm: norm2.sqrt(), pos: theirs.pos.clone(), val });
    }
    for name in their_grads.keys().filter(|n| !sampled.contains_key(n.as_str())) {
        errors.insert(format!("grad {name} ({mode})"), f64::INFINITY);
    }
    errors.insert(format!("number of gradients ({mode})"), different(count != their_count));
    if let Some(theirs) = their_norm {
        errors.insert(format!("gradient norm ({mode})"), relative(square.sqrt(), theirs));
    }
    let total = Some(f64::from(total.to_scalar::<f32>()?));
    if train {
        (ours.losses_train, ours.grads_train, ours.loss_total_train) = (values, sampled, total);
        (ours.n_grads_train, ours.grad_norm_total_train) = (count, Some(square.sqrt()));
    } else {
        (ours.losses_eval, ours.grads_eval, ours.loss_total_eval) = (values, sampled, total);
        (ours.n_grads_eval, ours.grad_norm_total_eval) = (count, Some(square.sqrt()));
    }
    Ok(())
}

fn image_detections(result: &DetResult) -> ImageDetections {
    let mut top: Vec<Detection> = result
        .bboxes
        .iter()
        .enumerate()
        .flat_map(|(label, boxes)| {
            boxes.iter().map(move |b| Detection {
                score: b[4].into(),
                label,
                bbox: [b[0], b[1], b[2], b[3]].map(f64::from),
            })
        })
        .collect();
    let n = top.len();
    top.sort_by(|a, b| b.score.total_cmp(&a.score));
    top.truncate(50);
    ImageDetections { n, top }
}

/// For each golden detection the nearest of ours with its label: its score's error, or its box's by the box's size.
/// Infinite when the numbers of detections differ.
fn detections_error(ours: &[ImageDetections], theirs: &[ImageDetections]) -> f64 {
    if ours.len() != theirs.len() || ours.iter().zip(theirs).any(|(a, b)| a.n != b.n) {
        return f64::INFINITY;
    }
    let apart = |a: &Detection, b: &Detection| {
        let size = (b.bbox[2] - b.bbox[0]).max(b.bbox[3] - b.bbox[1]).max(1.0);
        let boxes = a.bbox.iter().zip(&b.bbox).map(|(x, y)| difference(*x, *y) / size).fold(0.0, f64::max);
        boxes.max(difference(a.score, b.score))
    };
    let mut worst = 0f64;
    for (ours, theirs) in ours.iter().zip(theirs) {
        // The last of the list may have changed places with the first that was cut.
        let sure = theirs.top.len().saturating_sub(usize::from(theirs.n > theirs.top.len()));
        for b in &theirs.top[..sure] {
            let nearest = ours.top.iter().filter(|a| a.label == b.label).map(|a| apart(a, b));
            worst = worst.max(nearest.fold(f64::INFINITY, f64::min));
        }
    }
    worst
}
