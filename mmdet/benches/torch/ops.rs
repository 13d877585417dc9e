//! Single ops.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::{Device, Tensor, Var};
use mmcv::Rng;
use mmcv::nn::{self, no_grad, seeded};
use mmcv::ops::{self, Conv2dConfig};

use crate::run::{Run, whole};

/// Values in [-2, 2), always the same.
pub fn random(shape: &[usize]) -> Result<Tensor> {
    let mut rng = Rng::new(shape.iter().sum::<usize>() as u64);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(-2.0, 2.0) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn variable(shape: &[usize]) -> Result<Var> {
    Ok(Var::from_tensor(&random(shape)?)?)
}

/// Forward and backward, or one of them, of `f`.
fn differentiated(f: impl Fn() -> candle_core::Result<Tensor> + 'static, mode: &str) -> Result<Run> {
    let gradient = random(no_grad(&f)?.dims())?;
    let (forward, backward) = match mode {
        "backward" => (false, true),
        "both" => (true, true),
        _ => bail!("mode '{mode}': forward, backward or both"),
    };
    Ok(Box::new(move || {
        let start = Instant::now();
        let y = f()?;
        let start = if forward { start } else { Instant::now() };
        if backward {
            black_box(nn::backward(&seeded(&y, &gradient)?)?);
        }
        Ok(start.elapsed())
    }))
}

/// The case `kind sizes.. mode`.
pub fn make(kind: &str, sizes: &[usize], mode: &str) -> Result<Run> {
    let op: Box<dyn Fn() -> candle_core::Result<Tensor>> = match (kind, sizes) {
        ("conv2d", &[n, c, h, w, o, k, stride, padding, groups]) => {
            let cfg = Conv2dConfig { stride: [stride; 2], padding: [padding; 2], groups, ..Default::default() };
            let (x, weight) = (variable(&[n, c, h, w])?, variable(&[o, c / groups, k, k])?);
            if mode == "forward" {
                // A model keeps its packed weights from one picture to the next.
                let packed = ops::PackedConv2d::new(weight.as_tensor(), None, &cfg)?;
                let x = x.as_detached_tensor();
                return Ok(whole(move || {
                    black_box(packed.forward(&x, None, ops::Act::None)?);
                    Ok(())
                }));
            }
            Box::new(move || ops::conv2d(&x, &weight, None, &cfg))
        }
        ("batch_norm", &[n, c, h, w]) => {
            let (x, weight, bias) = (variable(&[n, c, h, w])?, variable(&[c])?, variable(&[c])?);
            Box::new(move || Ok(ops::batch_norm_train(&x, &weight, &bias, 1e-5)?.0))
        }
        ("relu", &[n, c, h, w]) => {
            let x = variable(&[n, c, h, w])?;
            Box::new(move || ops::relu(&x))
        }
        ("max_pool2d", &[n, c, h, w, k, stride, padding]) => {
            let x = variable(&[n, c, h, w])?;
            Box::new(move || ops::max_pool2d(&x, [k; 2], [stride; 2], [padding; 2], false))
        }
        ("nearest_x2", &[n, c, h, w]) => {
            let x = variable(&[n, c, h, w])?;
            Box::new(move || ops::interpolate_nearest(&x, (2 * h, 2 * w)))
        }
        ("bilinear_x2", &[n, c, h, w]) => {
            let x = variable(&[n, c, h, w])?;
            Box::new(move || ops::interpolate_bilinear(&x, (2 * h, 2 * w), false))
        }
        ("softmax", &[n, c]) => {
            let x = variable(&[n, c])?;
            Box::new(move || ops::softmax(&x, 1))
        }
        ("sigmoid_focal_loss", &[n, classes]) => {
            let x = variable(&[n, classes])?;
            let mut rng = Rng::new(1);
            let labels: Vec<u32> =
                (0..n).map(|_| if rng.chance(0.01) { rng.below(classes) as u32 } else { classes as u32 }).collect();
            let labels = Tensor::from_vec(labels, n, &Device::Cpu)?;
            Box::new(move || ops::sigmoid_focal_loss(&x, &labels, 2.0, 0.25))
        }
        _ => bail!("unknown case '{kind}' with sizes {sizes:?}"),
    };
    match mode {
        "forward" => Ok(whole(move || {
            black_box(no_grad(&op)?);
            Ok(())
        })),
        _ => differentiated(op, mode),
    }
}
