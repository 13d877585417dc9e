//! Rounding to IEEE half precision, for `dtype = "fp16"`.

/// `v` as the nearest half-precision number, ties to even; past the largest, infinite.
pub(super) fn round(v: f32) -> f32 {
    let magnitude = v.abs();
    if magnitude.is_nan() || magnitude.is_infinite() {
        return v;
    }
    if magnitude >= 65520.0 {
        return f32::INFINITY.copysign(v);
    }
    // A half has 11 significant bits down to 2^-14 and steps of 2^-24 below.
    let exponent = if magnitude < 2f32.powi(-14) { -14 } else { (magnitude.to_bits() >> 23) as i32 - 127 };
    let step = 2f32.powi(exponent - 10);
    ((magnitude / step).round_ties_even() * step).copysign(v)
}

#[cfg(test)]
mod tests {
    use super::round;

    // numpy.float32(v).astype(numpy.float16) for v in (...)
    #[test]
    fn rounds_as_numpy_does() {
        for (v, half) in [
            (0.1, 0.099975586),
            (1234.567, 1235.0),
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (65519.9, 65504.0),
            (65520.0, f32::INFINITY),
            (-1e-7, -1.1920929e-7),
            (1e-8, 0.0),
            (6.1e-5, 6.097555e-5),
        ] {
            assert_eq!(round(v), half, "{v}");
        }
    }
}
