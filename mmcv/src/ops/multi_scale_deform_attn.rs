//! Multi-scale deformable attention of Deformable DETR, Zhu et al., ICLR 2021 (<https://arxiv.org/abs/2010.04159>), as
//! mmcv's `MultiScaleDeformableAttnFunction`. There is no CUDA kernel yet.
#![allow(unsafe_code)] // each task writes the values of its own head

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::check;
use super::gemm::Shared;
use super::kernel::{build, values, with_values};
use crate::nn::apply3;

struct Op {
    /// Height, width and first key of each level.
    levels: Vec<(usize, usize, usize)>,
    batch: usize,
    keys: usize,
    heads: usize,
    dims: usize,
    queries: usize,
    points: usize,
}

/// Where a point reads on its level: keys (`None` off the map), weights, and fractions of a pixel.
struct Tap {
    keys: [Option<usize>; 4],
    weights: [f32; 4],
    fx: f32,
    fy: f32,
}

simd! {
    fn add_scaled(w: f32, x: &[f32], out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o += w * x;
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Op {
    /// `location` is (x, y) in 0..1 of the level; `None` where all is off the map.
    fn tap(&self, level: usize, location: &[f32]) -> Option<Tap> {
        let (h, w, first) = self.levels[level];
        let (x, y) = (location[0] * w as f32 - 0.5, location[1] * h as f32 - 0.5);
        if !(x > -1.0 && y > -1.0 && x < w as f32 && y < h as f32) {
            return None;
        }
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        let key = |y: isize, x: isize| {
            (y >= 0 && x >= 0 && y < h as isize && x < w as isize).then(|| first + y as usize * w + x as usize)
        };
        Some(Tap {
            keys: [key(top, left), key(top, left + 1), key(top + 1, left), key(top + 1, left + 1)],
            weights: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
            fx,
            fy,
        })
    }

    /// Points of one head and query.
    fn samples(&self) -> usize {
        self.levels.len() * self.points
    }

    fn value<'a>(&self, value: &'a [f32], batch: usize, key: usize, head: usize) -> &'a [f32] {
        &value[((batch * self.keys + key) * self.heads + head) * self.dims..][..self.dims]
    }

    fn forward(&self, value: &[f32], locations: &[f32], weights: &[f32]) -> Vec<f32> {
        let (d, n) = (self.dims, self.samples());
        build(self.batch * self.queries * self.heads * d, d, |at, out: &mut [f32]| {
            let row = at / d;
            let (batch, head) = (row / (self.queries * self.heads), row % self.heads);
            for i in 0..n {
                let place = row * n + i;
                let Some(t) = self.tap(i / self.points, &locations[place * 2..][..2]) else { continue };
                for (key, w) in t.keys.iter().zip(t.weights) {
                    if let Some(key) = key {
                        add_scaled(w * weights[place], self.value(value, batch, *key, head), out);
                    }
                }
            }
        })
    }

    fn backward(&self, value: &[f32], locations: &[f32], weights: &[f32], g: &[f32]) -> [Vec<f32>; 3] {
        let (d, n) = (self.dims, self.samples());
        let (mut dvalue, mut dlocations, mut dweights) =
            (vec![0.0; value.len()], vec![0.0; locations.len()], vec![0.0; weights.len()]);
        let targets = [&mut dvalue, &mut dlocations, &mut dweights].map(|v: &mut Vec<f32>| Shared::new(v));
        let [to_value, to_locations, to_weights] = &targets;
        (0..self.batch * self.heads).into_par_iter().for_each(|task| {
            let (batch, head) = (task / self.heads, task % self.heads);
            for query in 0..self.queries {
                let row = (batch * self.queries + query) * self.heads + head;
                let g = &g[row * d..][..d];
                for i in 0..n {
                    let (place, level) = (row * n + i, i / self.points);
                    let Some(t) = self.tap(level, &locations[place * 2..][..2]) else { continue };
                    let mut dots = [0.0f32; 4];
                    for (k, key) in t.keys.iter().enumerate() {
                        let Some(key) = key else { continue };
                        dots[k] = dot(g, self.value(value, batch, *key, head));
                        let at = ((batch * self.keys + key) * self.heads + head) * d;
                        // SAFETY: inside the gradient; this head's values of this image are this task's alone.
                        let to = unsafe { std::slice::from_raw_parts_mut(to_value.ptr().add(at), d) };
                        add_scaled(t.weights[k] * weights[place], g, to);
                    }
                    let (h, w, _) = self.levels[level];
                    let [a, b, c, e] = dots;
                    let by_x = ((1.0 - t.fy) * (b - a) + t.fy * (e - c)) * weights[place] * w as f32;
                    let by_y = ((1.0 - t.fx) * (c - a) + t.fx * (e - b)) * weights[place] * h as f32;
                    let by_weight = t.weights.iter().zip(dots).map(|(w, d)| w * d).sum::<f32>();
                    // SAFETY: inside the gradients; each place belongs to one image, query and head.
                    unsafe {
                        *to_locations.ptr().add(place * 2) = by_x;
                        *to_locations.ptr().add(place * 2 + 1) = by_y;
                        *to_weights.ptr().add(place) = by_weight;
                    }
                }
            }
        });
        [dvalue, dlocations, dweights]
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "ms_deform_attn"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const OP: &str = "ms_deform_attn";
        let y = self.forward(values(OP, s1, l1)?, values(OP, s2, l2)?, values(OP, s3, l3)?);
        Ok((CpuStorage::F32(y), Shape::from((self.batch, self.queries, self.heads * self.dims))))
    }

    fn bwd(
        &self,
        value: &Tensor,
        locations: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "ms_deform_attn_backward";
        let [a, b, c] = with_values(OP, value, |v| {
            with_values(OP, locations, |l| {
                with_values(OP, weights, |w| with_values(OP, grad, |g| Ok(self.backward(v, l, w, g))))
            })
        })?;
        let give = |d: Vec<f32>, t: &Tensor| Tensor::from_vec(d, t.shape(), t.device()).map(Some);
        Ok((give(a, value)?, give(b, locations)?, give(c, weights)?))
    }
}

/// For each query and head the weighted sum of the values at its points on all levels. Gradients flow into all three.
///
/// # Shapes
/// - `value`: `[B, keys, heads, D]`, the levels' pixels one level after the other
/// - `levels`: height and width of each level
/// - `locations`: `[B, queries, heads, levels, points, 2]`, (x, y) in 0..1 from edge to edge of the level
/// - `weights`: `[B, queries, heads, levels, points]`
/// - output: `[B, queries, heads·D]`
pub fn multi_scale_deform_attn(
    value: &Tensor,
    levels: &[(usize, usize)],
    locations: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    const OP: &str = "multi_scale_deform_attn";
    for (name, t) in [("value", value), ("locations", locations), ("weights", weights)] {
        check::f32s(OP, name, t)?;
    }
    let [batch, keys, heads, dims] = check::dims(OP, "value", value, "[B, keys, heads, D]")?;
    let [_, queries, _, _, points] = check::dims(OP, "weights", weights, "[B, queries, heads, levels, points]")?;
    let wanted = [batch, queries, heads, levels.len(), points, 2];
    check::shape(OP, "weights", weights, &wanted[..5], "[B, queries, heads, levels, points]")?;
    check::shape(OP, "locations", locations, &wanted, "[B, queries, heads, levels, points, 2]")?;
    let (mut all, mut first) = (Vec::new(), 0);
    for &(h, w) in levels {
        all.push((h, w, first));
        first += h * w;
    }
    if first != keys {
        bail!("{OP}: value has {keys} keys, expected {first} for the levels {levels:?}");
    }
    let op = Op { levels: all, batch, keys, heads, dims, queries, points };
    apply3(value, locations, weights, op)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, var, wave};
    use super::*;

    // tests/golden/ops/make.py ms_deform_attn
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("ms_deform_attn") {
            let levels: Vec<(usize, usize)> = case.list("levels").chunks(2).map(|l| (l[0], l[1])).collect();
            case.check("y", &["value", "locations", "weights"], |t| {
                multi_scale_deform_attn(&t["value"], &levels, &t["locations"], &t["weights"])
            });
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let value = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 6, 2, 2]);
        let none = |dims: &[usize]| super::super::testing::tensor(&[], dims);
        let y =
            multi_scale_deform_attn(&value, &[(2, 3)], &none(&[1, 0, 2, 1, 4, 2]), &none(&[1, 0, 2, 1, 4])).unwrap();
        assert_eq!((y.dims(), grad(&y, &value).dims()), (&[1, 0, 4][..], &[1, 6, 2, 2][..]));
        let e = multi_scale_deform_attn(&value, &[(2, 2)], &wave(&[1, 1, 2, 1, 1, 2]), &wave(&[1, 1, 2, 1, 1]));
        let e = e.unwrap_err().to_string();
        assert!(e.contains("value has 6 keys, expected 4"), "{e}");
    }
}
