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
    /// Normal with mean and standard deviation, redrawn outside `[low, high]`.
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
            Self::TruncNormal(mean, std, low, high) => (0..n)
                .map(|_| {
                    loop {
                        let v = mean + std * rng.normal();
                        if (low..=high).contains(&v) {
                            break v as f32;
                        }
                    }
                })
                .collect(),
        }
    }
}
