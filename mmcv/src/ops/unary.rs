//! Element-wise functions of one tensor, with torch's derivatives at their corners.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build_elements, planes, sum, values, with_values};
use super::math::{erf, exp, ln_1p, sigmoid as sigmoid_of, tanh as tanh_of};
use crate::nn::{apply1, apply2};

/// A function and its derivative.
trait Unary: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    fn value(self, x: f32) -> f32;
    fn slope(self, x: f32) -> f32;
}

simd! {
    fn map<F: Unary>(f: F, x: &[f32], out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = f.value(*x);
        }
    }
}
simd! {
    fn map_slope<F: Unary>(f: F, x: &[f32], g: &[f32], out: &mut [f32]) {
        for ((o, x), g) in out.iter_mut().zip(x).zip(g) {
            *o = g * f.slope(*x);
        }
    }
}

struct Map<F>(F);

impl<F: Unary> CustomOp1 for Map<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(F::NAME, s, l)?;
        let out = build_elements(x.len(), x.len(), |at, out| map(self.0, &x[at..at + out.len()], out));
        Ok((CpuStorage::F32(out), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = with_values(F::NAME, x, |x| {
            with_values(F::NAME, grad, |g| {
                Ok(build_elements(x.len(), x.len(), |at, out| {
                    let end = at + out.len();
                    map_slope(self.0, &x[at..end], &g[at..end], out);
                }))
            })
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// Defines a unit or one-field struct, its function and derivative, and the public function that applies it.
macro_rules! unary {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*), $op:ident, |$x:ident| $value:expr, $slope:expr) => {
        #[derive(Clone, Copy)]
        struct $op { $($arg: f32),* }
        impl Unary for $op {
            const NAME: &'static str = stringify!($name);
            #[inline(always)]
            fn value(self, $x: f32) -> f32 {
                let Self { $($arg),* } = self;
                $(let _ = $arg;)*
                $value
            }
            #[inline(always)]
            fn slope(self, $x: f32) -> f32 {
                let Self { $($arg),* } = self;
                $(let _ = $arg;)*
                $slope
            }
        }
        $(#[$doc])*
        pub fn $name(x: &Tensor $(, $arg: $ty)*) -> Result<Tensor> {
            apply1(x, Map($op { $($arg: $arg as f32),* }))
        }
    };
}

unary! {
    /// `1 / (1 + e^-x)`.
    sigmoid(), Sigmoid, |x| sigmoid_of(x), {
        let y = sigmoid_of(x);
        y * (1.0 - y)
    }
}
unary! {
    /// Hyperbolic tangent.
    tanh(), Tanh, |x| tanh_of(x), {
        let y = tanh_of(x);
        1.0 - y * y
    }
}
unary! {
    /// `x sigmoid(x)`, also called Swish.
    silu(), Silu, |x| x * sigmoid_of(x), {
        let y = sigmoid_of(x);
        y * (1.0 + x * (1.0 - y))
    }
}
unary! {
    /// `x Φ(x)` with the normal distribution's Φ.
    gelu(), Gelu, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)), {
        let density = exp(-0.5 * x * x) * 0.398_942_3;
        0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
    }
}
unary! {
    /// GELU by its tanh approximation.
    gelu_tanh(), GeluTanh, |x| 0.5 * x * (1.0 + tanh_of(0.797_884_6 * (x + 0.044_715 * x * x * x))), {
        let t = tanh_of(0.797_884_6 * (x + 0.044_715 * x * x * x));
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * x * x)
    }
}
unary! {
    /// `x clamp(x + 3, 0, 6) / 6`.
    hardswish(), Hardswish, |x| x * clip(x + 3.0, 0.0, 6.0) / 6.0,
    if x < -3.0 { 0.0 } else if x <= 3.0 { x / 3.0 + 0.5 } else { 1.0 }
}
unary! {
    /// `clamp(x + 3, 0, 6) / 6`.
    hardsigmoid(), Hardsigmoid, |x| clip(x + 3.0, 0.0, 6.0) / 6.0, if x > -3.0 && x < 3.0 { 1.0 / 6.0 } else { 0.0 }
}
unary! {
    /// `x` above 0, `slope x` below; the derivative at 0 is `slope`.
    leaky_relu(slope: f64), LeakyRelu, |x| if x > 0.0 { x } else { x * slope }, if x > 0.0 { 1.0 } else { slope }
}
unary! {
    /// `x` above 0, `alpha (e^x - 1)` below.
    elu(alpha: f64), Elu, |x| if x <= 0.0 { alpha * (exp(x) - 1.0) } else { x },
    if x <= 0.0 { alpha * exp(x) } else { 1.0 }
}
unary! {
    /// `ln(1 + e^x)`; above 20, `x`.
    softplus(), Softplus, |x| if x > 20.0 { x } else { soft(x) }, if x > 20.0 { 1.0 } else { sigmoid_of(x) }
}
unary! {
    /// `x tanh(softplus(x))`.
    mish(), Mish, |x| x * tanh_of(soft(x)), {
        let t = tanh_of(soft(x));
        t + x * (1.0 - t * t) * sigmoid_of(x)
    }
}
unary! {
    /// torch's `clamp`: the derivative is 1 inside and at the bounds, 0 outside; NaN passes.
    clamp(min: f64, max: f64), Clamp, |x| clip(x, min, max), if x >= min && x <= max { 1.0 } else { 0.0 }
}
unary! {
    /// torch's `hardtanh`: as [`clamp`], but the derivative at the bounds is 0.
    hardtanh(min: f64, max: f64), Hardtanh, |x| clip(x, min, max), if x <= min || x >= max { 0.0 } else { 1.0 }
}

/// `clamp(x, 0, 6)` with derivative 0 at both, as torch's `relu6`.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    hardtanh(x, 0.0, 6.0)
}

/// Lets NaN through.
#[inline(always)]
fn clip(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

#[inline(always)]
fn soft(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + ln_1p(exp(-x.abs()))
}

/// `x` above 0, `weight x` below.
struct Prelu;

/// The factor of an element's channel.
fn weight_at(weight: &[f32], plane: usize, channels: usize) -> f32 {
    weight[if weight.len() == 1 { 0 } else { plane % channels }]
}

impl CustomOp2 for Prelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values("prelu", s1, l1)?, values("prelu", s2, l2)?);
        let channels = l1.dims()[1];
        let size: usize = l1.dims()[2..].iter().product();
        let out = build_elements(x.len(), size, |at, out| {
            let slope = weight_at(weight, at / size, channels);
            map(LeakyRelu { slope }, &x[at..at + out.len()], out);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "prelu_backward";
        let (n, channels, size) = planes(OP, x)?;
        let (dx, dw) = with_values(OP, x, |x| {
            with_values(OP, w, |weight| {
                with_values(OP, grad, |g| {
                    let dx = build_elements(x.len(), size, |at, out| {
                        let (slope, end) = (weight_at(weight, at / size, channels), at + out.len());
                        map_slope(LeakyRelu { slope }, &x[at..end], &g[at..end], out);
                    });
                    let mut dw = vec![0.0f64; weight.len()];
                    let mut part = vec![0.0f32; size];
                    for plane in 0..n * channels {
                        let range = plane * size..(plane + 1) * size;
                        for ((p, x), g) in part.iter_mut().zip(&x[range.clone()]).zip(&g[range]) {
                            *p = if *x > 0.0 { 0.0 } else { x * g };
                        }
                        dw[if weight.len() == 1 { 0 } else { plane % channels }] += sum(&part);
                    }
                    Ok((dx, dw.into_iter().map(|v| v as f32).collect::<Vec<_>>()))
                })
            })
        })?;
        let dw = Tensor::from_vec(dw, w.shape(), w.device())?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(dw)))
    }
}

/// `x` above 0, `weight x` below, with one weight or one for each channel.
///
/// # Shapes
/// - `x`: `[N, C, ...]`
/// - `weight`: `[1]` or `[C]`
pub fn prelu(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, channels, _) = planes("prelu", x)?;
    if weight.dims() != [1] && weight.dims() != [channels] {
        bail!("prelu: the input is {:?} and the weight {:?}, expected [1] or [{channels}]", x.dims(), weight.dims());
    }
    apply2(x, weight, Prelu)
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    #[rustfmt::skip]
    const X: &[f32] = &[-4.0, -3.0, -2.5, -1.0, -0.3, -0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 7.0, 25.0, f32::NAN];

    type Case = (&'static str, fn(&Tensor) -> Result<Tensor>, &'static [f32], &'static [f32]);

    // y = F.<name>(x); (y * weights(15)).sum().backward(); x.grad
    #[test]
    fn values_and_derivatives_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("sigmoid", |x| sigmoid(x), &[0.01798621, 0.047425874, 0.075858176, 0.26894143, 0.4255575, 0.5, 0.54983395, 0.7310586, 0.9241418, 0.95257413, 0.9890131, 0.9975274, 0.999089, 1.0, f32::NAN], &[0.017662706, 0.020491958, -0.04125611, -0.19415031, -0.075130075, 0.17716745, 0.23519832, 0.030155132, -0.056860633, -0.040170677, 0.00004809057, 0.0022030624, 0.00073348935, -0.0, f32::NAN]),
            ("tanh", |x| tanh(x), &[-0.9993293, -0.9950548, -0.9866143, -0.7615942, -0.29131263, -0.0, 0.19737533, 0.7615942, 0.9866143, 0.9950548, 0.99975324, 0.9999877, 0.99999833, 1.0, f32::NAN], &[0.0013408931, 0.0044751707, -0.015649568, -0.41471612, -0.28125167, 0.7086698, 0.9132143, 0.064413086, -0.021568788, -0.008772744, 0.0000021839296, 0.00002193443, 0.0000026899256, -0.0, f32::NAN]),
            ("silu", |x| silu(x), &[-0.07194484, -0.14227761, -0.18964545, -0.26894143, -0.12766725, -0.0, 0.1099668, 0.7310586, 2.3103545, 2.8577225, 4.4505587, 5.9851646, 6.993623, 25.0, f32::NAN], &[-0.05266461, -0.03996368, 0.058497664, -0.0714239, -0.10824878, 0.3543349, 0.56950974, 0.14228041, -0.89171654, -0.9675326, 0.0045934804, 0.904216, 0.8102842, -0.16211444, f32::NAN]),
            ("gelu", |x| gelu(x), &[-0.00012671947, -0.0040498674, -0.015524179, -0.15865529, -0.11462659, 0.0, 0.11585195, 0.8413447, 2.4844759, 2.9959502, 4.4999847, 6.0, 7.0, 25.0, f32::NAN], &[-0.00050362945, -0.0054184804, 0.022134155, 0.0822723, -0.08226449, 0.3543349, 0.6247478, 0.16615227, -0.84159905, -0.89981306, 0.004426001, 0.8932061, 0.80588394, -0.16211444, f32::NAN]),
            ("gelu_tanh", |x| gelu_tanh(x), &[-0.00007021427, -0.003637433, -0.015084296, -0.158808, -0.11462908, -0.0, 0.115851425, 0.841192, 2.4849157, 2.9963627, 4.4999948, 6.0, 7.0, 25.0, f32::NAN], &[-0.00033497208, -0.005254592, 0.022334589, 0.08192536, -0.08227441, 0.3543349, 0.6247381, 0.16609839, -0.8418754, -0.8994918, 0.0044258265, 0.8932061, 0.80588394, -0.16211444, f32::NAN]),
            ("hardswish", |x| hardswish(x), &[-0.0, -0.0, -0.20833333, -0.33333334, -0.135, -0.0, 0.10666668, 0.6666667, 2.2916667, 3.0, 4.5, 6.0, 7.0, 25.0, f32::NAN], &[0.0, -0.22679806, 0.19616702, -0.16457994, -0.12293315, 0.3543349, 0.53846514, 0.12781157, -1.0814573, -1.3337867, 0.004425698, 0.8932061, 0.80588394, -0.16211444, -0.9529529]),
            ("hardsigmoid", |x| hardsigmoid(x), &[0.0, 0.0, 0.083333336, 0.33333334, 0.45000002, 0.5, 0.53333336, 0.6666667, 0.9166667, 1.0, 1.0, 1.0, 1.0, 1.0, f32::NAN], &[0.0, 0.0, -0.09808352, -0.16457996, -0.051222146, 0.11811163, 0.1583721, 0.025562312, -0.13518217, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ("leaky_relu", |x| leaky_relu(x, 0.1), &[-0.4, -0.3, -0.25, -0.1, -0.030000001, -0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 7.0, 25.0, f32::NAN], &[0.1, 0.04535961, -0.05885011, -0.098747976, -0.030733287, 0.07086698, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.8932061, 0.80588394, -0.16211444, -0.095295295]),
            ("elu", |x| elu(x, 0.7), &[-0.6871791, -0.66514903, -0.64254045, -0.44248438, -0.18142726, 0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 7.0, 25.0, f32::NAN], &[0.012820947, 0.015808254, -0.033814978, -0.25429147, -0.15937445, 0.49606884, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.8932061, 0.80588394, -0.16211444, -0.9529529]),
            ("softplus", |x| softplus(x), &[0.01814993, 0.048587352, 0.078889735, 0.3132617, 0.55435526, 0.6931472, 0.79813886, 1.3132616, 2.5788898, 3.0485873, 4.511048, 6.0024757, 7.0009117, 25.0, f32::NAN], &[0.01798621, 0.021512192, -0.044642624, -0.26557422, -0.1307878, 0.3543349, 0.5224702, 0.112125285, -0.749565, -0.8470205, 0.004377073, 0.8909975, 0.80514973, -0.16211444, f32::NAN]),
            ("mish", |x| mish(x), &[-0.07259175, -0.14564747, -0.19681619, -0.30340144, -0.15113318, -0.0, 0.13259898, 0.86509836, 2.4713924, 2.986535, 4.498914, 5.9999266, 6.9999886, 25.0, f32::NAN], &[-0.053773206, -0.042362757, 0.06458421, -0.058475323, -0.12554882, 0.4252019, 0.68856174, 0.16089475, -0.844453, -0.9079593, 0.004434138, 0.8933258, 0.8059014, -0.16211444, f32::NAN]),
            ("clamp", |x| clamp(x, -3.0, 6.0), &[-3.0, -3.0, -2.5, -1.0, -0.3, -0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 6.0, 6.0, f32::NAN], &[0.0, 0.45359612, -0.5885011, -0.98747975, -0.30733287, 0.7086698, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.8932061, 0.0, 0.0, 0.0]),
            ("hardtanh", |x| hardtanh(x, -3.0, 6.0), &[-3.0, -3.0, -2.5, -1.0, -0.3, -0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 6.0, 6.0, f32::NAN], &[0.0, 0.0, -0.5885011, -0.98747975, -0.30733287, 0.7086698, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.0, 0.0, 0.0, -0.9529529]),
            ("relu6", |x| relu6(x), &[0.0, 0.0, 0.0, 0.0, 0.0, -0.0, 0.2, 1.0, 2.5, 3.0, 4.5, 6.0, 6.0, 6.0, f32::NAN], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.0, 0.0, 0.0, -0.9529529]),
        ];
        for (name, f, y, dx) in cases {
            println!("{name}");
            let x = var(X, &[15]);
            let ours = f(&x).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    // F.prelu(wave(2, 3, 2, 2), w) with w = [.25, -.5, .1], and its gradients; w.grad of w = [.25]
    #[test]
    #[rustfmt::skip]
    fn prelu_is_torchs() {
        let w = var(&[0.25, -0.5, 0.1], &[3]);
        let y = prelu(&wave(&[2, 3, 2, 2]), &w).unwrap();
        close(&y, &[0.1, 0.6982479, 0.9200854, 0.77209634, 0.2392222, 0.12583147, 0.44218606, 0.47619668, -0.05920809, 0.0944825, 0.7432185, 0.9833019, 0.94171363, 0.39894798, -0.08305812, -0.21074095, 0.4915784, 0.25908613, 0.028924985, 0.5735519, 0.93807775, 0.8841139, 0.40122834, -0.034699734]);
        close(&weighted_grad(&y, &w), &[0.90869725, -2.0212207, 0.13807777]);
        let w = var(&[0.25], &[1]);
        close(&weighted_grad(&prelu(&wave(&[2, 3, 2, 2]), &w).unwrap(), &w), &[-0.9744456]);
        check_gradient(&wave(&[2, 2, 3]), 1e-2, |x| prelu(x, &w)? + prelu(&x.transpose(0, 1)?, &w));
        assert!(prelu(&wave(&[2, 3]), &var(&[0.0; 2], &[2])).is_err());
        let x = var(&[], &[0, 3, 4]);
        assert_eq!(grad(&prelu(&sigmoid(&x).unwrap(), &w).unwrap(), &x).dims(), &[0, 3, 4]);
    }
}
