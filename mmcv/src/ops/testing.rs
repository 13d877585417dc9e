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

/// One case of a file of `tests/golden/ops`, made by the `make.py` beside it.
pub struct Golden {
    params: String,
    tensors: std::collections::HashMap<String, Tensor>,
}

/// The cases of an op.
#[track_caller]
pub fn golden(op: &str) -> Vec<Golden> {
    let path = format!("{}/tests/golden/ops/{op}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let mut cases = std::collections::BTreeMap::<String, std::collections::HashMap<String, Tensor>>::new();
    for (key, t) in candle_core::safetensors::load(&path, &Device::Cpu).unwrap() {
        let (params, name) = key.split_once('/').unwrap();
        cases.entry(params.to_owned()).or_default().insert(name.to_owned(), t);
    }
    assert!(!cases.is_empty(), "{path}");
    cases.into_iter().map(|(params, tensors)| Golden { params, tensors }).collect()
}

impl Golden {
    /// A parameter, if the case has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.split('|').filter_map(|p| p.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
    }

    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("{}: no '{name}'", self.params))
    }

    pub fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{}: '{name}' is no number", self.params))
    }

    pub fn size(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// `1,2,3`.
    pub fn list(&self, name: &str) -> Vec<usize> {
        self.text(name).split(',').filter(|v| !v.is_empty()).map(|v| v.parse().unwrap()).collect()
    }

    /// A name of an enum.
    pub fn named<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(serde_json::Value::String(self.text(name).into())).unwrap()
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor '{name}'", self.params))
    }

    /// Compares a tensor with the file's `name`: relative to the largest value, f32 sums in another order on both sides.
    #[track_caller]
    pub fn same(&self, name: &str, ours: &Tensor) {
        let theirs = self.tensor(name);
        assert_eq!(ours.dims(), theirs.dims(), "{}: {name}", self.params);
        let list = |t: &Tensor| -> Vec<f64> {
            t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let (ours, theirs) = (list(ours), list(theirs));
        let largest = theirs.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let same = a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= 2e-6 + 4e-6 * largest.min(b.abs().max(0.25 * largest));
            assert!(same, "{}: {name}[{i}] is {a}, expected {b} (largest {largest})", self.params);
        }
    }

    /// Compares `f` of the case's tensors with `y`, and the gradients of `sum(y * weights)` by `wanted` with `d{name}`.
    #[track_caller]
    pub fn check(
        &self,
        y: &str,
        wanted: &[&str],
        f: impl Fn(&std::collections::HashMap<String, Tensor>) -> Result<Tensor>,
    ) {
        let mut inputs = self.tensors.clone();
        let vars: Vec<(&str, Var)> = wanted.iter().map(|n| (*n, Var::from_tensor(self.tensor(n)).unwrap())).collect();
        for (name, v) in &vars {
            inputs.insert((*name).to_owned(), v.as_tensor().clone());
        }
        let ours = f(&inputs).unwrap_or_else(|e| panic!("{}: {e}", self.params));
        self.same(y, &ours);
        let grads = (&ours * weights(ours.dims())).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, v) in &vars {
            let zero = v.zeros_like().unwrap();
            self.same(&format!("d{name}"), grads.get(v).unwrap_or(&zero));
        }
    }
}
