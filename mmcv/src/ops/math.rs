//! Transcendental functions that the compiler can turn into vector code: no branch, no call.

/// `e^x`, within 2 units in the last place (below -87.3, where results are subnormal, to the nearest of those); infinity
/// above 88.7, NaN for NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // From here on all is 0 or infinity; comparisons leave NaN as it is.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    // 2^n in two factors: neither over- nor underflows before the product does.
    let whole = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = whole >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    value * power(half) * power(whole - half)
}

/// `ln(1 + x)` for `0 <= x <= 1`, within 2 units in the last place; NaN for NaN.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    // 2 artanh(s) with s = x / (2 + x), at most 1/3.
    let s = x / (2.0 + x);
    let t = s * s;
    let mut p = 1.0 / 15.0;
    p = p * t + 1.0 / 13.0;
    p = p * t + 1.0 / 11.0;
    p = p * t + 1.0 / 9.0;
    p = p * t + 1.0 / 7.0;
    p = p * t + 1.0 / 5.0;
    p = p * t + 1.0 / 3.0;
    2.0 * (s + s * t * p)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * z + 2.063_909e-2;
    p = p * z - 5.373_971_6e-2;
    p = p * z + 1.333_144_2e-1;
    p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let e = exp(-2.0 * x.abs());
    let far = ((1.0 - e) / (1.0 + e)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// Error function, by a rational function of x² on [-4, 4].
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let c = if x > 4.0 { 4.0 } else { x };
    let c = if c < -4.0 { -4.0 } else { c };
    let z = c * c;
    let mut p = -2.726_142_3e-10;
    p = p * z + 2.770_681_4e-8;
    p = p * z - 2.101_024e-6;
    p = p * z - 5.692_506_4e-5;
    p = p * z - 7.349_906_3e-4;
    p = p * z - 2.954_6e-3;
    p = p * z - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * z - 2.133_740_6e-4;
    q = q * z - 1.682_827e-3;
    q = q * z - 7.373_329e-3;
    q = q * z - 1.426_473_9e-2;
    c * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_std_s() {
        let mut x = -100.0f32;
        while x < 100.0 {
            let wanted = f64::from(x).exp();
            let near = |ours: f32, wanted: f64| (f64::from(ours) - wanted).abs() <= 2.5e-7 * wanted + 1.5e-45;
            assert!(near(exp(x), wanted) || (exp(x).is_infinite() && wanted > f64::from(f32::MAX)), "{x}: {}", exp(x));
            let wanted = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!(near(sigmoid(x), wanted) || (sigmoid(x) == 0.0 && wanted < 1e-38), "{x}");
            let small = (x.abs() / 100.0).min(1.0);
            assert!(near(ln_1p(small), f64::from(small).ln_1p()), "{small}");
            assert!(near(ln_1p(small * 1e-6), f64::from(small * 1e-6).ln_1p()), "{small}");
            x += 0.0137;
        }
        let mut x = -12.0f32;
        while x < 12.0 {
            for x in [x, x * 1e-3] {
                let wanted = f64::from(x).tanh();
                assert!((f64::from(tanh(x)) - wanted).abs() <= 3e-7 * wanted.abs(), "{x}: {}", tanh(x));
            }
            x += 0.0137;
        }
        // math.erf of Python
        for (x, wanted) in [
            (1e-4f32, 1.1283791633342489e-4),
            (0.3, 0.3286267594591274),
            (1.0, 0.8427007929497148),
            (2.5, 0.999593047982555),
            (6.0, 1.0),
        ] {
            assert!((f64::from(erf(x)) - wanted).abs() <= 3e-7 * wanted, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(tanh(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert!(exp(f32::NAN).is_nan() && ln_1p(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0)), (f32::INFINITY, 0.0, 1.0));
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
    }
}
