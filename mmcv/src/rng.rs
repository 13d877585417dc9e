//! The one source of random numbers: one seed decides a whole run.
//!
//! candle's CPU generator can't be seeded, so nothing here uses it. Whoever needs random numbers
//! is handed an [`Rng`]; independent streams come from [`Rng::fork`], so that the
//! order in which threads run changes nothing.

use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// A PCG-64 stream. Serialises whole, so that a resumed run draws what an unbroken one would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng(Pcg64);

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// The stream that `seed` and `parts` (epoch, sample index, ...) name, the same wherever it is made.
    pub fn keyed(seed: u64, parts: &[u64]) -> Self {
        let mut h = splitmix64(seed ^ 0x6d6d_6376);
        for p in parts {
            h = splitmix64(h ^ splitmix64(*p));
        }
        Self::new(h)
    }

    /// The stream that `seed` and a name (a parameter's, say) give.
    pub fn named(seed: u64, name: &str) -> Self {
        Self::keyed(seed, &[fnv1a64(name.as_bytes())])
    }

    /// A new stream seeded from this one.
    pub fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Uniform in `[low, high)`; `low` when the range is empty.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// Uniform integer in `low..=high`; `low` when the range is empty.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        if high <= low { low } else { self.0.random_range(low..=high) }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box-Muller; draws two uniforms).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Gamma distributed with shape `a` (above 0) and scale 1: Marsaglia's and Tsang's method.
    pub fn gamma(&mut self, a: f64) -> f64 {
        if a < 1.0 {
            // A gamma of one more, scaled down.
            let power = (1.0 - self.unit()).powf(1.0 / a);
            return self.gamma(a + 1.0) * power;
        }
        let d = a - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta distributed with shapes `a` and `b` (above 0): between 0 and 1.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        if a > 1.0 || b > 1.0 {
            let (x, y) = (self.gamma(a), self.gamma(b));
            return x / (x + y);
        }
        // Johnk's method: for small shapes gammas would vanish.
        loop {
            let (u, v) = (1.0 - self.unit(), 1.0 - self.unit());
            let (x, y) = (u.powf(1.0 / a), v.powf(1.0 / b));
            if x + y > 1.0 {
                continue;
            }
            if x + y > 0.0 {
                return x / (x + y);
            }
            // Both are too small for f64: their logarithms are not.
            let (x, y) = (u.ln() / a, v.ln() / b);
            let most = x.max(y);
            return (x - most - ((x - most).exp() + (y - most).exp()).ln()).exp();
        }
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A random order of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        self.shuffle(&mut p);
        p
    }

    /// `k` distinct items of `0..n` in random order (all of them when `k >= n`).
    pub fn choose(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let j = i + self.below(n - i);
            p.swap(i, j);
        }
        p.truncate(k);
        p
    }
}

/// FNV-1a, 64 bits.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// One step of the splitmix64 finaliser over `x + golden gamma`.
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_distinct() {
        let draw = |mut r: Rng| [r.bits(), r.bits()];
        assert_eq!(draw(Rng::keyed(1, &[2, 3])), draw(Rng::keyed(1, &[2, 3])));
        assert_ne!(draw(Rng::keyed(1, &[2, 3])), draw(Rng::keyed(1, &[3, 2])));
        assert_ne!(draw(Rng::named(0, "a")), draw(Rng::named(0, "b")));
    }

    #[test]
    fn a_serialised_stream_goes_on_where_it_was() {
        let mut a = Rng::new(7);
        a.bits();
        let mut b: Rng = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(a.bits(), b.bits());
    }

    #[test]
    fn betas_have_their_mean_and_variance() {
        let mut r = Rng::new(5);
        for (a, b) in [(0.01, 0.01), (0.2, 0.2), (0.5, 0.9), (1.0, 1.0), (2.0, 3.0), (0.5, 4.0)] {
            let x: Vec<f64> = (0..20_000).map(|_| r.beta(a, b)).collect();
            let mean = x.iter().sum::<f64>() / 20_000.0;
            let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 20_000.0;
            let (m, v) = (a / (a + b), a * b / ((a + b) * (a + b) * (a + b + 1.0)));
            assert!((mean - m).abs() < 0.015 && (var - v).abs() < 0.01, "{a} {b}: {mean} {var}, expected {m} {v}");
            assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
        }
        let x: Vec<f64> = (0..20_000).map(|_| r.gamma(2.5)).collect();
        let mean = x.iter().sum::<f64>() / 20_000.0;
        assert!((mean - 2.5).abs() < 0.05, "{mean}");
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let mut r = Rng::new(3);
        let x: Vec<f64> = (0..20_000).map(|_| r.normal()).collect();
        let mean = x.iter().sum::<f64>() / 20_000.0;
        let var = x.iter().map(|v| v * v).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (var - 1.0).abs() < 0.05, "{mean} {var}");
    }
}
