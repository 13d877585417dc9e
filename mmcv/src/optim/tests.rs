//! The optimizers and the constructor against numbers of torch 1.13.1 and mmcv 1.7.2.

use candle_core::{Device, Tensor};

use super::*;
use crate::config::Node;
use crate::error::Result;
use crate::nn::{Init, ParamStore, VarBuilder};

const PARAMS: [&[f32]; 2] = [&[0.5, -1.25, 2.0], &[0.1]];
const GRADS: [[&[f32]; 2]; 4] = [
    [&[0.1, -0.2, 0.3], &[0.9]],
    [&[-0.4, 0.5, 0.05], &[-0.3]],
    [&[0.7, 0.01, -0.6], &[0.02]],
    [&[0.0, 0.3, 0.2], &[0.5]],
];

fn tensor(v: &[f32]) -> Tensor {
    Tensor::new(v, &Device::Cpu).unwrap()
}

fn model() -> ParamStore {
    let vb = VarBuilder::scratch();
    for (name, values) in ["a.weight", "b.weight"].iter().zip(PARAMS) {
        vb.param(name, values.len(), Init::Const(0.0)).unwrap().set(&tensor(values)).unwrap();
    }
    vb.store().clone()
}

fn grads(step: usize) -> Grads {
    let mut g = Grads::new();
    g.insert("a.weight", &tensor(GRADS[step][0])).unwrap();
    g.insert("b.weight", &tensor(GRADS[step][1])).unwrap();
    g
}

fn values(store: &ParamStore) -> Vec<f32> {
    store.all().iter().flat_map(|p| p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

fn node(json: &str) -> Node {
    Node::from_json(json).unwrap()
}

/// torch 1.13.1:
/// ```python
/// ps = [torch.nn.Parameter(torch.tensor(p)) for p in P]; o = getattr(torch.optim, name)(ps, **kw)
/// for g in G:
///     for p, x in zip(ps, g): p.grad = torch.tensor(x)
///     o.step()
/// ```
const CASES: &[(&str, [f32; 4])] = &[
    (r#"{"type": "SGD", "lr": 0.1}"#, [0.46000004, -1.311, 2.005, -0.011999998]),
    (
        r#"{"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}"#,
        [0.4365007, -1.3373156, 1.9594394, -0.18221329],
    ),
    (
        r#"{"type": "SGD", "lr": 0.1, "momentum": 0.9, "dampening": 0.1}"#,
        [0.44347003, -1.33188, 1.9692351, -0.18475997],
    ),
    (
        r#"{"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": true, "maximize": true}"#,
        [0.5869912, -1.0852152, 1.9907819, 0.46306506],
    ),
    (r#"{"type": "Adam", "lr": 0.01, "weight_decay": 0.01}"#, [0.48924106, -1.2523757, 1.9844432, 0.07768189]),
    (
        r#"{"type": "Adam", "lr": 0.01, "betas": [0.5, 0.99], "amsgrad": true}"#,
        [0.4881874, -1.257845, 1.9918792, 0.08204972],
    ),
    (r#"{"type": "AdamW", "lr": 0.01, "weight_decay": 0.05}"#, [0.48858383, -1.2508292, 1.9818239, 0.077540256]),
    (r#"{"type": "RMSprop", "lr": 0.01}"#, [0.41076118, -1.2938385, 1.9441708, -0.017511811]),
    (
        r#"{"type": "RMSprop", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}"#,
        [0.25328836, -1.2022766, 1.7334944, -0.20885238],
    ),
    (r#"{"type": "RMSprop", "lr": 0.01, "centered": true}"#, [0.41041106, -1.2937272, 1.9436218, -0.018212905]),
    (
        r#"{"type": "RMSprop", "lr": 0.01, "centered": true, "momentum": 0.5, "alpha": 0.9}"#,
        [0.45092466, -1.258776, 1.9612782, 0.037635013],
    ),
    (r#"{"type": "Adagrad", "lr": 0.1}"#, [0.41085017, -1.2933644, 1.9442565, -0.017102074]),
    (
        r#"{"type": "Adagrad", "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}"#,
        [0.47037184, -1.2979087, 1.9586663, -0.0031940714],
    ),
];

/// Within one unit in the last place of the largest value: torch fuses some products with sums, depending on its build.
fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 1.2e-7 * w.abs().max(0.5)), "{what}: {got:?} {want:?}");
}

#[test]
fn four_steps_are_torchs() {
    for (cfg, want) in CASES {
        let store = model();
        let mut optimizer = build_optimizer(&node(cfg), &store).unwrap();
        (0..4).for_each(|s| optimizer.step(&grads(s)).unwrap());
        assert_close(&values(&store), want, cfg);
        assert!(store.all().iter().all(|p| p.version() >= 4), "{cfg}");
    }
}

#[test]
fn a_loaded_state_goes_on_bit_for_bit() {
    for (cfg, _) in CASES {
        let (whole, cut) = (model(), model());
        let mut optimizer = build_optimizer(&node(cfg), &whole).unwrap();
        (0..4).for_each(|s| optimizer.step(&grads(s)).unwrap());
        let mut first = build_optimizer(&node(cfg), &cut).unwrap();
        first.groups_mut()[0].initial_lr = 7.0;
        (0..2).for_each(|s| first.step(&grads(s)).unwrap());
        let mut second = build_optimizer(&node(cfg), &cut).unwrap();
        second.load_state(&first.state()).unwrap();
        assert_eq!(second.groups()[0].initial_lr, 7.0);
        (2..4).for_each(|s| second.step(&grads(s)).unwrap());
        assert_eq!(values(&whole), values(&cut), "{cfg}");
    }
}

#[test]
fn a_state_of_another_optimizer_is_refused() {
    let store = model();
    let mut sgd = build_optimizer(&node(CASES[1].0), &store).unwrap();
    sgd.step(&grads(0)).unwrap();
    let mut adam = build_optimizer(&node(CASES[4].0), &store).unwrap();
    let e = adam.load_state(&sgd.state()).unwrap_err().to_string();
    assert!(e.contains("'exp_avg/a.weight' is missing"), "{e}");
    let mut state = sgd.state();
    state.groups.clear();
    assert!(sgd.load_state(&state).unwrap_err().to_string().contains("0 parameter groups"));
}

#[test]
fn no_gradient_no_change_and_frozen_stays() {
    let store = model();
    let mut optimizer = build_optimizer(&node(CASES[0].0), &store).unwrap();
    store.get("a.weight").unwrap().set_trainable(false);
    let mut g = grads(0);
    g = g.iter().filter(|(n, _)| *n == "a.weight").map(|(n, t)| (n.to_owned(), t.clone())).collect();
    optimizer.step(&g).unwrap();
    assert_eq!(values(&store), [0.5, -1.25, 2.0, 0.1]);
    let mut wrong = Grads::new();
    wrong.insert("b.weight", &tensor(&[1.0, 2.0])).unwrap();
    assert!(optimizer.step(&wrong).unwrap_err().to_string().contains("b.weight: a gradient of shape [2]"));
}

/// Longer than a chunk and than a vector register, with a tail; against the same update in f64.
#[test]
fn long_parameters_are_updated_whole() -> Result<()> {
    let n = 3 * 32 * 1024 + 5;
    let vb = VarBuilder::scratch();
    let p = vb.param("w", n, Init::Normal(0.0, 1.0))?;
    let start = p.value().to_vec1::<f32>()?;
    let grad: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut g = Grads::new();
    g.insert("w", &tensor(&grad))?;
    let mut o = build_optimizer(&node(r#"{"type": "SGD", "lr": 0.5, "momentum": 0.9}"#), vb.store())?;
    o.step(&g)?;
    o.step(&g)?;
    let got = p.value().to_vec1::<f32>()?;
    for i in 0..n {
        let want = f64::from(start[i]) - 0.5 * 2.9 * f64::from(grad[i]);
        assert!((f64::from(got[i]) - want).abs() < 1e-6, "{i}");
    }
    Ok(())
}

/// `torch.nn.utils.clip_grad_norm_(ps, max_norm, norm_type)` on the first gradients.
#[test]
fn clipping_is_torchs() {
    let cases: [(f64, f64, f64, [f32; 4]); 5] = [
        (0.5, 2.0, 0.9746794104576111, [0.051298864, -0.10259773, 0.1538966, 0.46168974]),
        (0.5, f64::INFINITY, 0.8999999761581421, [0.055555493, -0.111110985, 0.16666648, 0.49999943]),
        (0.5, 1.0, 1.5, [0.033333313, -0.066666625, 0.09999994, 0.2999998]),
        (10.0, 2.0, 0.9746794104576111, [0.1, -0.2, 0.3, 0.9]),
        (0.5, 3.0, 0.9145774245262146, [0.054669995, -0.10933999, 0.16400999, 0.49202994]),
    ];
    for (max, kind, norm, want) in cases {
        let mut g = grads(0);
        assert!((g.clip_norm(max, kind).unwrap() - norm).abs() < 1e-6);
        let got: Vec<f32> = g.iter().flat_map(|(_, t)| t.to_vec1::<f32>().unwrap()).collect();
        assert_close(&got, &want, "clip");
    }
    assert_eq!(Grads::new().clip_norm(1.0, 2.0).unwrap(), 0.0);
}

#[test]
fn gradients_scale_add_and_tell_what_is_not_finite() {
    let mut g = grads(0);
    g.scale(2.0).unwrap();
    g.add(grads(1)).unwrap();
    assert_close(&g.get("a.weight").unwrap().to_vec1::<f32>().unwrap(), &[-0.2, 0.1, 0.65], "sum");
    g.clip_value(0.3).unwrap();
    assert_close(&g.get("a.weight").unwrap().to_vec1::<f32>().unwrap(), &[-0.2, 0.1, 0.3], "clamp");
    assert!(g.is_finite().unwrap());
    g.insert("b.weight", &tensor(&[f32::NAN])).unwrap();
    assert_eq!(g.first_non_finite().unwrap(), Some("b.weight"));
    assert!(g.norm(f64::INFINITY).unwrap().is_nan());
}

#[test]
fn gradients_come_from_the_graph() -> Result<()> {
    let store = model();
    let (a, b) = (store.get("a.weight").unwrap(), store.get("b.weight").unwrap());
    b.set_trainable(false);
    let loss = a.get().broadcast_mul(&b.get())?.sum_all()?;
    let g = Grads::from_store(&loss.backward()?, &store)?;
    assert_eq!(g.len(), 1);
    assert_eq!(g.get("a.weight").unwrap().to_vec1::<f32>()?, [0.1, 0.1, 0.1]);
    Ok(())
}

/// A convolution with bias, a norm, a depthwise convolution and a DCN with its offset layer.
fn layers() -> ParamStore {
    let vb = VarBuilder::scratch();
    let add = |path: &str, layer: &'static str, dims: &[usize], bias: bool| {
        let at = vb.pp(path).layer(layer);
        at.param("weight", dims, Init::Const(1.0)).unwrap();
        if bias {
            at.param("bias", dims[0], Init::Const(1.0)).unwrap();
        }
    };
    add("backbone.conv", "Conv2d", &[4, 2, 3, 3], true);
    add("backbone.bn", "_BatchNorm", &[4], true);
    vb.pp("backbone.bn").layer("_BatchNorm").buffer("running_mean", 4, Init::Const(0.0)).unwrap();
    add("backbone.dw", "Conv2d", &[4, 1, 3, 3], true);
    add("backbone.dcn", "ModulatedDeformConv2d", &[4, 4, 3, 3], true);
    add("backbone.dcn.conv_offset", "Conv2d", &[27, 4, 3, 3], true);
    add("head.fc", "Linear", &[4, 4], true);
    vb.store().clone()
}

fn table(store: &ParamStore, cfg: &str) -> Vec<(String, f64, f64)> {
    let o = build_optimizer(&node(cfg), store).unwrap();
    o.groups().iter().flat_map(|g| g.params.iter().map(|p| (p.name().to_owned(), g.lr, g.weight_decay))).collect()
}

/// What mmcv's `DefaultOptimizerConstructor.add_params` gives for modules of these names and types.
#[test]
fn paramwise_cfg_is_mmcvs() {
    let cfg = r#"{"type": "SGD", "lr": 1.0, "weight_decay": 1.0, "paramwise_cfg": {"bias_lr_mult": 2, "bias_decay_mult": 0.5,
        "norm_decay_mult": 0, "dwconv_decay_mult": 0.1, "dcn_offset_lr_mult": 0.01}}"#;
    let want = [
        ("backbone.conv.weight", 1.0, 1.0),
        ("backbone.conv.bias", 2.0, 0.5),
        ("backbone.bn.weight", 1.0, 0.0),
        ("backbone.bn.bias", 1.0, 0.0),
        ("backbone.dw.weight", 1.0, 0.1),
        ("backbone.dw.bias", 2.0, 0.1),
        ("backbone.dcn.weight", 1.0, 1.0),
        ("backbone.dcn.bias", 2.0, 0.5),
        ("backbone.dcn.conv_offset.weight", 0.01, 1.0),
        ("backbone.dcn.conv_offset.bias", 0.01, 1.0),
        ("head.fc.weight", 1.0, 1.0),
        ("head.fc.bias", 2.0, 0.5),
    ];
    assert_eq!(table(&layers(), cfg), want.map(|(n, l, w)| (n.to_owned(), l, w)));
}

#[test]
fn the_longest_custom_key_wins() {
    let store = layers();
    let cfg = r#"{"type": "AdamW", "lr": 1.0, "weight_decay": 1.0, "paramwise_cfg": {"norm_decay_mult": 0, "custom_keys":
        {"backbone": {"lr_mult": 0.1}, "backbone.dcn": {"lr_mult": 0.5, "decay_mult": 0.25}, "fc.bias": {"decay_mult": 0}}}}"#;
    let t = table(&store, cfg);
    assert_eq!(t[2], ("backbone.bn.weight".to_owned(), 0.1, 1.0)); // custom keys ignore norm_decay_mult
    assert_eq!(t[8], ("backbone.dcn.conv_offset.weight".to_owned(), 0.5, 0.25));
    assert_eq!(t[11], ("head.fc.bias".to_owned(), 1.0, 0.0));
    let plain = build_optimizer(&node(r#"{"type": "SGD", "lr": 1}"#), &store).unwrap();
    assert_eq!(plain.groups().len(), 1);
    assert_eq!(plain.groups()[0].params.len(), 12);
}

#[test]
fn one_optimizer_per_submodule() {
    let store = layers();
    let cfg = r#"{"backbone": {"type": "SGD", "lr": 0.1, "momentum": 0.9}, "head": {"type": "Adam", "lr": 0.01}}"#;
    let mut o = build_optimizer(&node(cfg), &store).unwrap();
    assert_eq!(o.groups().iter().map(|g| g.lr).collect::<Vec<_>>(), [0.1, 0.01]);
    let mut g = Grads::new();
    for p in store.trainable() {
        g.insert(p.name(), &p.value().ones_like().unwrap()).unwrap();
    }
    o.member("head").unwrap().step(&g).unwrap();
    assert_eq!(store.get("backbone.conv.bias").unwrap().value().to_vec1::<f32>().unwrap()[0], 1.0);
    o.step(&g).unwrap();
    assert!(store.get("backbone.conv.bias").unwrap().value().to_vec1::<f32>().unwrap()[0] < 1.0);
    let state = o.state();
    let mut again = build_optimizer(&node(cfg), &store).unwrap();
    again.load_state(&state).unwrap();
    assert_eq!(again.state().steps["head.fc.bias"], 2);
    let e = build_optimizer(&node(r#"{"backbon": {"type": "SGD", "lr": 0.1}}"#), &store).err().unwrap().to_string();
    assert!(e.contains("no parameters under 'backbon.'; did you mean 'backbone'?"), "{e}");
}

#[test]
fn bad_configs_name_the_key() {
    let fails = |cfg: &str, part: &str| {
        let e = build_optimizer(&node(cfg), &model()).err().unwrap().to_string();
        assert!(e.contains(part), "{e}");
    };
    fails(r#"{"type": "Adamm"}"#, "did you mean 'Adam");
    fails(r#"{"type": "SGD"}"#, "missing required field 'lr'");
    fails(r#"{"type": "SGD", "lr": -1}"#, "lr must not be negative");
    fails(r#"{"type": "SGD", "lr": 1, "nesterov": true}"#, "nesterov needs a momentum");
    fails(r#"{"type": "Adam", "betas": [1.0, 0.9]}"#, "betas must be in [0, 1)");
    fails(r#"{"type": "SGD", "lr": 1, "paramwise_cfg": {"norm_decay_mul": 0}}"#, "did you mean 'norm_decay_mult'?");
    fails(r#"{"type": "SGD", "lr": 1, "paramwise_cfg": {"norm_decay_mult": 0}}"#, "need the optimizer's weight_decay");
    fails(r#"{"type": "SGD", "lr": 1, "constructor": "Nope"}"#, "OPTIMIZER_BUILDERS");
}
