//! How a parameter starts, before `init_cfg` and a checkpoint.

use crate::rng::Rng;

/// The distributions that PyTorch's layers and mmcv's `init_cfg` draw from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// One value.
    Const(f64),
    /// Uniform in `[low, high)`.
    Uniform(f64, f64),
    /// Normal with mean and standard deviation.
    Normal(f64, f64),
    /// Normal with mean and standard deviation, cut to `[low, high]`, by the inverse of its distribution function as
    /// `torch.nn.init.trunc_normal_` does: where the range is so far out that nothing is left of the distribution, its end.
    TruncNormal(f64, f64, f64, f64),
}

impl Init {
    /// `torch.nn.Conv2d`'s and `Linear`'s default for weights: Kaiming uniform with `a = sqrt(5)`,
    /// that is uniform in ±1/sqrt(fan_in).
    pub fn torch_default(fan_in: usize) -> Self {
        let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
        Self::Uniform(-bound, bound)
    }

    /// `n` values.
    pub fn draw(self, n: usize, rng: &mut Rng) -> Vec<f32> {
        match self {
            Self::Const(v) => vec![v as f32; n],
            Self::Uniform(low, high) => (0..n).map(|_| rng.uniform(low, high) as f32).collect(),
            Self::Normal(mean, std) => (0..n).map(|_| (mean + std * rng.normal()) as f32).collect(),
            Self::TruncNormal(mean, std, low, high) => {
                let at = |x: f64| erf((x - mean) / std / std::f64::consts::SQRT_2);
                let (from, to) = (at(low), at(high));
                let one = |u: f64| (mean + std * std::f64::consts::SQRT_2 * erf_inv(u)).clamp(low, high) as f32;
                (0..n).map(|_| one(rng.uniform(from, to))).collect()
            }
        }
    }
}

/// The error function: `2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (1 3 5 ... (2n+1))`, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum).clamp(-1.0, 1.0)
}

/// Its inverse to single precision (Giles, "Approximating the erfinv function", 2010).
fn erf_inv(x: f64) -> f64 {
    const CENTRE: [f64; 9] = [
        2.81022636e-08,
        3.43273939e-07,
        -3.5233877e-06,
        -4.39150654e-06,
        0.00021858087,
        -0.00125372503,
        -0.00417768164,
        0.246640727,
        1.50140941,
    ];
    const TAIL: [f64; 9] = [
        -0.000200214257,
        0.000100950558,
        0.00134934322,
        -0.00367342844,
        0.00573950773,
        -0.0076224613,
        0.00943887047,
        1.00167406,
        2.83297682,
    ];
    if x.abs() >= 1.0 {
        return x.signum() * f64::INFINITY;
    }
    let w = -((1.0 - x) * (1.0 + x)).ln();
    let (t, terms) = if w < 5.0 { (w - 2.5, CENTRE) } else { (w.sqrt() - 3.0, TAIL) };
    let mut y = terms.iter().fold(0.0, |p, c| p * t + c) * x;
    if w > 15.0 {
        // Beyond single precision's last numbers before 1 the polynomial falls short; Newton's steps don't overshoot there.
        for _ in 0..8 {
            y -= (erf(y) - x) / (std::f64::consts::FRAC_2_SQRT_PI * (-y * y).exp());
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python's `math.erf`.
    #[test]
    fn the_error_function_and_its_inverse() {
        for (x, want) in [
            (0.1, 0.1124629160182849),
            (1.0, 0.8427007929497149),
            (-2.5, -0.999593047982555),
            (4.0, 0.9999999845827421),
        ] {
            assert!((erf(x) - want).abs() < 1e-14, "{x}: {}", erf(x));
            assert!((erf_inv(want) / x - 1.0).abs() < 1e-6, "{x}: {}", erf_inv(want));
        }
        assert_eq!((erf(7.0), erf(0.0), erf_inv(0.0)), (1.0, 0.0, 0.0));
    }

    fn mean(init: Init) -> f64 {
        let values = init.draw(20_000, &mut Rng::new(1));
        values.iter().map(|v| f64::from(*v)).sum::<f64>() / 20_000.0
    }

    /// Means of the truncated normal distribution: `(phi(a) - phi(b)) / (Phi(b) - Phi(a))`.
    #[test]
    fn a_cut_normal_keeps_to_its_range_however_far_out() {
        let draws = Init::TruncNormal(1.0, 2.0, 0.0, 2.5).draw(5000, &mut Rng::new(0));
        assert!(draws.iter().all(|v| (0.0..=2.5).contains(v)));
        assert!((mean(Init::TruncNormal(0.0, 1.0, 0.0, 2.0)) - 0.72279).abs() < 0.01);
        assert!((mean(Init::TruncNormal(0.0, 1.0, 5.0, 6.0)) - 5.183147).abs() < 0.01);
        // Nothing is left of the distribution: PyTorch gives the end too.
        assert_eq!(Init::TruncNormal(0.0, 1.0, 20.0, 21.0).draw(3, &mut Rng::new(0)), [21.0; 3]);
        assert_eq!(Init::TruncNormal(0.0, 1.0, -21.0, -20.0).draw(3, &mut Rng::new(0)), [-21.0; 3]);
    }
}
