//! The image operations against cv2 4.8.1 and mmcv-full 1.7.2: `tests/golden/image/*.safetensors`, made by the
//! `make.py` beside them. A key holds the operation and its parameters, so that a case is a line of that script.
//! `MMRS_IMAGE_GOLDEN` names a folder of further files made by the same script (`make.py FOLDER big`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::*;

/// Parameters of one case.
pub(super) struct Case<'a> {
    key: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

impl<'a> Case<'a> {
    fn parse(key: &'a str) -> Self {
        Self { key, fields: key.split('|').filter_map(|f| f.split_once('=')).collect() }
    }

    pub(super) fn text(&self, name: &str) -> &'a str {
        self.fields.get(name).unwrap_or_else(|| panic!("{}: no '{name}'", self.key))
    }

    pub(super) fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{}: '{name}' is no number", self.key))
    }

    pub(super) fn size(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// A name of one of mmcv's enums.
    pub(super) fn named<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(serde_json::Value::String(self.text(name).into())).unwrap()
    }
}

fn image(t: &Tensor) -> Image {
    let (h, w, c) = t.dims3().unwrap();
    let flat = t.flatten_all().unwrap();
    let pixels = match t.dtype() {
        DType::U8 => Pixels::U8(flat.to_vec1().unwrap()),
        _ => Pixels::F32(flat.to_vec1().unwrap()),
    };
    Image::new(h, w, c, pixels).unwrap()
}

/// Largest difference, and how many values differ.
fn difference(a: &Image, b: &Image) -> (f32, usize) {
    assert_eq!(a.shape(), b.shape());
    let f = |i: &Image| match i.clone().into_f32().into_pixels() {
        Pixels::F32(v) => v,
        Pixels::U8(_) => unreachable!(),
    };
    let differences = f(a).into_iter().zip(f(b)).map(|(a, b)| (a - b).abs());
    differences.fold((0.0, 0), |(max, n), d| (d.max(max), n + usize::from(d != 0.0)))
}

/// Runs the cases of the files; `run` gives the result and the bound.
fn check(files: &[&str], run: impl Fn(&Case, &Image) -> (Image, f32)) {
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/image"))];
    folders.extend(std::env::var_os("MMRS_IMAGE_GOLDEN").map(PathBuf::from));
    let mut failures = Vec::new();
    for path in folders.iter().flat_map(|folder| files.iter().map(move |f| folder.join(f))) {
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let mut keys: Vec<_> = tensors.keys().filter(|k| k.starts_with("op=")).collect();
        keys.sort();
        assert!(!keys.is_empty(), "{}", path.display());
        for key in keys {
            let case = Case::parse(key);
            let input = image(&tensors[&format!("in={}", case.text("in"))]);
            let expected = image(&tensors[key]);
            let (result, bound) = run(&case, &input);
            if result.shape() != expected.shape() {
                failures.push(format!("{key}: {:?} in place of {:?}", result.shape(), expected.shape()));
                continue;
            }
            let same_kind = matches!(result.pixels(), Pixels::U8(_)) == matches!(expected.pixels(), Pixels::U8(_));
            let (max, n) = difference(&result, &expected);
            if !same_kind || max.is_nan() || max > bound {
                failures.push(format!("{key}: {n} values differ by up to {max} (bound {bound})"));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n"));
}

const MEAN: [f64; 3] = [123.675, 116.28, 103.53];
const STD: [f64; 3] = [58.395, 57.12, 57.375];

#[test]
fn resizing_and_normalizing_are_cv2s() {
    check(&["resize.safetensors"], |case, input| {
        let is_u8 = matches!(input.pixels(), Pixels::U8(_));
        match case.text("op") {
            "resize" => {
                let i: Interpolation = case.named("i");
                let bound = match i {
                    Interpolation::Nearest => 0.0,
                    Interpolation::Bilinear | Interpolation::Area if is_u8 => 0.0,
                    _ if is_u8 => 1.0,
                    _ => 1.5e-2,
                };
                (imresize(input, (case.size("w"), case.size("h")), i).unwrap(), bound)
            }
            "normalize" => (imnormalize(input, &MEAN, &STD, case.size("rgb") == 1).unwrap(), 0.0),
            "denormalize" => (imdenormalize(input, &MEAN, &STD, case.size("rgb") == 1).unwrap(), 0.0),
            other => panic!("unknown operation {other}"),
        }
    });
}
