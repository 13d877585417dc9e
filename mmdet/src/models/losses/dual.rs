//! A number with its derivatives by the four corners of a predicted box: one formula serves both passes.

use std::ops::{Add, Div, Mul, Sub};

/// `v` and its derivatives by `x1, y1, x2, y2`. Ties follow torch: `max` and `min` give half of the gradient to each side,
/// a clamp passes it on at the bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dual {
    pub v: f32,
    pub d: [f32; 4],
}

impl Dual {
    pub fn constant(v: f32) -> Self {
        Self { v, d: [0.0; 4] }
    }

    /// Corner coordinate `i` of the prediction.
    pub fn variable(v: f32, i: usize) -> Self {
        let mut d = [0.0; 4];
        d[i] = 1.0;
        Self { v, d }
    }

    /// The value `v` where the derivative by `self` is `slope`.
    fn chain(self, v: f32, slope: f32) -> Self {
        Self { v, d: self.d.map(|d| d * slope) }
    }

    fn both(self, other: Self, v: f32, f: impl Fn(f32, f32) -> f32) -> Self {
        Self { v, d: std::array::from_fn(|i| f(self.d[i], other.d[i])) }
    }

    pub fn max(self, other: Self) -> Self {
        if self.v > other.v {
            self
        } else if other.v > self.v {
            other
        } else {
            // A tie, or not a number: then the mean is not one either.
            self.both(other, 0.5 * (self.v + other.v), |a, b| 0.5 * (a + b))
        }
    }

    pub fn min(self, other: Self) -> Self {
        if self.v < other.v {
            self
        } else if other.v < self.v {
            other
        } else {
            self.both(other, 0.5 * (self.v + other.v), |a, b| 0.5 * (a + b))
        }
    }

    pub fn clamp_min(self, low: f32) -> Self {
        if self.v < low { Self::constant(low) } else { self }
    }

    pub fn clamp_max(self, high: f32) -> Self {
        if self.v > high { Self::constant(high) } else { self }
    }

    pub fn square(self) -> Self {
        self.chain(self.v * self.v, 2.0 * self.v)
    }

    pub fn ln(self) -> Self {
        self.chain(self.v.ln(), 1.0 / self.v)
    }

    pub fn atan(self) -> Self {
        self.chain(self.v.atan(), 1.0 / (1.0 + self.v * self.v))
    }

    pub fn scale(self, by: f32) -> Self {
        self.chain(self.v * by, by)
    }

    pub fn plus(self, constant: f32) -> Self {
        Self { v: self.v + constant, d: self.d }
    }

    /// `1 - self`.
    pub fn one_minus(self) -> Self {
        self.chain(1.0 - self.v, -1.0)
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        self.both(o, self.v + o.v, |a, b| a + b)
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self.both(o, self.v - o.v, |a, b| a - b)
    }
}

// The product and quotient rules need the operators that clippy suspects.
#[allow(clippy::suspicious_arithmetic_impl)]
impl Mul for Dual {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        self.both(o, self.v * o.v, |a, b| a * o.v + b * self.v)
    }
}

#[allow(clippy::suspicious_arithmetic_impl)]
impl Div for Dual {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        self.both(o, v, |a, b| (a - b * v) / o.v)
    }
}
