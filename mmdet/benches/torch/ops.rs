//! Single ops, torch's; mmcv's are beside this file.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::{Device, Tensor, Var};
use mmcv::Rng;
use mmcv::nn::{self, no_grad, recorded};
use mmcv::ops::{self, Conv2dConfig};

use crate::mmcv_ops;
use crate::run::{Run, whole};

/// Values in [-2, 2), always the same.
pub fn random(shape: &[usize]) -> Result<Tensor> {
    let mut rng = Rng::new(shape.iter().sum::<usize>() as u64);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(-2.0, 2.0) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// An op and the tensors that it has gradients for.
pub type Op = (Vec<Tensor>, Box<dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>>);

/// Whether the mode counts the forward pass, and whether the backward pass.
fn passes(mode: &str) -> Result<[bool; 2]> {
    match mode {
        "forward" => Ok([true, false]),
        "backward" => Ok([false, true]),
        "both" => Ok([true, true]),
        _ => bail!("mode '{mode}': forward, backward or both"),
    }
}

/// An op's forward pass, its backward pass as a part of a model's region, or both.
pub fn timed((inputs, op): Op, mode: &str) -> Result<Run> {
    let [forward, backward] = passes(mode)?;
    if !backward {
        return Ok(whole(move || {
            black_box(no_grad(|| op(&inputs))?);
            Ok(())
        }));
    }
    let gradient = random(no_grad(|| op(&inputs))?.dims())?;
    Ok(Box::new(move || {
        let start = Instant::now();
        let tracked: Vec<&Tensor> = inputs.iter().collect();
        let run = recorded(&tracked, || op(&inputs))?;
        let start = if forward { start } else { Instant::now() };
        let grads = black_box(run.backward(&gradient)?);
        let taken = start.elapsed();
        if grads.iter().any(Option::is_none) {
            bail!("an input got no gradient");
        }
        Ok(taken)
    }))
}

/// As [`timed`], with the backward pass of candle's graph.
pub fn in_graph((inputs, op): Op, mode: &str) -> Result<Run> {
    let [forward, _] = passes(mode)?;
    let gradient = random(no_grad(|| op(&inputs))?.dims())?;
    let vars = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    Ok(Box::new(move || {
        let start = Instant::now();
        let y = op(&inputs)?;
        let start = if forward { start } else { Instant::now() };
        let grads = black_box(nn::backward(&nn::seeded(&y, &gradient)?)?);
        let taken = start.elapsed();
        if inputs.iter().any(|x| grads.get(x).is_none()) {
            bail!("an input got no gradient");
        }
        Ok(taken)
    }))
}

/// The case `kind sizes.. mode`.
pub fn make(kind: &str, sizes: &[usize], mode: &str) -> Result<Run> {
    let op: Op = match (kind, sizes) {
        ("conv2d", &[n, c, h, w, o, k, stride, padding, groups]) => {
            let cfg = Conv2dConfig { stride: [stride; 2], padding: [padding; 2], groups, ..Default::default() };
            let (x, weight) = (random(&[n, c, h, w])?, random(&[o, c / groups, k, k])?);
            if mode == "forward" {
                // A model keeps its packed weights from one picture to the next.
                let packed = ops::PackedConv2d::new(&weight, None, &cfg)?;
                return Ok(whole(move || {
                    black_box(packed.forward(&x, None, ops::Act::None)?);
                    Ok(())
                }));
            }
            (vec![x, weight], Box::new(move |t| ops::conv2d(&t[0], &t[1], None, &cfg)))
        }
        ("batch_norm", &[n, c, h, w]) => {
            let inputs = vec![random(&[n, c, h, w])?, random(&[c])?, random(&[c])?];
            (inputs, Box::new(|t| Ok(ops::batch_norm_train(&t[0], &t[1], &t[2], 1e-5)?.0)))
        }
        ("relu", &[n, c, h, w]) => (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::relu(&t[0]))),
        ("max_pool2d", &[n, c, h, w, k, stride, padding]) => (
            vec![random(&[n, c, h, w])?],
            Box::new(move |t| ops::max_pool2d(&t[0], [k; 2], [stride; 2], [padding; 2], false)),
        ),
        ("nearest_x2", &[n, c, h, w]) => {
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::interpolate_nearest(&t[0], (2 * h, 2 * w))))
        }
        ("bilinear_x2", &[n, c, h, w]) => {
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::interpolate_bilinear(&t[0], (2 * h, 2 * w), false)))
        }
        ("softmax", &[n, c]) => (vec![random(&[n, c])?], Box::new(move |t| ops::softmax(&t[0], 1))),
        ("sigmoid_focal_loss", &[n, classes]) => {
            let mut rng = Rng::new(1);
            let labels: Vec<u32> =
                (0..n).map(|_| if rng.chance(0.01) { rng.below(classes) as u32 } else { classes as u32 }).collect();
            let labels = Tensor::from_vec(labels, n, &Device::Cpu)?;
            let inputs = vec![random(&[n, classes])?];
            (inputs, Box::new(move |t| ops::sigmoid_focal_loss(&t[0], &labels, 2.0, 0.25)))
        }
        _ => return mmcv_ops::make(kind, sizes, mode),
    };
    timed(op, mode)
}
