//! What the tests of the ops share.

use candle_core::{Device, Result, Tensor, Var};

pub fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub fn var(values: &[f32], shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, shape)).unwrap()
}

/// `sin(0.7 i) + 0.1 cos(i²)`: numbers without ties that torch computes alike.
pub fn wave(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|i| ((0.7 * i as f64).sin() + 0.1 * ((i * i) as f64).cos()) as f32).collect();
    tensor(&v, shape)
}

/// `cos(1.1 i)`: what results are weighted by, so that each has a gradient of its own.
pub fn weights(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|i| (1.1 * i as f64).cos() as f32).collect();
    tensor(&v, shape)
}

/// Compares with printed values; f32 on both sides, so a few units in the last place apart. NaN equals NaN.
#[track_caller]
pub fn close(ours: &Tensor, theirs: &[f32]) {
    let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-6 + 1e-5 * b.abs();
        assert!(same, "element {i}: {a}, expected {b}\n{ours:?}");
    }
}

/// The gradient of `loss`'s sum by `x`.
pub fn grad(loss: &Tensor, x: &Var) -> Tensor {
    loss.sum_all().unwrap().backward().unwrap().get(x).unwrap().clone()
}

/// The gradient of the sum of `y * weights` by `x`.
pub fn weighted_grad(y: &Tensor, x: &Var) -> Tensor {
    grad(&(y * weights(y.dims())).unwrap(), x)
}

/// Compares `f`'s gradient at `x` with central differences of `sum(f(x) * weights)`.
#[track_caller]
pub fn check_gradient(x: &Tensor, tolerance: f32, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let var = Var::from_tensor(x).unwrap();
    let ours = weighted_grad(&f(&var).unwrap(), &var).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let base = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let value = |v: &[f32]| -> f64 {
        let y = f(&tensor(v, x.dims())).unwrap();
        let w = weights(y.dims()).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        y.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
    };
    let h = 2e-3f32;
    for i in 0..base.len() {
        let (mut up, mut down) = (base.clone(), base.clone());
        up[i] += h;
        down[i] -= h;
        let slope = ((value(&up) - value(&down)) / f64::from(up[i] - down[i])) as f32;
        assert!((slope - ours[i]).abs() <= tolerance * (1.0 + slope.abs()), "element {i}: {}, slope {slope}", ours[i]);
    }
}
