//! Resizing of feature maps, by torch's `interpolate` rules.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Where an output position reads: two positions and the weight of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

fn nearest_taps(input: usize, output: usize) -> Vec<Tap> {
    let scale = input as f32 / output as f32;
    let at = |i: usize| match (i, output) {
        (i, o) if o == input => i,
        (i, o) if o == 2 * input => i / 2,
        (i, _) => ((i as f32 * scale).floor() as usize).min(input - 1),
    };
    (0..output).map(|i| Tap { low: at(i), high: at(i), weight: 0.0 }).collect()
}

fn linear_taps(input: usize, output: usize, align_corners: bool) -> Vec<Tap> {
    let scale = match (align_corners, output) {
        (true, 0 | 1) => 0.0,
        (true, _) => (input - 1) as f32 / (output - 1) as f32,
        (false, _) => input as f32 / output as f32,
    };
    (0..output)
        .map(|i| {
            if input == output {
                return Tap { low: i, high: i, weight: 0.0 };
            }
            let at = if align_corners { scale * i as f32 } else { (scale * (i as f32 + 0.5) - 0.5).max(0.0) };
            let low = (at as usize).min(input - 1);
            Tap { low, high: (low + 1).min(input - 1), weight: (at - low as f32).clamp(0.0, 1.0) }
        })
        .collect()
}

simd! {
    fn blend(a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) {
        let first = 1.0 - weight;
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = first * a + weight * b;
        }
    }
}
simd! {
    fn add_scaled(x: &[f32], weight: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o += weight * x;
        }
    }
}
simd! {
    fn double(x: &[f32], out: &mut [f32]) {
        for (o, x) in out.chunks_exact_mut(2).zip(x) {
            o[0] = *x;
            o[1] = *x;
        }
    }
}
simd! {
    fn add_pairs(x: &[f32], out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x.chunks_exact(2)) {
            *o += x[0] + x[1];
        }
    }
}

/// Both modes: nearest is linear with all weights 0.
struct Interpolate {
    input: [usize; 2],
    output: [usize; 2],
    rows: Vec<Tap>,
    columns: Vec<Tap>,
    nearest: bool,
}

impl Interpolate {
    /// One input row stretched to the output's width.
    fn stretch(&self, x: &[f32], out: &mut [f32]) {
        if self.input[1] == self.output[1] {
            out.copy_from_slice(x);
        } else if self.nearest && self.output[1] == 2 * self.input[1] {
            double(x, out);
        } else if self.nearest {
            for (o, t) in out.iter_mut().zip(&self.columns) {
                *o = x[t.low];
            }
        } else {
            for (o, t) in out.iter_mut().zip(&self.columns) {
                *o = (1.0 - t.weight) * x[t.low] + t.weight * x[t.high];
            }
        }
    }

    /// The transpose of [`Interpolate::stretch`], added to `out`.
    fn shrink(&self, g: &[f32], out: &mut [f32]) {
        if self.input[1] == self.output[1] {
            add_scaled(g, 1.0, out);
        } else if self.nearest && self.output[1] == 2 * self.input[1] {
            add_pairs(g, out);
        } else if self.nearest {
            for (g, t) in g.iter().zip(&self.columns) {
                out[t.low] += g;
            }
        } else {
            for (g, t) in g.iter().zip(&self.columns) {
                out[t.low] += (1.0 - t.weight) * g;
                out[t.high] += t.weight * g;
            }
        }
    }

    fn forward(&self, x: &[f32], out: &mut [f32]) {
        let ([_, w], [_, ow]) = (self.input, self.output);
        let source = |y: usize| &x[y * w..(y + 1) * w];
        if self.nearest {
            let mut last = None;
            for (oy, t) in self.rows.iter().enumerate() {
                if last == Some(t.low) {
                    out.copy_within((oy - 1) * ow..oy * ow, oy * ow);
                } else {
                    self.stretch(source(t.low), &mut out[oy * ow..(oy + 1) * ow]);
                    last = Some(t.low);
                }
            }
            return;
        }
        // The two stretched rows in use, by their number in the input.
        let mut rows = [(usize::MAX, vec![0.0f32; ow]), (usize::MAX, vec![0.0f32; ow])];
        for (out, t) in out.chunks_exact_mut(ow).zip(&self.rows) {
            if rows[0].0 != t.low {
                rows.swap(0, 1);
            }
            for (slot, y) in [t.low, t.high].into_iter().enumerate() {
                if rows[slot].0 != y {
                    rows[slot].0 = y;
                    self.stretch(source(y), &mut rows[slot].1);
                }
            }
            blend(&rows[0].1, &rows[1].1, t.weight, out);
        }
    }

    fn backward(&self, g: &[f32], out: &mut [f32]) {
        let ([_, w], [_, ow]) = (self.input, self.output);
        if self.nearest {
            // Output rows of one input row are summed first.
            let mut total = vec![0.0f32; ow];
            let mut oy = 0;
            while oy < self.rows.len() {
                let low = self.rows[oy].low;
                total.copy_from_slice(&g[oy * ow..(oy + 1) * ow]);
                oy += 1;
                while oy < self.rows.len() && self.rows[oy].low == low {
                    add_scaled(&g[oy * ow..(oy + 1) * ow], 1.0, &mut total);
                    oy += 1;
                }
                self.shrink(&total, &mut out[low * w..(low + 1) * w]);
            }
            return;
        }
        let mut row = vec![0.0f32; w];
        for (g, t) in g.chunks_exact(ow).zip(&self.rows) {
            row.fill(0.0);
            self.shrink(g, &mut row);
            add_scaled(&row, 1.0 - t.weight, &mut out[t.low * w..(t.low + 1) * w]);
            add_scaled(&row, t.weight, &mut out[t.high * w..(t.high + 1) * w]);
        }
    }
}

impl CustomOp1 for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("interpolate", s, l)?;
        let (n, c) = (l.dims()[0], l.dims()[1]);
        let ([h, w], [oh, ow]) = (self.input, self.output);
        let out = build(n * c * oh * ow, oh * ow, |at, out: &mut [f32]| {
            self.forward(&x[at / (oh * ow) * h * w..][..h * w], out);
        });
        Ok((CpuStorage::F32(out), Shape::from((n, c, oh, ow))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let ([h, w], [oh, ow]) = (self.input, self.output);
        let out = with_values("interpolate_backward", grad, |g| {
            Ok(build(x.elem_count(), h * w, |at, out: &mut [f32]| {
                self.backward(&g[at / (h * w) * oh * ow..][..oh * ow], out);
            }))
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

fn apply(x: &Tensor, output: (usize, usize), taps: impl Fn(usize, usize) -> Vec<Tap>, nearest: bool) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if h * w == 0 || output.0 * output.1 == 0 {
        bail!("interpolate: {:?} to {output:?}, sizes must be above 0", x.dims());
    }
    let (rows, columns) = (taps(h, output.0), taps(w, output.1));
    let output = [output.0, output.1];
    apply1(x, Interpolate { input: [h, w], output, rows, columns, nearest })
}

/// Nearest neighbour: output `i` reads input `floor(i * in / out)`, as torch's mode `nearest`.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - output: `[N, C, size.0, size.1]`
pub fn interpolate_nearest(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    apply(x, size, nearest_taps, true)
}

/// Bilinear, torch's mode `bilinear` without antialiasing.
///
/// With `align_corners` the corner pixels' centres coincide; without it the images' borders do.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - output: `[N, C, size.0, size.1]`
pub fn interpolate_bilinear(x: &Tensor, size: (usize, usize), align_corners: bool) -> Result<Tensor> {
    apply(x, size, |i, o| linear_taps(i, o, align_corners), false)
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    type Case = (Option<bool>, (usize, usize), &'static [f32], &'static [f32]);

    // x = wave(1, 2, 3, 4); y = F.interpolate(x, size=size, mode=mode, align_corners=align_corners)
    // (y * weights(*y.shape)).sum().backward(); mode nearest where there is no align_corners
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        (None, (6, 8), &[0.1, 0.1, 0.6982479, 0.6982479, 0.9200854, 0.9200854, 0.77209634, 0.77209634, 0.1, 0.1, 0.6982479, 0.6982479, 0.9200854, 0.9200854, 0.77209634, 0.77209634, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.8843721, -0.8843721, -0.95239335, -0.95239335, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.8843721, -0.8843721, -0.95239335, -0.95239335, -0.5920809, -0.5920809, 0.0944825, 0.0944825, 0.7432185, 0.7432185, 0.9833019, 0.9833019, -0.5920809, -0.5920809, 0.0944825, 0.0944825, 0.7432185, 0.7432185, 0.9833019, 0.9833019, 0.94171363, 0.94171363, 0.39894798, 0.39894798, -0.33223248, -0.33223248, -0.8429638, -0.8429638, 0.94171363, 0.94171363, 0.39894798, 0.39894798, -0.33223248, -0.33223248, -0.8429638, -0.8429638, -0.9831568, -0.9831568, -0.51817226, -0.51817226, -0.05784997, -0.05784997, 0.5735519, 0.5735519, -0.9831568, -0.9831568, -0.51817226, -0.51817226, -0.05784997, -0.05784997, 0.5735519, 0.5735519, 0.93807775, 0.93807775, 0.8841139, 0.8841139, 0.40122834, 0.40122834, -0.34699732, -0.34699732, 0.93807775, 0.93807775, 0.8841139, 0.8841139, 0.40122834, 0.40122834, -0.34699732, -0.34699732], &[-0.24668807, -0.67834914, 1.0451064, -0.5517435, 0.88859206, -0.97220397, 0.2556942, 0.6712513, 0.8078228, 0.06441432, -0.8836387, 0.9756303, -0.37846202, 1.0128808, -0.81370103, -0.055153012, -1.0468168, 0.5752072, 0.3697967, -1.0104587, -0.28258985, -0.6496447, 1.047223, -0.5829391]),
        (None, (5, 7), &[0.1, 0.1, 0.6982479, 0.6982479, 0.9200854, 0.9200854, 0.77209634, 0.1, 0.1, 0.6982479, 0.6982479, 0.9200854, 0.9200854, 0.77209634, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.8843721, -0.8843721, -0.95239335, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.8843721, -0.8843721, -0.95239335, -0.5920809, -0.5920809, 0.0944825, 0.0944825, 0.7432185, 0.7432185, 0.9833019, 0.94171363, 0.94171363, 0.39894798, 0.39894798, -0.33223248, -0.33223248, -0.8429638, 0.94171363, 0.94171363, 0.39894798, 0.39894798, -0.33223248, -0.33223248, -0.8429638, -0.9831568, -0.9831568, -0.51817226, -0.51817226, -0.05784997, -0.05784997, 0.5735519, -0.9831568, -0.9831568, -0.51817226, -0.51817226, -0.05784997, -0.05784997, 0.5735519, 0.93807775, 0.93807775, 0.8841139, 0.8841139, 0.40122834, 0.40122834, -0.34699732], &[0.7958769, -2.4607463, 2.100427, 0.7881181, -1.5054055, 2.589524, -1.5424697, -1.1445822, 1.701345, -0.91042787, -0.62976944, 0.9555986, -1.2153141, -1.1336057, 2.5495706, -0.3835711, 0.46498483, 1.7860309, -2.5671473, -0.07992685, 1.2649016, -1.6687787, 0.6992545, 0.87672955]),
        (None, (2, 3), &[0.1, 0.6982479, 0.9200854, 0.2392222, -0.25166294, -0.8843721, 0.94171363, 0.39894798, -0.33223248, -0.9831568, -0.51817226, -0.05784997], &[1.0, 0.45359612, -0.5885011, 0.0, -0.98747975, -0.30733287, 0.7086698, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, 0.15337387, -0.81109303, 0.0, -0.88919115, 0.004425698, 0.8932061, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (Some(false), (6, 8), &[0.1, 0.24956198, 0.5486859, 0.7537073, 0.864626, 0.8830881, 0.8090936, 0.77209634, 0.13480555, 0.21629672, 0.37927902, 0.4628204, 0.4669208, 0.43697172, 0.37297317, 0.3409739, 0.20441666, 0.14976618, 0.040465236, -0.11895335, -0.3284896, -0.45526105, -0.49926767, -0.52127093, 0.031396426, -0.017734326, -0.115995824, -0.24321355, -0.39938748, -0.47522324, -0.47072083, -0.46846956, -0.38425514, -0.28620481, -0.09010418, 0.090039805, 0.25422716, 0.37708515, 0.45861375, 0.4993781, -0.5920809, -0.42044005, -0.07715835, 0.25666648, 0.5810345, 0.80323935, 0.923281, 0.9833019, 0.94171363, 0.8060222, 0.5346394, 0.21615288, -0.14943737, -0.4599153, -0.715281, -0.8429638, 0.460496, 0.387789, 0.24237497, 0.061341733, -0.15531066, -0.31993636, -0.4325354, -0.4888349, -0.50193924, -0.44867748, -0.3421539, -0.24828056, -0.16705725, -0.03997846, 0.13295582, 0.21942297, -0.50284815, -0.41903633, -0.25141257, -0.11147065, 0.000789538, 0.12854335, 0.27179083, 0.3434146, 0.45776913, 0.4767124, 0.5145991, 0.47177148, 0.3482297, 0.18562907, -0.016030341, -0.11686003, 0.93807775, 0.9245868, 0.8976049, 0.7633925, 0.52194977, 0.21417192, -0.15994093, -0.34699732], &[0.38608742, -0.63434446, 0.37993464, 0.28032237, 0.068816505, -0.066740476, 0.017553065, 0.0600267, 0.7337578, -0.45171764, -0.09429516, 0.69648725, -0.6879404, 0.5256724, -0.022224829, -0.6308079, -0.08570075, 0.039487123, 0.025386013, -0.08423039, -0.70666146, 0.11689921, 0.43532965, -0.7398662]),
        (Some(false), (5, 7), &[0.1, 0.31366, 0.6555159, 0.80916667, 0.9095147, 0.82494956, 0.77209634, 0.15568888, 0.21375841, 0.30666962, 0.2582929, 0.19001645, 0.12372966, 0.08230041, 0.23922215, 0.06390603, -0.21659972, -0.56801754, -0.88923067, -0.92809993, -0.95239323, -0.25955972, -0.18256539, -0.059374504, 0.024103384, 0.10052824, 0.16729482, 0.209024, -0.5920809, -0.34687963, 0.04544228, 0.41885057, 0.76036733, 0.89755785, 0.98330194, 0.94171363, 0.7478687, 0.43771693, 0.03335766, -0.36871335, -0.66055983, -0.8429638, 0.1717654, 0.12188482, 0.04207594, -0.09518984, -0.2263279, -0.25711533, -0.27635747, -0.9831567, -0.81709075, -0.5513854, -0.288011, -0.0127497455, 0.3480513, 0.57355183, 0.16958408, 0.22444679, 0.31222704, 0.2703983, 0.20357026, 0.0913561, 0.021222282, 0.93807775, 0.91880494, 0.8879685, 0.64267105, 0.34778357, -0.07977401, -0.34699732], &[0.9906277, -1.546091, 0.14563608, 1.6357064, -1.5515034, 0.602612, 0.9760837, -1.4090937, 1.3888767, 0.6218788, -1.6426328, 0.52538776, -0.33685067, -1.4786773, 1.2775042, 0.7141187, -0.90081936, 1.3946252, -0.12495179, -1.4802548, 1.718416, -0.6602267, -1.0858685, 1.5561132]),
        (Some(true), (5, 7), &[0.1, 0.39912397, 0.6982479, 0.80916667, 0.9200854, 0.84609085, 0.77209634, 0.1696111, 0.1964518, 0.22329248, 0.120574564, 0.017856628, -0.036145955, -0.09014851, 0.2392222, -0.0062203705, -0.25166294, -0.56801754, -0.8843721, -0.91838276, -0.95239335, -0.17642935, -0.12750979, -0.07859022, -0.07458353, -0.07057682, -0.027561307, 0.0154542625, -0.5920809, -0.2487992, 0.0944825, 0.41885048, 0.7432185, 0.86326015, 0.9833019, 0.94171363, 0.6703308, 0.39894798, 0.033357754, -0.33223248, -0.58759815, -0.8429638, -0.020721585, -0.040166855, -0.05961214, -0.12732667, -0.19504122, -0.16487359, -0.13470596, -0.9831568, -0.75066453, -0.51817226, -0.2880111, -0.05784997, 0.25785097, 0.5735519, -0.022539526, 0.08021566, 0.18297082, 0.17733, 0.17168918, 0.14248323, 0.11327729, 0.93807775, 0.91109586, 0.8841139, 0.6426711, 0.40122834, 0.027115509, -0.34699732], &[1.1007118, -1.5017053, 0.20244263, 1.4249812, -1.5041741, 0.52935696, 0.97460914, -1.4194505, 1.1848553, 0.6973565, -1.6833445, 0.7318497, -0.013489261, -1.6503217, 1.368685, 0.5609749, -1.0033073, 1.5106056, -0.3010341, -1.3480308, 1.5379978, -0.6450177, -0.91126895, 1.4873348]),
        (Some(false), (2, 3), &[0.189133, 0.46487063, 0.36230674, -0.31888825, 0.17213349, 0.47220188, 0.41202468, -0.046984486, -0.45130193, 0.47039795, 0.41000056, -0.049640246], &[0.625, 0.29509854, 0.09653598, -0.36781323, 0.002608386, 0.01880458, 0.023289936, 0.025035148, -0.61717486, -0.23868479, -0.026666172, 0.44291866, 0.5938954, 0.17629428, -0.04387136, -0.5069332, 0.012716963, 0.022268336, 0.023146324, 0.017106893, -0.55574447, -0.10948927, 0.11331034, 0.5582539]),
        (Some(true), (1, 1), &[0.1, 0.94171363], &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ];

    fn run(x: &Tensor, align: Option<bool>, size: (usize, usize)) -> Result<Tensor> {
        match align {
            None => interpolate_nearest(x, size),
            Some(align) => interpolate_bilinear(x, size, align),
        }
    }

    #[test]
    fn values_and_gradients_are_torchs() {
        for (align, size, y, dx) in CASES {
            let x = var(&wave(&[1, 2, 3, 4]).flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[1, 2, 3, 4]);
            let ours = run(&x, *align, *size).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn two_uses_of_a_strided_input_add_up() {
        // candle's own nearest upsampling overwrites here.
        for align in [None, Some(false), Some(true)] {
            check_gradient(&wave(&[2, 1, 4, 3]), 1e-2, |x| {
                let t = x.transpose(2, 3)?;
                run(&t, align, (6, 8))?.sum_all()? + run(&t, align, (5, 3))?.sqr()?.sum_all()? + (x * 2.0)?.sum_all()?
            });
        }
    }

    #[test]
    fn an_empty_batch_passes_and_empty_planes_are_refused() {
        let x = var(&[], &[0, 3, 4, 4]);
        for align in [None, Some(false)] {
            let y = run(&x, align, (8, 8)).unwrap();
            assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3, 8, 8][..], &[0, 3, 4, 4][..]));
            assert!(run(&wave(&[1, 1, 2, 2]), align, (0, 2)).is_err());
        }
        let y = run(&var(&[1.0, f32::NAN, 2.0, f32::INFINITY], &[1, 1, 1, 4]), None, (1, 2)).unwrap();
        close(&y, &[1.0, 2.0]);
    }
}
