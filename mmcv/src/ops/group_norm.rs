//! Group normalization (Wu and He, ECCV 2018, <https://arxiv.org/abs/1803.08494>), of which instance normalization is the case
//! of one channel in a group, and layer normalization (Ba et al., <https://arxiv.org/abs/1607.06450>).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::batch_norm::{affine, grad_sums, input_grad, moments};
use super::join::join;
use super::kernel::{CHUNK, LANES, build, planes, values, with_values};
use crate::nn::{apply2, contiguous};

/// The op on `[N, C, ...]` and the stacked weight and bias `[2, C]`; statistics are one for each sample and group.
struct GroupNorm {
    groups: usize,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
}

impl CustomOp2 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, wb) = (values("group_norm", s1, l1)?, values("group_norm", s2, l2)?);
        let channels = l1.dims()[1];
        let size: usize = l1.dims()[2..].iter().product();
        let (weight, bias) = wb.split_at(channels);
        let per = channels / self.groups;
        let out = build(x.len(), size * per, |at, out: &mut [f32]| {
            let block = at / size / per;
            for (i, out) in out.chunks_exact_mut(size).enumerate() {
                let (c, at) = (block % self.groups * per + i, at + i * size);
                let scale = self.inv_std[block] * weight[c];
                affine(&x[at..at + size], scale, bias[c] - self.mean[block] * scale, out);
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, wb: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "group_norm_backward";
        let (n, channels, size) = planes(OP, x)?;
        let per = channels / self.groups;
        let weight = super::kernel::to_vec(wb)?;
        let (dx, dwb) = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                // For each sample and channel: the sums of g and of g (x - mean).
                let sums: Vec<(f64, f64)> = (0..n * channels)
                    .into_par_iter()
                    .map(|plane| {
                        let (x, g) = (&x[plane * size..][..size], &g[plane * size..][..size]);
                        let mean = self.mean[plane / per];
                        x.chunks(4096).zip(g.chunks(4096)).fold((0.0, 0.0), |total, (x, g)| {
                            let s = grad_sums(x, g, g, mean, false);
                            (total.0 + s.0, total.1 + s.1)
                        })
                    })
                    .collect();
                let dx = build(x.len(), size * per, |at, out: &mut [f32]| {
                    let block = at / size / per;
                    let inv = f64::from(self.inv_std[block]);
                    let count = (size * per) as f64;
                    let first = block % self.groups * per;
                    let (mut sum_g, mut sum_gx) = (0.0, 0.0);
                    for i in 0..per {
                        let w = f64::from(weight[first + i]);
                        let s = sums[block * per + i];
                        (sum_g, sum_gx) = (sum_g + w * s.0, sum_gx + w * s.1);
                    }
                    let (q, r) = ((sum_gx * inv.powi(3) / count) as f32, (sum_g * inv / count) as f32);
                    for (i, out) in out.chunks_exact_mut(size).enumerate() {
                        let at = at + i * size;
                        let p = (inv * f64::from(weight[first + i])) as f32;
                        let (x, g) = (&x[at..at + size], &g[at..at + size]);
                        input_grad(x, g, g, false, [p, q, r, self.mean[block]], out);
                    }
                });
                let mut dwb = vec![0.0f64; 2 * channels];
                for (plane, (sum_g, sum_gx)) in sums.iter().enumerate() {
                    dwb[plane % channels] += sum_gx * f64::from(self.inv_std[plane / per]);
                    dwb[channels + plane % channels] += sum_g;
                }
                Ok((dx, dwb.into_iter().map(|v| v as f32).collect::<Vec<_>>()))
            })
        })?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(Tensor::from_vec(dwb, wb.shape(), wb.device())?)))
    }
}

/// Weight and bias in one tensor, 1 and 0 where there are none.
fn stacked(op: &str, weight: Option<&Tensor>, bias: Option<&Tensor>, len: usize, like: &Tensor) -> Result<Tensor> {
    for (name, t) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = t
            && t.elem_count() != len
        {
            bail!("{op}: {name} is {:?}, expected {len} elements", t.dims());
        }
    }
    let or = |t: Option<&Tensor>, value: f32| match t {
        Some(t) if t.rank() == 1 => Ok(t.clone()),
        Some(t) => t.flatten_all(),
        None => Tensor::full(value, len, like.device()),
    };
    join(&or(weight, 1.0)?, &or(bias, 0.0)?)
}

/// Normalizes each sample's groups of channels to mean 0 and variance 1, then scales and shifts each channel.
///
/// # Shapes
/// - `x` and the output: `[N, C, ...]`, `C` a multiple of `groups`
/// - `weight`, `bias`: `[C]`
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let (n, channels, size) = planes("group_norm", x)?;
    if groups == 0 || channels % groups != 0 {
        bail!("group_norm: {channels} channels do not make {groups} groups");
    }
    let x = contiguous(x)?;
    let count = channels / groups * size;
    let wb = stacked("group_norm", weight, bias, channels, &x)?;
    let stats: Vec<(f32, f32)> = with_values("group_norm", &x, |x| {
        // As if each group were one channel of a batch of one.
        let blocks = n * groups;
        let of = |b: usize| {
            let (mean, m2) = moments(x, (1, blocks, count), b);
            (mean as f32, (1.0 / (m2 / count as f64 + eps).sqrt()) as f32)
        };
        Ok((0..blocks).into_par_iter().map(of).collect())
    })?;
    let (mean, inv_std) = stats.into_iter().unzip();
    apply2(&x, &wb, GroupNorm { groups, mean, inv_std })
}

/// Normalizes each channel of each sample: [`group_norm`] with one channel in a group. (With running statistics it is
/// [`batch_norm`](super::batch_norm).)
pub fn instance_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let (_, channels, _) = planes("instance_norm", x)?;
    group_norm(x, channels.max(1), weight, bias, eps)
}

simd! {
    fn scaled_row(x: &[f32], wb: &[f32], mean: f32, inv: f32, out: &mut [f32]) {
        let (weight, bias) = wb.split_at(x.len());
        for (((o, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *o = (x - mean) * inv * w + b;
        }
    }
}
simd! {
    /// Sums of `g w` and `g w (x - mean)` over one row.
    fn row_sums(x: &[f32], g: &[f32], w: &[f32], mean: f32) -> (f64, f64) {
        let (mut a, mut b) = ([0.0f32; LANES], [0.0f32; LANES]);
        let whole = x.len() / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            let (x, g, w) = (&x[i..i + LANES], &g[i..i + LANES], &w[i..i + LANES]);
            for l in 0..LANES {
                let g = g[l] * w[l];
                a[l] += g;
                b[l] += g * (x[l] - mean);
            }
        }
        let mut sums = (0.0f64, 0.0f64);
        for l in 0..LANES {
            sums = (sums.0 + f64::from(a[l]), sums.1 + f64::from(b[l]));
        }
        for i in whole..x.len() {
            let g = g[i] * w[i];
            sums = (sums.0 + f64::from(g), sums.1 + f64::from(g * (x[i] - mean)));
        }
        sums
    }
}
simd! {
    fn row_grad(x: &[f32], g: &[f32], w: &[f32], k: [f32; 4], out: &mut [f32]) {
        let [inv, q, r, mean] = k;
        for (((o, x), g), w) in out.iter_mut().zip(x).zip(g).zip(w) {
            *o = g * w * inv - q * (x - mean) - r;
        }
    }
}
simd! {
    fn add_param_grads(x: &[f32], g: &[f32], mean: f32, inv: f32, dw: &mut [f32], db: &mut [f32]) {
        for (((dw, db), x), g) in dw.iter_mut().zip(db).zip(x).zip(g) {
            *dw += g * (x - mean) * inv;
            *db += g;
        }
    }
}

/// The op on rows and the stacked weight and bias of one row.
struct LayerNorm {
    width: usize,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, wb) = (values("layer_norm", s1, l1)?, values("layer_norm", s2, l2)?);
        let width = self.width;
        let out = build(x.len(), (CHUNK / width).max(1) * width, |at, out: &mut [f32]| {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let row = at / width + i;
                scaled_row(&x[row * width..(row + 1) * width], wb, self.mean[row], self.inv_std[row], out);
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, wb: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "layer_norm_backward";
        /// Rows whose parameter gradients are summed in f32.
        const ROWS: usize = 64;
        let width = self.width;
        let wb_values = super::kernel::to_vec(wb)?;
        let weight = &wb_values[..width];
        let (dx, dwb) = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                let dx = build(x.len(), (CHUNK / width).max(1) * width, |at, out: &mut [f32]| {
                    for (i, out) in out.chunks_exact_mut(width).enumerate() {
                        let row = at / width + i;
                        let range = row * width..(row + 1) * width;
                        let (x, g) = (&x[range.clone()], &g[range]);
                        let (mean, inv) = (self.mean[row], f64::from(self.inv_std[row]));
                        let (sum_g, sum_gx) = row_sums(x, g, weight, mean);
                        let q = (sum_gx * inv.powi(3) / width as f64) as f32;
                        let r = (sum_g * inv / width as f64) as f32;
                        row_grad(x, g, weight, [self.inv_std[row], q, r, mean], out);
                    }
                });
                // Blocks of rows in parallel, added up in their order so that the sum is always the same.
                let rows = self.mean.len();
                let parts: Vec<Vec<f32>> = (0..rows.div_ceil(ROWS))
                    .into_par_iter()
                    .map(|block| {
                        let mut part = vec![0.0f32; 2 * width];
                        let (dw, db) = part.split_at_mut(width);
                        for row in block * ROWS..((block + 1) * ROWS).min(rows) {
                            let range = row * width..(row + 1) * width;
                            add_param_grads(&x[range.clone()], &g[range], self.mean[row], self.inv_std[row], dw, db);
                        }
                        part
                    })
                    .collect();
                let mut dwb = vec![0.0f64; 2 * width];
                for part in parts {
                    for (d, p) in dwb.iter_mut().zip(part) {
                        *d += f64::from(p);
                    }
                }
                Ok((dx, dwb.into_iter().map(|v| v as f32).collect::<Vec<_>>()))
            })
        })?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(Tensor::from_vec(dwb, wb.shape(), wb.device())?)))
    }
}

/// Normalizes over the last `axes` axes, then scales and shifts element-wise.
///
/// # Shapes
/// - `x` and the output: any
/// - `weight`, `bias`: the last `axes` lengths of `x`
pub fn layer_norm(x: &Tensor, axes: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let dims = x.dims();
    if axes == 0 || axes > dims.len() {
        bail!("layer_norm: the input is {dims:?}, there are no {axes} axes");
    }
    let width: usize = dims[dims.len() - axes..].iter().product();
    let x = contiguous(x)?;
    if width == 0 {
        return Ok(x);
    }
    let wb = stacked("layer_norm", weight, bias, width, &x)?;
    let stats: Vec<(f32, f32)> = with_values("layer_norm", &x, |x| {
        let rows = x.len() / width;
        let of = |row: usize| {
            let (mean, m2) = moments(x, (1, rows, width), row);
            (mean as f32, (1.0 / (m2 / width as f64 + eps).sqrt()) as f32)
        };
        Ok((0..rows).into_par_iter().with_min_len((CHUNK / width).max(1)).map(of).collect())
    })?;
    let (mean, inv_std) = stats.into_iter().unzip();
    apply2(&x, &wb, LayerNorm { width, mean, inv_std })
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use candle_core::Var;

    use super::super::testing::{check_gradient, grad, tensor, var, wave, weighted_grad};
    use super::*;

    fn inputs(shape: &[usize], len: usize) -> (Var, Var, Var) {
        let w = wave(&[len]);
        (
            Var::from_tensor(&(wave(shape) * 3.0).unwrap().affine(1.0, 10.0).unwrap()).unwrap(),
            Var::from_tensor(&w.affine(1.0, 1.0).unwrap()).unwrap(),
            Var::from_tensor(&w.affine(0.5, 0.0).unwrap()).unwrap(),
        )
    }

    #[track_caller]
    fn near(ours: &Tensor, theirs: &[f32]) {
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() < 1e-5 + 1e-5 * b.abs(), "element {i}: {a}, expected {b}");
        }
    }

    // x = wave(...) * 3 + 10, w = wave(len) + 1, b = wave(len) / 2; (y * weights(*y.shape)).sum().backward()
    // F.group_norm(x, 2, w, b), F.instance_norm(x, weight=w, bias=b), F.layer_norm(x, (7,), w, b, 1e-6)
    #[test]
    #[rustfmt::skip]
    fn values_and_gradients_are_torchs() {
        let (x, w, b) = inputs(&[2, 4, 3, 2], 4);
        let y = group_norm(&x, 2, Some(&w), Some(&b), 1e-5).unwrap();
        near(&y, &[-0.042110626, 0.9446341, 1.3105307, 1.066439, 0.18752116, -0.6221404, -2.299719, -2.4729307, -1.5554199, 0.19286738, 1.8448296, 2.4561856, 2.9301336, 1.3596834, -0.75593054, -2.2336922, -2.6393297, -1.2939329, -0.0034900366, 1.682614, 2.6560497, 2.5119433, 1.2224387, -0.7756333, -1.070319, -1.2788901, -0.70673734, 0.5420959, 1.3605545, 1.8845876, 2.7036793, 1.643037, 0.07906161, -1.3889252, -1.2389706, -0.368997, 0.21482146, 2.1541448, 2.887559, 2.558499, 0.63286763, -1.3350344, -2.2610235, -2.467352, -1.262307, 0.16461998, 1.8273264, 2.2979019]);
        near(&weighted_grad(&y, &x), &[0.51109725, 0.26030087, -0.29424334, -0.5258739, -0.19612429, 0.32176006, 0.68623024, 0.0042067766, -0.78456104, -0.7939123, 0.018401235, 0.7927186, 0.8697172, -0.14971909, -1.028083, -0.8671896, 0.092612326, 0.815321, 0.4518599, -0.37652308, -0.79821515, -0.31337085, 0.5371935, 0.7663967, 0.15862477, -0.33965278, -0.46802425, -0.09803434, 0.3601405, 0.38241675, -0.059894115, -0.7213671, -0.62442297, 0.14131275, 0.7402478, 0.52865297, -0.27220392, -1.0267532, -0.70441556, 0.27016097, 0.9004224, 0.5397557, -0.28246582, -0.58596456, -0.103134155, 0.6278093, 0.6774842, -0.040695667]);
        near(&weighted_grad(&y, &w), &[1.82185, -1.5708774, -0.2276462, 0.93418473]);
        near(&weighted_grad(&y, &b), &[0.47224903, 0.41242474, 0.31154972, 0.17966473]);

        let (x, w, b) = inputs(&[2, 3, 5], 3);
        let y = instance_norm(&x, Some(&w), Some(&b), 1e-5).unwrap();
        near(&y, &[-1.4900109, 0.5760261, 1.342137, 0.8310601, -1.00921, 1.494936, -1.2351935, -1.5287042, 0.026037281, 2.988547, 1.2357433, 2.184804, 2.020404, -0.12517326, -3.0155632, -0.8753532, -1.1471797, -0.24560009, 0.6469398, 1.8711932, 2.1017828, 1.9756052, 0.8465314, -0.90295494, -2.2753437, -2.1660004, -1.249403, 0.75124675, 2.06243, 2.901939]);
        near(&weighted_grad(&y, &x), &[0.5153114, 0.8720785, 0.037991278, -0.66514635, -0.7602339, 1.3375318, 0.8499633, -0.38595146, -1.2976503, -0.50389224, -0.49349725, 0.25644535, 0.21434216, -0.10897769, 0.13168631, -0.59808856, 0.045032635, 0.52954423, 0.31514573, -0.29163405, -0.4492716, -0.045921203, 0.5093588, 0.4164752, -0.4306412, 0.23260552, -0.22591378, -0.1851133, 0.18716724, -0.0087453]);
        near(&weighted_grad(&y, &w), &[-2.746659, -4.2789116, 6.8395414]);
        near(&weighted_grad(&y, &b), &[0.29232162, 0.5469184, 0.48284745]);

        let (x, w, b) = inputs(&[2, 3, 7], 7);
        let y = layer_norm(&x, 1, Some(&w), Some(&b), 1e-6).unwrap();
        near(&y, &[-0.18591668, 1.6917516, 2.6936512, 2.0069177, 0.14368376, -0.7284439, -0.6582055, -1.8020713, -1.639643, 0.08703267, 1.6774037, 1.4459418, 0.6308299, -0.41456157, -0.21235129, -1.3688738, -1.8898523, -0.5353901, 0.3387678, 0.721769, -0.2474163, 1.8579217, 1.9305441, 0.1286675, -1.4541936, -1.4234205, -0.6332958, -0.37748668, 0.87970656, 2.4138825, 2.271153, 0.9853168, -0.5669768, -1.167146, -0.59319127, -1.3833402, -0.29389623, 2.0186985, 2.6223454, 1.433144, -0.21715187, -0.5959682]);
        near(&weighted_grad(&y, &x), &[0.62143326, 0.69263625, -0.27667308, -0.6871248, -0.14831746, 0.15203142, -0.3539858, 0.5567335, -0.29656565, -0.68175054, -0.084472656, 0.3567562, 0.13168228, 0.017616272, -0.5673628, -0.67682165, 0.22096589, 0.83248353, 0.34467885, -0.14795104, -0.0059928894, -0.43097275, 0.349245, 0.8474972, 0.22768071, -0.45630324, -0.4025318, -0.13461511, 0.28816676, 0.49012738, -0.14094496, -0.74257207, -0.36047566, 0.2424371, 0.22326148, 0.20479906, -0.29730654, -0.7516609, -0.14462817, 0.6974753, 0.49267542, -0.20135379]);
        near(&weighted_grad(&y, &w), &[-1.269278, 3.7725372, -1.8847165, -2.7524145, 2.8839986, 0.0042397943, -5.40946]);
        near(&weighted_grad(&y, &b), &[1.2670388, 0.09671697, -1.1792978, -1.1665668, 0.12099752, 1.2763349, 1.0368836]);
    }

    #[test]
    fn two_uses_of_a_strided_input_add_up_and_long_rows_agree_with_differences() {
        let w = tensor(&[1.5, -0.5, 1.0, 2.0], &[2, 2]);
        check_gradient(&wave(&[2, 4, 2, 2]), 2e-2, |x| {
            let t = x.transpose(2, 3)?;
            let y = (group_norm(x, 2, None, None, 1e-5)? + instance_norm(&t, None, None, 1e-5)?)?;
            y + layer_norm(&t, 2, Some(&w), None, 1e-5)?
        });
        check_gradient(&wave(&[2, 70]), 2e-2, |x| layer_norm(x, 1, None, None, 1e-5));
        check_gradient(&wave(&[1, 2, 70]), 2e-2, |x| group_norm(x, 1, None, None, 1e-5));
    }

    #[test]
    fn an_empty_batch_passes_and_shapes_are_checked() {
        let x = var(&[], &[0, 4, 3]);
        let y = layer_norm(&group_norm(&x, 2, None, None, 1e-5).unwrap(), 2, None, None, 1e-5).unwrap();
        assert_eq!(grad(&y, &x).dims(), &[0, 4, 3]);
        let x = wave(&[1, 4, 3]);
        assert!(group_norm(&x, 3, None, None, 1e-5).is_err());
        assert!(group_norm(&x, 2, Some(&wave(&[3])), None, 1e-5).is_err());
        assert!(layer_norm(&x, 4, None, None, 1e-5).is_err());
    }
}
