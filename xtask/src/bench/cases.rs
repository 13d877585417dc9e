//! What is timed. `mmdet/benches/torch/main.rs` says what the words mean.

use super::Suite;

/// A case and the ways in which Python runs it.
pub struct Case {
    /// Its name, which says all about it.
    pub name: &'static str,
    /// Ways to run it, by [`PEER`] or by torch's own Python.
    pub ways: &'static [&'static str],
}

/// The ways that need the Python of `--peer`.
pub const PEER: [&str; 2] = ["mmdet", "mmcv"];

/// The cases of a suite.
pub fn cases(suite: Suite) -> Vec<Case> {
    match suite {
        Suite::Torch => TORCH.iter().map(|&name| Case { name, ways: ways(name) }).collect(),
        Suite::Ops => OPS.iter().map(|&(name, ways)| Case { name, ways }).collect(),
    }
}

/// How Python runs a case of [`TORCH`].
fn ways(case: &str) -> &'static [&'static str] {
    if case.starts_with("retinanet") {
        &["mmdet"]
    } else if ["resnet50", "mobilenet_v2"].iter().any(|net| case.starts_with(net)) && case.ends_with("forward") {
        &["eager", "channels_last", "jit", "compile"]
    } else {
        &["eager"]
    }
}

/// Networks and plain ops, against torch's.
const TORCH: [&str; 39] = [
    "resnet50 8 224 224 forward",
    "resnet50 1 800 1216 forward",
    "resnet50 4 224 224 step",
    "mobilenet_v2 8 224 224 forward",
    "mobilenet_v2 8 224 224 step",
    "conv2d 4 3 224 224 64 7 2 3 1 forward",
    "conv2d 4 64 56 56 256 1 1 0 1 forward",
    "conv2d 4 1024 14 14 256 1 1 0 1 forward",
    "conv2d 4 64 56 56 64 3 1 1 1 forward",
    "conv2d 4 128 28 28 128 3 1 1 1 forward",
    "conv2d 4 256 14 14 256 3 1 1 1 forward",
    "conv2d 4 512 7 7 512 3 1 1 1 forward",
    "conv2d 4 128 56 56 128 3 2 1 1 forward",
    "conv2d 4 256 56 56 512 1 2 0 1 forward",
    "conv2d 4 96 112 112 96 3 1 1 96 forward",
    "conv2d 4 96 112 112 96 3 2 1 96 forward",
    "conv2d 1 256 100 152 256 3 1 1 1 forward",
    "conv2d 4 3 224 224 64 7 2 3 1 backward",
    "conv2d 4 64 56 56 256 1 1 0 1 backward",
    "conv2d 4 1024 14 14 256 1 1 0 1 backward",
    "conv2d 4 64 56 56 64 3 1 1 1 backward",
    "conv2d 4 128 28 28 128 3 1 1 1 backward",
    "conv2d 4 256 14 14 256 3 1 1 1 backward",
    "conv2d 4 512 7 7 512 3 1 1 1 backward",
    "conv2d 4 128 56 56 128 3 2 1 1 backward",
    "conv2d 4 256 56 56 512 1 2 0 1 backward",
    "conv2d 4 96 112 112 96 3 1 1 96 backward",
    "conv2d 4 96 112 112 96 3 2 1 96 backward",
    "batch_norm 4 64 100 152 both",
    "relu 4 64 100 152 both",
    "max_pool2d 4 64 100 152 3 2 1 both",
    "nearest_x2 4 64 50 76 both",
    "bilinear_x2 4 64 50 76 both",
    "softmax 8192 1000 both",
    "sigmoid_focal_loss 76725 80 both",
    "retinanet_r50 800 1216 infer",
    "retinanet_r18 8 256 320 step",
    "retinanet_r50 800 1216 infer memory",
    "retinanet_r18 8 256 320 step memory",
];

const MMCV: &[&str] = &["mmcv"];
const TORCHVISION: &[&str] = &["torchvision"];
const BOTH: &[&str] = &["mmcv", "torchvision"];

/// mmcv's ops that mmcv-full or torchvision run on a CPU.
const OPS: [(&str, &[&str]); 42] = [
    ("nms 10000 forward", BOTH),
    ("batched_nms 5000 80 forward", BOTH),
    ("nms_match 2000 forward", MMCV),
    ("soft_nms_naive 2000 forward", MMCV),
    ("soft_nms_linear 2000 forward", MMCV),
    ("soft_nms_gaussian 2000 forward", MMCV),
    ("nms_rotated 1000 forward", MMCV),
    ("box_iou_rotated 300 1000 forward", MMCV),
    ("bbox_overlaps 1000 10000 forward", BOTH),
    ("bbox_overlaps_giou 1000 10000 forward", BOTH),
    ("roi_align 1 256 200 304 1000 7 0 forward", BOTH),
    ("roi_align 1 256 200 304 1000 7 0 both", BOTH),
    ("roi_align_max 1 256 200 304 1000 7 0 forward", MMCV),
    ("roi_align_max 1 256 200 304 1000 7 0 both", MMCV),
    ("roi_align_rotated 1 256 200 304 500 7 2 forward", MMCV),
    ("roi_align_rotated 1 256 200 304 500 7 2 both", MMCV),
    ("roi_pool 1 256 200 304 1000 7 forward", TORCHVISION),
    ("roi_pool 1 256 200 304 1000 7 both", TORCHVISION),
    ("deform_conv 1 256 100 152 256 3 1 1 forward", BOTH),
    ("deform_conv 1 256 100 152 256 3 1 1 backward", BOTH),
    ("deform_conv 2 128 50 76 128 3 4 2 both", BOTH),
    ("modulated_deform_conv 1 256 100 152 256 3 1 1 forward", BOTH),
    ("modulated_deform_conv 1 256 100 152 256 3 1 1 backward", BOTH),
    ("modulated_deform_conv 2 128 50 76 128 3 4 2 both", BOTH),
    ("sigmoid_focal_loss 200000 80 both", BOTH),
    ("ms_deform_attn 1 8 32 4 100 152 4 20197 forward", MMCV),
    ("ms_deform_attn 1 8 32 4 100 152 4 20197 both", MMCV),
    ("ms_deform_attn 2 8 32 4 100 152 4 300 both", MMCV),
    ("psa_mask_collect 2 59 59 30 30 both", MMCV),
    ("psa_mask_distribute 2 59 59 30 30 both", MMCV),
    ("corner_pool_top 2 256 128 128 both", MMCV),
    ("corner_pool_bottom 2 256 128 128 both", MMCV),
    ("corner_pool_left 2 256 128 128 both", MMCV),
    ("corner_pool_right 2 256 128 128 both", MMCV),
    ("point_sample 2 256 200 304 12544 both", MMCV),
    ("upfirdn2d 4 128 64 64 4 2 1 2 1 both", MMCV),
    ("upfirdn2d 4 128 128 128 4 1 2 1 1 both", MMCV),
    ("fused_bias_leakyrelu 4 128 128 128 both", MMCV),
    ("hard_voxelize_pillars 120000 forward", MMCV),
    ("hard_voxelize_second 120000 forward", MMCV),
    ("dynamic_voxelize 120000 forward", MMCV),
    ("points_in_boxes 2 20000 50 forward", MMCV),
];
