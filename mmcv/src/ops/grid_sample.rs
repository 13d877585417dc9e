//! Reading a feature map at given places: torch's `grid_sample` of planes.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::kernel::{build, values, with_values};
use crate::nn::apply2;

/// How pixels are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SampleMode {
    /// The four around the place.
    #[default]
    Bilinear,
    /// The nearest one, at a half the even one; no gradient into the grid.
    Nearest,
}

/// What lies beyond the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SamplePadding {
    /// Zeros.
    #[default]
    Zeros,
    /// The border pixel.
    Border,
    /// The image mirrored, at the border pixels' centres with `align_corners`, else at their outer edges.
    Reflection,
}

/// A pixel position and its derivative by the grid's coordinate.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: f32,
    slope: f32,
}

#[derive(Debug, Clone, Copy)]
struct GridSample {
    mode: SampleMode,
    padding: SamplePadding,
    align_corners: bool,
}

/// Four pixels, `None` outside the image.
type Corners = [Option<usize>; 4];

/// What one output position reads: pixels, weights, and the weights' derivatives by the two coordinates.
struct Taps {
    corners: Corners,
    weights: [f32; 4],
    by_x: [f32; 4],
    by_y: [f32; 4],
}

fn clip(p: Place, size: usize) -> Place {
    let last = (size - 1) as f32;
    if p.at <= 0.0 || p.at.is_nan() {
        Place { at: 0.0, slope: 0.0 }
    } else if p.at >= last {
        Place { at: last, slope: 0.0 }
    } else {
        p
    }
}

impl GridSample {
    fn place(self, coordinate: f32, size: usize) -> Place {
        let len = size as f32;
        let p = if self.align_corners {
            Place { at: (coordinate + 1.0) / 2.0 * (len - 1.0), slope: (len - 1.0) / 2.0 }
        } else {
            Place { at: ((coordinate + 1.0) * len - 1.0) / 2.0, slope: len / 2.0 }
        };
        match self.padding {
            SamplePadding::Zeros => p,
            SamplePadding::Border => clip(p, size),
            SamplePadding::Reflection => {
                let (low, span) = if self.align_corners { (0.0, len - 1.0) } else { (-0.5, len) };
                if span == 0.0 {
                    return Place { at: 0.0, slope: 0.0 };
                }
                let (from_low, sign) = if p.at < low { (low - p.at, -1.0) } else { (p.at - low, 1.0) };
                let (extra, flips) = (from_low % span, (from_low / span).floor());
                let reflected = if flips % 2.0 == 0.0 {
                    Place { at: extra + low, slope: p.slope * sign }
                } else {
                    Place { at: span - extra + low, slope: -p.slope * sign }
                };
                clip(reflected, size)
            }
        }
    }

    fn taps(self, gx: f32, gy: f32, h: usize, w: usize) -> Taps {
        let (x, y) = (self.place(gx, w), self.place(gy, h));
        let pixel = |y: f32, x: f32| {
            let inside = x >= 0.0 && y >= 0.0 && x < w as f32 && y < h as f32;
            inside.then(|| y as usize * w + x as usize)
        };
        if self.mode == SampleMode::Nearest {
            let corners = [pixel(y.at.round_ties_even(), x.at.round_ties_even()), None, None, None];
            return Taps { corners, weights: [1.0, 0.0, 0.0, 0.0], by_x: [0.0; 4], by_y: [0.0; 4] };
        }
        let (left, top) = (x.at.floor(), y.at.floor());
        let (fx, fy) = (x.at - left, y.at - top);
        Taps {
            corners: [pixel(top, left), pixel(top, left + 1.0), pixel(top + 1.0, left), pixel(top + 1.0, left + 1.0)],
            weights: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
            by_x: [-(1.0 - fy), 1.0 - fy, -fy, fy].map(|v| v * x.slope),
            by_y: [-(1.0 - fx), -fx, 1.0 - fx, fx].map(|v| v * y.slope),
        }
    }

    /// The taps of all positions of one sample.
    fn all(self, grid: &[f32], h: usize, w: usize) -> Vec<Taps> {
        grid.par_chunks_exact(2).with_min_len(1024).map(|g| self.taps(g[0], g[1], h, w)).collect()
    }
}

fn read(plane: &[f32], corner: Option<usize>) -> f32 {
    corner.map_or(0.0, |at| plane[at])
}

impl CustomOp2 for GridSample {
    fn name(&self) -> &'static str {
        "grid_sample"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, grid) = (values("grid_sample", s1, l1)?, values("grid_sample", s2, l2)?);
        let (n, c, h, w) = l1.shape().dims4()?;
        let (_, oh, ow, _) = l2.shape().dims4()?;
        let (input, output) = (h * w, oh * ow);
        let mut out = Vec::with_capacity(n * c * output);
        for i in 0..n {
            let taps = self.all(&grid[i * output * 2..][..output * 2], h, w);
            out.extend(build(c * output, output, |at, out: &mut [f32]| {
                let plane = &x[(i * c + at / output) * input..][..input];
                for (o, t) in out.iter_mut().zip(&taps) {
                    *o = (0..4).map(|k| read(plane, t.corners[k]) * t.weights[k]).sum();
                }
            }));
        }
        Ok((CpuStorage::F32(out), Shape::from((n, c, oh, ow))))
    }

    fn bwd(&self, x: &Tensor, grid: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "grid_sample_backward";
        let (n, c, h, w) = x.dims4()?;
        let (_, oh, ow, _) = grid.dims4()?;
        let (input, output) = (h * w, oh * ow);
        let (mut dx, mut dgrid) = (Vec::with_capacity(x.elem_count()), Vec::with_capacity(grid.elem_count()));
        with_values(OP, x, |x| {
            with_values(OP, grid, |grid| {
                with_values(OP, g, |g| {
                    for i in 0..n {
                        let taps = self.all(&grid[i * output * 2..][..output * 2], h, w);
                        let (x, g) = (&x[i * c * input..][..c * input], &g[i * c * output..][..c * output]);
                        dx.extend(build(c * input, input, |at, out: &mut [f32]| {
                            let g = &g[at / input * output..][..output];
                            for (g, t) in g.iter().zip(&taps) {
                                for k in 0..4 {
                                    if let Some(at) = t.corners[k] {
                                        out[at] += g * t.weights[k];
                                    }
                                }
                            }
                        }));
                        dgrid.extend(build(output * 2, 2048, |at, out: &mut [f32]| {
                            for (j, out) in out.chunks_exact_mut(2).enumerate() {
                                let position = at / 2 + j;
                                let t = &taps[position];
                                for channel in 0..c {
                                    let (plane, g) = (&x[channel * input..][..input], g[channel * output + position]);
                                    for k in 0..4 {
                                        let value = g * read(plane, t.corners[k]);
                                        out[0] += value * t.by_x[k];
                                        out[1] += value * t.by_y[k];
                                    }
                                }
                            }
                        }));
                    }
                    Ok(())
                })
            })
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dgrid, grid.shape(), grid.device())?),
        ))
    }
}

/// Reads `x` at the places of `grid`, given as (x, y) from -1 to 1: with `align_corners` from centre to centre of the
/// border pixels, else from edge to edge of the image. Gradients flow into both.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - `grid`: `[N, H', W', 2]`
/// - output: `[N, C, H', W']`
pub fn grid_sample(
    x: &Tensor,
    grid: &Tensor,
    mode: SampleMode,
    padding: SamplePadding,
    align_corners: bool,
) -> Result<Tensor> {
    let (n, _, h, w) = x.dims4()?;
    let (grid_n, _, _, two) = grid.dims4()?;
    if n != grid_n || two != 2 || h * w == 0 {
        bail!("grid_sample: the input is {:?} and the grid {:?}, expected [N, H', W', 2]", x.dims(), grid.dims());
    }
    apply2(x, grid, GridSample { mode, padding, align_corners })
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad, weights};
    use super::*;

    type Case = (SampleMode, SamplePadding, bool, &'static [f32], &'static [f32], &'static [f32]);

    // F.grid_sample(wave(1, 2, 3, 4), weights(1, 3, 3, 2) * 2.1, mode, padding, align_corners)
    #[test]
    fn values_and_gradients_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            (SampleMode::Bilinear, SamplePadding::Zeros, false, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Bilinear, SamplePadding::Zeros, true, &[0.0, 0.0, -0.11612434, 0.0, 0.0, 0.0531732, 0.0, 0.0, 0.0, 0.0, 0.0, 0.46541196, 0.0, 0.0, 0.079026334, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.14098711, -0.11739951, 0.04525986, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.21398523, 0.18559247, -0.06086123, 0.0], &[0.0, 0.0, 0.0, 0.0, -0.34718347, -0.9457877, 0.0, 0.0, 0.0, 0.0, 0.17147124, 0.30278438, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Bilinear, SamplePadding::Border, false, &[0.9833019, 0.1, -0.4484505, -0.017205343, 0.1, 0.43090907, -0.07176474, 0.1, 0.94155705, -0.34699732, 0.94171363, 0.9267884, 0.12880906, 0.94171363, 0.63369536, -0.14980662, 0.94171363, -0.21689862], &[0.2996371, 0.0, 0.0, 0.48524615, 0.0, 0.0, 0.0, -0.045414478, -0.46538553, 0.2180467, 0.22647767, -0.147142, 0.15805501, 0.0, 0.0, -0.35868636, 0.0, 0.0, 0.0, 0.07282838, 0.7063457, -0.27190268, -0.32225442, 0.3170557], &[-0.0, -0.0, 0.0, 0.0, -0.90448827, -0.0, -0.0, -3.9799733, -0.0, 0.0, 1.8398136, 0.0, -0.0, -3.950434, -0.0, -0.0, -1.869207, 0.0]),
            (SampleMode::Bilinear, SamplePadding::Border, true, &[0.8914567, 0.1, -0.22689681, -0.3289347, 0.1, 0.42789438, -0.3653076, 0.1, 0.86196196, -0.30331895, 0.94171363, 0.9093743, 0.27705666, 0.94171363, 0.6359393, 0.09131289, 0.94171363, 0.031161418], &[0.2996371, 0.0, 0.0, 0.32349744, 0.0, 0.0, 0.0, 0.004756093, -0.2754765, 0.03143084, -0.045718044, 0.23333865, 0.15805501, 0.0, 0.0, -0.23912424, 0.0, 0.0, 0.0, 0.040857375, 0.41810846, 0.011906147, 0.010004252, -0.098365694], &[-0.0, 2.7542393, 0.0, 0.0, -0.6783662, -0.0, -0.0, -2.6533155, -0.0, 0.0, 1.3798602, 0.0, 0.0, -2.6336226, -0.0, -0.0, -1.4019053, 0.0]),
            (SampleMode::Bilinear, SamplePadding::Reflection, false, &[0.28910342, 0.14731258, -0.31255436, -0.091357045, -0.03698199, -0.39138567, 0.024542907, 0.51654184, -0.740933, 0.73924816, -0.7707434, 0.5056879, 0.16166906, -0.36031812, -0.10924318, -0.19241402, -0.036097538, 0.32390237], &[-0.0057142214, 0.004637152, 0.47378486, -0.021005526, 0.27233908, -0.20857002, 0.34212083, -0.5395075, -0.307122, 0.43484357, 0.12565933, 0.0, -0.0030141838, 0.094464436, -0.17267616, 0.05245895, 0.15589844, -0.20965174, -0.30822173, 0.68346524, 0.5427441, -0.3733372, -0.16068894, 0.0], &[-2.156227, 0.0, -0.0, 0.55285954, -0.3671759, -2.945022, -0.034340646, -0.36415184, -0.0827529, -0.6369166, -1.1004606, 0.23091811, 0.2745345, -2.98666, 0.28947195, 0.46815804, 1.114556, -3.9214947]),
            (SampleMode::Bilinear, SamplePadding::Reflection, true, &[0.2838356, 0.03498774, -0.12680645, -0.25165072, -0.15414365, -0.45198286, -0.25689164, 0.15462595, -0.78289664, 0.66423166, -0.6905784, 0.1061746, 0.012807151, -0.37986723, -0.16757464, -0.15336813, -0.11960091, 0.1901834], &[0.0, 0.014036752, 0.3178104, -0.030712198, 0.13702887, -0.19332376, 0.24226815, -0.37044847, -0.11938175, 0.35671306, 0.21747461, 0.0, 0.0, 0.053033896, -0.10965446, 0.037442524, 0.2067724, -0.006201364, -0.08318615, 0.4516292, 0.21419604, -0.23681727, -0.22577351, 0.0], &[-1.4662755, -0.1587062, 0.27211338, 0.18043748, 0.16851878, -1.5901598, -0.5150472, -0.23819853, -0.1659132, -0.4444342, -0.9937536, 0.16234235, 0.5447836, -1.8438396, 0.12058455, 0.31225258, 0.8970407, -2.2614076]),
            (SampleMode::Nearest, SamplePadding::Zeros, false, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Nearest, SamplePadding::Zeros, true, &[0.0, 0.0, 0.0944825, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8841139, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5885011, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8932061, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Nearest, SamplePadding::Border, false, &[0.9833019, 0.1, -0.5920809, -0.95239335, 0.1, 0.7432185, 0.77209634, 0.1, 0.9833019, -0.34699732, 0.94171363, 0.93807775, 0.5735519, 0.94171363, 0.40122834, -0.8429638, 0.94171363, -0.34699732], &[0.2996371, 0.0, 0.0, 0.95023257, 0.0, 0.0, 0.0, -0.98747975, -0.5885011, 0.0, 0.7086698, 0.18890697, 0.15805501, 0.0, 0.0, -0.70239705, 0.0, 0.0, 0.0, 0.80588394, 0.8932061, 0.0, -0.9529529, 0.09964621], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Nearest, SamplePadding::Border, true, &[0.9833019, 0.1, 0.0944825, -0.95239335, 0.1, 0.7432185, -0.95239335, 0.1, 0.7432185, -0.34699732, 0.94171363, 0.8841139, 0.5735519, 0.94171363, 0.40122834, 0.5735519, 0.94171363, 0.40122834], &[0.2996371, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.03724718, 0.0, -0.5885011, -0.10242325, 1.0, 0.15805501, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.103486896, 0.0, 0.8932061, 0.03588444, -0.88919115], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Nearest, SamplePadding::Reflection, false, &[0.0944825, 0.2392222, -0.5920809, -0.8843721, -0.25166294, -0.8843721, 0.9200854, 0.9200854, -0.95239335, 0.8841139, -0.9831568, 0.93807775, -0.05784997, -0.51817226, -0.05784997, -0.33223248, -0.33223248, 0.5735519], &[0.0, 0.0, 1.1036065, 0.0, 0.45359612, -0.30733287, -0.27880996, -0.81109303, -0.5885011, 1.0, 0.0, 0.0, 0.0, 0.0, -0.3866533, 0.0, 0.004425698, -0.16211444, -0.14706898, 0.98883736, 0.8932061, -0.88919115, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (SampleMode::Nearest, SamplePadding::Reflection, true, &[0.0944825, 0.2392222, 0.0944825, -0.8843721, -0.25166294, -0.8843721, -0.8843721, 0.9200854, -0.8843721, 0.8841139, -0.9831568, 0.8841139, -0.05784997, -0.51817226, -0.05784997, -0.05784997, -0.33223248, -0.05784997], &[0.0, 0.0, 0.15337387, 0.0, 0.45359612, -0.30733287, -0.13967043, 0.0, 0.0, 0.4114989, 0.0, 0.0, 0.0, 0.0, 0.31574374, 0.0, 0.004425698, -0.16211444, 0.13937134, 0.0, 0.0, 0.004014969, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ];
        for (mode, padding, align, y, dx, dgrid) in cases {
            println!("{mode:?} {padding:?} {align}");
            let x = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 2, 3, 4]);
            let grid = (weights(&[18]) * 2.1).unwrap().to_vec1::<f32>().unwrap();
            let grid = var(&grid, &[1, 3, 3, 2]);
            let ours = grid_sample(&x, &grid, *mode, *padding, *align).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
            close(&weighted_grad(&ours, &grid), dgrid);
        }
    }

    #[test]
    fn two_uses_add_up_and_bad_places_read_nothing() {
        let grid = (weights(&[2, 3, 1, 2]) * 0.7).unwrap();
        let sample = |x: &Tensor| grid_sample(x, &grid, SampleMode::Bilinear, SamplePadding::Zeros, false);
        check_gradient(&wave(&[2, 1, 3, 4]), 1e-2, |x| sample(x)? + sample(&x.transpose(2, 3)?));
        let nowhere = var(&[f32::NAN, 0.0, f32::INFINITY, 0.0, 1e30, -1e30], &[1, 3, 1, 2]);
        for padding in [SamplePadding::Zeros, SamplePadding::Border, SamplePadding::Reflection] {
            grid_sample(&wave(&[1, 1, 3, 4]), &nowhere, SampleMode::Bilinear, padding, true).unwrap();
        }
        let none = var(&[], &[0, 2, 3, 4]);
        let y = grid_sample(&none, &var(&[], &[0, 2, 2, 2]), SampleMode::Nearest, SamplePadding::Zeros, true).unwrap();
        assert_eq!((y.dims(), grad(&y, &none).dims()), (&[0, 2, 2, 2][..], &[0, 2, 3, 4][..]));
        assert!(
            grid_sample(&wave(&[1, 1, 3, 4]), &wave(&[1, 2, 2, 3]), SampleMode::Nearest, SamplePadding::Zeros, true)
                .is_err()
        );
    }
}
