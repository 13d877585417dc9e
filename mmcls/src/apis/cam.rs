//! Class activation maps: which part of a picture a score hangs on.
//!
//! `GradCam`: Grad-CAM, Selvaraju et al., ICCV 2017 (<https://arxiv.org/abs/1610.02391>); `GradCamPlusPlus`: Grad-CAM++,
//! Chattopadhay et al., WACV 2018 (<https://arxiv.org/abs/1710.11063>); `XGradCam`: Axiom-based Grad-CAM, Fu et al., BMVC 2020
//! (<https://arxiv.org/abs/2008.02312>); `LayerCam`: LayerCAM, Jiang et al., TIP 2021;
//! `EigenCam` and `EigenGradCam`: Eigen-CAM, Muhammad and Yeasin, IJCNN 2020 (<https://arxiv.org/abs/2008.00299>). With the arithmetic of the package
//! `grad-cam`, which mmcls draws with.

use candle_core::{Result, Tensor, Var, bail};
use clap::ValueEnum;
use mmcv::image::{Image, Interpolation, Pixels, imresize};
use mmcv::nn::{Ctx, backward, no_grad};

use super::ClsModel;

/// How channels are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CamMethod {
    /// By the mean of their gradients.
    #[default]
    #[value(name = "gradcam")]
    GradCam,
    /// By gradients above 0, weighed by their second and third powers.
    #[value(name = "gradcam++")]
    GradCamPlusPlus,
    /// By gradients times the channel's share of activation.
    #[value(name = "xgradcam")]
    XGradCam,
    /// Each pixel by its own gradient, where that is above 0.
    #[value(name = "layercam")]
    LayerCam,
    /// No gradients: the first principal component of the activations.
    #[value(name = "eigencam")]
    EigenCam,
    /// That of gradients times activations.
    #[value(name = "eigengradcam")]
    EigenGradCam,
}

/// What a score hangs on.
pub struct Activations {
    /// A stage's output `[C, H, W]`, row by row.
    pub values: Vec<f32>,
    /// The score's gradient with respect to it.
    pub grads: Vec<f32>,
    /// `[C, H, W]`.
    pub shape: [usize; 3],
    /// The class whose score it is.
    pub category: usize,
}

/// The output of a stage of the backbone for one image `[1, C, H, W]`, and the gradient of a class's score before softmax with
/// respect to it; without `category` that of the best class.
///
/// `stage` is one that the backbone hands on beside its last (the first of two outputs), `None` the last output. Parameters are
/// taken out of training.
pub fn activations(
    model: &ClsModel,
    img: &Tensor,
    stage: Option<usize>,
    category: Option<usize>,
) -> Result<Activations> {
    let ctx = Ctx::eval();
    let classifier = &*model.classifier;
    let feats = no_grad(|| classifier.backbone_feats(img, &ctx))?;
    let wanted = if stage.is_some() { feats.first() } else { feats.last() };
    let Some(wanted) = wanted else { bail!("the backbone gave no output") };
    let &[1, c, h, w] = wanted.dims() else {
        bail!("the backbone's output is {:?}, which has no places in the picture", wanted.dims());
    };
    for param in model.store.all() {
        param.set_trainable(false);
    }
    let x = Var::from_tensor(&wanted.contiguous()?)?;
    let outs = match stage {
        Some(stage) => classifier.feats_behind(stage, x.as_tensor(), &ctx)?,
        None => vec![x.as_tensor().clone()],
    };
    let logits = classifier.logits_of(&outs, &ctx)?;
    let row: Vec<f32> = logits.detach().flatten_all()?.to_vec1()?;
    let best = || row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
    let category = category.unwrap_or_else(best);
    if category >= row.len() {
        bail!("class {category} is none, the model has {}", row.len());
    }
    let grads = backward(&logits.narrow(1, category, 1)?.sum_all()?)?;
    let Some(grad) = grads.get(x.as_tensor()) else { bail!("the score doesn't hang on the stage's output") };
    Ok(Activations {
        values: x.as_detached_tensor().flatten_all()?.to_vec1()?,
        grads: grad.flatten_all()?.to_vec1()?,
        shape: [c, h, w],
        category,
    })
}

/// The map `[H, W]` of one stage, scaled to 0 to 1. With `eigen_smooth` it is the first principal component of the weighed
/// activations in place of their sum.
pub fn class_activation_map(found: &Activations, method: CamMethod, eigen_smooth: bool) -> Vec<f32> {
    let [_, h, w] = found.shape;
    let size = h * w;
    if size == 0 {
        return Vec::new();
    }
    let mut weighed = Vec::with_capacity(found.values.len());
    for (a, g) in found.values.chunks_exact(size).zip(found.grads.chunks_exact(size)) {
        let active: f32 = a.iter().sum();
        let both = a.iter().zip(g);
        let weight = match method {
            CamMethod::LayerCam => {
                weighed.extend(both.map(|(a, g)| g.max(0.0) * a));
                continue;
            }
            CamMethod::EigenGradCam => {
                weighed.extend(both.map(|(a, g)| g * a));
                continue;
            }
            CamMethod::EigenCam => 1.0,
            CamMethod::GradCamPlusPlus => g.iter().map(|g| second_order(*g, active)).sum::<f32>(),
            CamMethod::XGradCam => both.map(|(a, g)| g * a).sum::<f32>() / (active + 1e-7),
            CamMethod::GradCam => g.iter().sum::<f32>() / size as f32,
        };
        weighed.extend(a.iter().map(|a| weight * a));
    }
    let eigen = eigen_smooth || matches!(method, CamMethod::EigenCam | CamMethod::EigenGradCam);
    let map = if eigen {
        first_component(&weighed, size)
    } else {
        let mut sum = vec![0f32; size];
        for channel in weighed.chunks_exact(size) {
            sum.iter_mut().zip(channel).for_each(|(s, v)| *s += v);
        }
        sum
    };
    scaled(map.into_iter().map(|m| m.max(0.0)).collect())
}

/// Places (`size` of each channel, row by row) along their first principal component, up to a factor. Its sign is free; the place
/// that lies furthest out is above 0 (in the original chance decides).
fn first_component(channels: &[f32], size: usize) -> Vec<f32> {
    let rows: Vec<Vec<f64>> = channels
        .chunks_exact(size)
        .map(|row| {
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / size as f64;
            row.iter().map(|v| f64::from(*v) - mean).collect()
        })
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    // Power iteration, from the channel that varies most.
    let most = rows.iter().max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)));
    let mut u = most.cloned().unwrap_or_else(|| vec![0.0; size]);
    for _ in 0..1000 {
        let mut next = vec![0f64; size];
        for row in &rows {
            let v = dot(row, &u);
            next.iter_mut().zip(row).for_each(|(n, r)| *n += v * r);
        }
        let norm = dot(&next, &next).sqrt();
        if norm == 0.0 {
            break;
        }
        next.iter_mut().for_each(|n| *n /= norm);
        let still = (dot(&next, &u) / dot(&u, &u).sqrt() - 1.0).abs() < 1e-14;
        u = next;
        if still {
            break;
        }
    }
    let furthest = u.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    u.iter().map(|v| if furthest < 0.0 { -*v as f32 } else { *v as f32 }).collect()
}

/// Grad-CAM++'s weight of one place: `relu(g) g^2 / (2 g^2 + sum(A) g^3)`.
fn second_order(g: f32, active: f32) -> f32 {
    if g == 0.0 { 0.0 } else { g.max(0.0) * (g * g / (2.0 * g * g + active * g * g * g + 1e-6)) }
}

/// From 0 to 1, as `grad-cam` scales.
fn scaled(mut map: Vec<f32>) -> Vec<f32> {
    let least = map.iter().copied().fold(f32::INFINITY, f32::min);
    let most = map.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
    map.iter_mut().for_each(|m| *m = (*m - least) / (1e-7 + most));
    map
}

/// Maps of several stages, each `[H, W]` with its size, as one of `width` x `height`: their mean.
pub fn merge_maps(maps: &[(Vec<f32>, [usize; 2])], width: usize, height: usize) -> mmcv::Result<Vec<f32>> {
    let mut sum = vec![0f32; width * height];
    for (map, [h, w]) in maps {
        let small = Image::new(*h, *w, 1, Pixels::F32(map.clone()))?;
        let Pixels::F32(large) = imresize(&small, (width, height), Interpolation::Bilinear)?.into_pixels() else {
            return Err(mmcv::Error::Run("resizing changed the kind of the values".into()));
        };
        sum.iter_mut().zip(large).for_each(|(s, v)| *s += v.max(0.0) / maps.len() as f32);
    }
    Ok(scaled(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of 2 x 2.
    fn found() -> Activations {
        Activations {
            values: vec![1.0, 2.0, 0.0, 1.0, 0.5, 0.0, 3.0, 1.0],
            grads: vec![0.2, -0.1, 0.3, 0.0, -0.4, 0.1, 0.2, 0.5],
            shape: [2, 2, 2],
            category: 0,
        }
    }

    // numpy, with the formulas of grad-cam 1.3.7: a, g of the values above as (1, 2, 2, 2);
    // gradcam w = g.mean((2, 3)); gradcam++ and xgradcam likewise; layercam (np.maximum(g, 0) * a).sum(1); each as
    // c = np.maximum((w[:, :, None, None] * a).sum(1), 0), scale_cam_image(c); the eigen ones by get_2d_projection of a, g * a and
    // w[:, :, None, None] * a, with the greatest magnitude above 0
    #[test]
    fn maps_are_those_of_grad_cam() {
        let all = [
            (CamMethod::GradCam, [0.0, 0.333333, 0.999999, 0.333333]),
            (CamMethod::GradCamPlusPlus, [0.0, 0.12758, 1.0, 0.281895]),
            (CamMethod::XGradCam, [0.166667, 0.0, 1.0, 0.333333]),
            (CamMethod::LayerCam, [0.333333, 0.0, 1.0, 0.833333]),
            (CamMethod::EigenCam, [0.0, 0.0, 1.0, 0.0]),
            (CamMethod::EigenGradCam, [1.0, 0.455712, 0.0, 0.0]),
        ];
        for (method, theirs) in all {
            let ours = class_activation_map(&found(), method, false);
            assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{method:?}: {ours:?}");
        }
        let smooth = class_activation_map(&found(), CamMethod::GradCam, true);
        assert!(smooth.iter().zip([0.0, 0.0, 1.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{smooth:?}");
    }

    #[test]
    fn maps_of_several_stages_are_averaged() {
        let maps = [(vec![0.0, 1.0, 0.0, 1.0], [2, 2]), (vec![0.0, 0.5, 1.0, 0.5], [2, 2])];
        let ours = merge_maps(&maps, 2, 2).unwrap();
        assert!(ours.iter().zip([0.0, 1.0, 2.0 / 3.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?}");
        assert_eq!(merge_maps(&maps, 8, 6).unwrap().len(), 48);
    }
}
