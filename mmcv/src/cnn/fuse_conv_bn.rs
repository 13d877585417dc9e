//! mmcv's `fuse_conv_bn`: batch norms taken into the convolutions before them.
//!
//! A forward pass without a graph folds them anyway ([`super::conv_norm_act`]), so this is for what leaves the program: a
//! checkpoint of the fused form, with `conv.bias` and without the norm's entries, as PyTorch's `state_dict` has it after
//! mmcv's function. [`crate::checkpoint::load_state_dict`] reads that form into the same model: a norm that the checkpoint
//! lacks then adds the bias and does nothing else.

use std::collections::HashSet;

use candle_core::{Result, Tensor};
use indexmap::IndexMap;

use crate::nn::{Param, ParamStore};

/// A convolution and the batch norm behind it, by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvBn {
    /// The `Conv2d`.
    pub conv: String,
    /// The norm with running statistics.
    pub bn: String,
}

/// The pairs that mmcv would fuse: among the children of a module in their order, each batch norm and the last convolution
/// before it. Convolutions that modules share (each with a norm of its own) are left out: mmcv multiplies their weights once
/// for each norm.
pub fn conv_bn_pairs(store: &ParamStore) -> Vec<ConvBn> {
    let entries = store.entries();
    let shared: HashSet<&str> =
        entries.iter().filter(|(name, p)| p.name() != name.as_str()).map(|(_, p)| p.name()).collect();
    // The leaves under each parent, in order.
    let mut leaves: IndexMap<&str, &Param> = IndexMap::new();
    for (name, param) in &entries {
        let module = name.rsplit_once('.').map_or("", |(m, _)| m);
        leaves.entry(module).or_insert(param);
    }
    let mut last: IndexMap<&str, &str> = IndexMap::new();
    let mut pairs = Vec::new();
    for (module, param) in &leaves {
        let parent = module.rsplit_once('.').map_or("", |(p, _)| p);
        match param.layer() {
            "Conv2d" => _ = last.insert(parent, module),
            "_BatchNorm" => {
                let Some(conv) = last.shift_remove(parent) else { continue };
                let weight = store.get(&format!("{conv}.weight"));
                let mean = store.get(&format!("{module}.running_mean"));
                let fits = |w: &Param, m: &Param| {
                    w.shape().rank() == 4 && w.shape().dims()[0] == m.shape().elem_count() && !shared.contains(w.name())
                };
                // A module that applies them in another order says so.
                let in_order = store.note(&format!("{conv}.before_norm")) != Some(0.0);
                if in_order && weight.zip(mean).is_some_and(|(w, m)| fits(&w, &m)) {
                    pairs.push(ConvBn { conv: conv.to_owned(), bn: (*module).to_owned() });
                }
            }
            _ => {}
        }
    }
    pairs
}

impl ConvBn {
    fn eps(&self, store: &ParamStore) -> f64 {
        store.note(&format!("{}.eps", self.bn)).unwrap_or(1e-5)
    }

    /// The convolution's weight and bias with the norm in them.
    fn fused(&self, store: &ParamStore) -> Result<(Tensor, Tensor)> {
        let of = |module: &str, leaf: &str| store.get(&format!("{module}.{leaf}")).map(|p| p.value().clone());
        let missing = |what: &str| candle_core::Error::Msg(format!("{}: no {what}", self.bn));
        let weight = of(&self.conv, "weight").ok_or_else(|| missing("convolution"))?;
        let (mean, var) = of(&self.bn, "running_mean")
            .zip(of(&self.bn, "running_var"))
            .ok_or_else(|| missing("running statistics"))?;
        crate::ops::fold_batch_norm(
            &weight,
            of(&self.conv, "bias").as_ref(),
            of(&self.bn, "weight").as_ref(),
            of(&self.bn, "bias").as_ref(),
            &mean,
            &var,
            self.eps(store),
        )
    }

    /// Makes the norm add `bias` (nothing without it) and do nothing else.
    fn only_adds(&self, store: &ParamStore, bias: Option<&Tensor>) -> Result<()> {
        let set = |leaf: &str, value: f64| match store.get(&format!("{}.{leaf}", self.bn)) {
            Some(p) => p.set(&p.value().ones_like()?.affine(value, 0.0)?),
            None => Ok(()),
        };
        set("weight", 1.0)?;
        set("bias", 0.0)?;
        set("running_var", 1.0 - self.eps(store))?;
        match (bias, store.get(&format!("{}.running_mean", self.bn))) {
            (Some(bias), Some(mean)) => mean.set(&bias.neg()?),
            _ => set("running_mean", 0.0),
        }
    }
}

/// Takes each batch norm into its convolution, in place: evaluation gives the same outputs (to rounding) from the same
/// layers. Answers how many were fused.
pub fn fuse_conv_bn(store: &ParamStore) -> Result<usize> {
    let pairs = conv_bn_pairs(store);
    for pair in &pairs {
        let (weight, bias) = pair.fused(store)?;
        if let Some(own) = store.get(&format!("{}.weight", pair.conv)) {
            own.set(&weight)?;
        }
        match store.get(&format!("{}.bias", pair.conv)) {
            Some(own) => {
                own.set(&bias)?;
                pair.only_adds(store, None)?;
            }
            None => pair.only_adds(store, Some(&bias))?,
        }
    }
    Ok(pairs.len())
}

/// The `state_dict` of the fused model, without the norms, as PyTorch has it after mmcv's function. `store` stays as it is.
pub fn fused_state_dict(store: &ParamStore) -> crate::Result<IndexMap<String, Tensor>> {
    let mut dict = IndexMap::new();
    let pairs = conv_bn_pairs(store);
    let convs: IndexMap<&str, &ConvBn> = pairs.iter().map(|p| (p.conv.as_str(), p)).collect();
    let norms: HashSet<&str> = pairs.iter().map(|p| p.bn.as_str()).collect();
    for (name, value) in crate::checkpoint::state_dict(store)? {
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", &name));
        if norms.contains(module) {
            continue;
        }
        match convs.get(module) {
            Some(pair) if leaf == "weight" => {
                let (weight, bias) = pair.fused(store)?;
                dict.insert(format!("{module}.bias"), bias);
                let at = dict.len() - 1;
                dict.shift_insert(at, name, weight);
            }
            Some(_) if leaf == "bias" => {}
            _ => _ = dict.insert(name, value),
        }
    }
    Ok(dict)
}

/// Reads what a fused checkpoint says of the pairs whose norms it lacks. `bias` gives the checkpoint's `conv.bias`, `lacks`
/// whether it has no entry of a name. Answers the names that are settled by that.
pub(crate) fn load_fused(
    store: &ParamStore,
    bias: impl Fn(&str) -> Option<Tensor>,
    lacks: impl Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let mut settled = Vec::new();
    for pair in conv_bn_pairs(store) {
        let norm: Vec<String> = ["weight", "bias", "running_mean", "running_var"]
            .iter()
            .map(|leaf| format!("{}.{leaf}", pair.bn))
            .filter(|name| store.get(name).is_some())
            .collect();
        let key = format!("{}.bias", pair.conv);
        if !norm.iter().all(|name| lacks(name)) {
            continue;
        }
        let Some(found) = bias(&key) else { continue };
        let own = store.get(&key).is_some();
        if found.elem_count() != store.get(&format!("{}.running_mean", pair.bn)).map_or(0, |m| m.shape().elem_count()) {
            continue;
        }
        pair.only_adds(store, (!own).then_some(&found))?;
        settled.extend(norm);
        settled.push(key);
    }
    Ok(settled)
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::checkpoint::{LoadRules, load_state_dict};
    use crate::cnn::{Conv2d, ConvLayer as _, ConvSpec, NormLayer, ResNet, ResNetConfig, build_norm_layer};
    use crate::config::Node;
    use crate::nn::{Ctx, Init, VarBuilder, no_grad};
    use crate::rng::Rng;

    fn small() -> (VarBuilder, Vec<Conv2d>, Vec<Box<dyn NormLayer>>) {
        let vb = VarBuilder::scratch();
        let bn = |c: usize, eps: f64, at: usize| {
            let cfg = Node::from_json(&format!(r#"{{"type": "BN", "eps": {eps}}}"#)).unwrap();
            build_norm_layer(&cfg, c, vb.pp(at)).unwrap()
        };
        let conv = |o: usize, bias: bool, at: usize| {
            Conv2d::from_spec(ConvSpec::new(2, o, 1).bias(bias), &vb.pp(at).layer("Conv2d")).unwrap()
        };
        // In the order of the modules: that is what pairs them.
        let (conv0, bn1, conv3, bn4) = (conv(2, false, 0), bn(2, 1e-5, 1), conv(1, true, 3), bn(1, 1e-3, 4));
        let (convs, norms) = (vec![conv0, conv3], vec![bn1, bn4]);
        for (name, values) in [
            ("0.weight", &[1f32, 2., 3., 4.][..]),
            ("1.weight", &[2., 0.5]),
            ("1.bias", &[1., -1.]),
            ("1.running_mean", &[0.5, 1.]),
            ("1.running_var", &[4., 0.25]),
            ("3.weight", &[1., -2.]),
            ("3.bias", &[0.5]),
            ("4.weight", &[3.]),
            ("4.bias", &[0.25]),
            ("4.running_mean", &[-1.]),
            ("4.running_var", &[0.5]),
        ] {
            let p = vb.store().get(name).unwrap();
            p.set(&Tensor::from_slice(values, p.shape(), &Device::Cpu).unwrap()).unwrap();
        }
        (vb, convs, norms)
    }

    // nn.Sequential(Conv2d(2, 2, 1, bias=False), BatchNorm2d(2), ReLU(), Conv2d(2, 1, 1), BatchNorm2d(1, eps=1e-3)) with the
    // weights above: its output for [1, -0.5] and mmcv.cnn.fuse_conv_bn(m).state_dict()
    const OUTPUT: f32 = 8.7268;
    const FUSED: [(&str, &[f32]); 4] = [
        ("0.weight", &[0.999_998_8, 1.999_997_6, 2.999_939_9, 3.999_919_9]),
        ("0.bias", &[0.500_000_6, -1.999_98]),
        ("3.weight", &[4.238_404_3, -8.476_809]),
        ("3.bias", &[6.607_606_4]),
    ];

    #[test]
    fn weights_are_those_of_mmcv() {
        let (vb, convs, norms) = small();
        let run = || {
            let x = Tensor::new(&[1f32, -0.5], &Device::Cpu).unwrap().reshape((1, 2, 1, 1)).unwrap();
            let ctx = Ctx::eval();
            let x = norms[0].forward(&convs[0].forward(&x, &ctx).unwrap(), &ctx).unwrap().relu().unwrap();
            let y = norms[1].forward(&convs[1].forward(&x, &ctx).unwrap(), &ctx).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
        };
        assert!((run() - OUTPUT).abs() < 1e-4, "{}", run());
        let dict = fused_state_dict(vb.store()).unwrap();
        assert_eq!(dict.keys().collect::<Vec<_>>(), ["0.weight", "0.bias", "3.weight", "3.bias"]);
        for (name, want) in FUSED {
            let found = dict[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let close = found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
            assert!(close, "{name}: {found:?}, expected {want:?}");
        }
        // In place, and from the fused checkpoint.
        assert_eq!(fuse_conv_bn(vb.store()).unwrap(), 2);
        assert!((run() - OUTPUT).abs() < 1e-4, "{}", run());
        for p in vb.store().all() {
            vb.store().reset(&p, Init::Const(7.0)).unwrap();
        }
        assert!(load_state_dict(vb.store(), &dict, &LoadRules::default()).unwrap().is_complete());
        assert!((run() - OUTPUT).abs() < 1e-4, "{}", run());
    }

    #[test]
    fn a_resnet_gives_the_same_maps_fused_and_reloaded() {
        let cfg: ResNetConfig = Node::from_json(r#"{"depth": 18}"#).unwrap().parse().unwrap();
        let build = || {
            let vb = VarBuilder::scratch();
            (ResNet::new(&cfg, vb.pp("backbone")).unwrap(), vb)
        };
        let (net, vb) = build();
        let mut rng = Rng::new(0);
        for p in vb.store().all().iter().filter(|p| p.layer() == "_BatchNorm" && p.shape().rank() == 1) {
            let low = if p.name().ends_with("var") || p.name().ends_with("weight") { 0.5 } else { -0.3 };
            let values: Vec<f32> = (0..p.shape().elem_count()).map(|_| rng.uniform(low, low + 0.8) as f32).collect();
            p.set(&Tensor::from_vec(values, p.shape().clone(), &Device::Cpu).unwrap()).unwrap();
        }
        let x =
            Tensor::from_vec(Init::Normal(0.0, 1.0).draw(3 * 64 * 48, &mut rng), (1, 3, 64, 48), &Device::Cpu).unwrap();
        let run = |net: &ResNet| {
            let maps = no_grad(|| crate::cnn::Backbone::forward(net, &x, &Ctx::eval())).unwrap();
            maps.iter().map(|m| m.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
        };
        let close = |a: &[Vec<f32>], b: &[Vec<f32>]| {
            for (a, b) in a.iter().zip(b) {
                let scale = b.iter().fold(0f32, |m, v| m.max(v.abs()));
                let worst = a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
                assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
            }
        };
        let before = run(&net);
        let dict = fused_state_dict(vb.store()).unwrap();
        assert!(dict.keys().all(|k| !k.contains("running")));
        assert_eq!(fuse_conv_bn(vb.store()).unwrap(), 20);
        close(&run(&net), &before);
        let (other, fresh) = build();
        let report = load_state_dict(fresh.store(), &dict, &LoadRules::default()).unwrap();
        assert!(report.is_complete(), "{report}");
        close(&run(&other), &before);
    }
}
