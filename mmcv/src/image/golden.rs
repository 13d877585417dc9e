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

    /// `1,2.5,3`.
    fn list(&self, name: &str) -> Vec<f64> {
        self.text(name).split(',').map(|v| v.parse().unwrap()).collect()
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
    for (i, path) in folders.iter().flat_map(|folder| files.iter().map(move |f| folder.join(f))).enumerate() {
        if i >= files.len() && !path.exists() {
            continue;
        }
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let mut keys: Vec<_> = tensors.keys().filter(|k| k.starts_with("op=")).collect();
        keys.sort();
        assert!(!keys.is_empty(), "{}", path.display());
        for key in keys {
            let case = Case::parse(key);
            let input = match &tensors[&format!("in={}", case.text("in"))] {
                bytes if bytes.dims().len() == 1 => {
                    Image::new(1, bytes.elem_count(), 1, Pixels::U8(bytes.to_vec1().unwrap())).unwrap()
                }
                pixels => image(pixels),
            };
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
            "pillow" => (imresize_pillow(input, (case.size("w"), case.size("h")), case.named("i")).unwrap(), 0.0),
            "normalize" => (imnormalize(input, &MEAN, &STD, case.size("rgb") == 1).unwrap(), 0.0),
            "denormalize" => (imdenormalize(input, &MEAN, &STD, case.size("rgb") == 1).unwrap(), 0.0),
            other => panic!("unknown operation {other}"),
        }
    });
}

/// Exact. Without libjpeg only the shapes of JPEGs are compared: the file's inks and orientation, not its levels.
#[test]
fn decoding_is_cv2s_and_pillows() {
    check(&["decode.safetensors"], |case, input| {
        let Pixels::U8(bytes) = input.pixels() else { panic!() };
        let (flag, order, backend) = (case.named("flag"), case.named("order"), case.named("backend"));
        let bound = if cfg!(feature = "turbojpeg") || !case.text("in").ends_with("jpg") { 0.0 } else { 255.0 };
        (imfrombytes(bytes, flag, order, Some(backend)).unwrap_or_else(|e| panic!("{}: {e}", case.key)), bound)
    });
}

#[test]
fn warps_are_cv2s() {
    check(&["warp.safetensors"], |case, input| {
        let border = case.list("value");
        let warp = Warp { interpolation: case.named("i"), border_mode: case.named("border"), border_value: &border };
        let m = || case.list("m");
        let size = || (case.size("w"), case.size("h"));
        let bound = if matches!(input.pixels(), Pixels::U8(_)) { 0.0 } else { 2.5e-3 };
        let result = match case.text("op") {
            "affine" => {
                let m = m();
                warp_affine(input, [[m[0], m[1], m[2]], [m[3], m[4], m[5]]], size(), warp)
            }
            "perspective" => {
                let m = m();
                warp_perspective(input, std::array::from_fn(|r| std::array::from_fn(|c| m[r * 3 + c])), size(), warp)
            }
            "rotate" => imrotate(input, case.number("angle"), None, case.number("scale"), case.size("auto") == 1, warp),
            "translate" => imtranslate(input, case.number("offset"), case.named("direction"), warp),
            "shear" => imshear(input, case.number("magnitude"), case.named("direction"), warp),
            other => panic!("unknown operation {other}"),
        };
        (result.unwrap(), bound)
    });
}

#[test]
fn colours_and_values_are_cv2s_and_mmcvs() {
    check(&["values.safetensors"], |case, input| {
        let is_u8 = matches!(input.pixels(), Pixels::U8(_));
        let p = || case.list("p");
        let (exact, level, close) = (0.0, if is_u8 { 1.0 } else { 1e-3 }, if is_u8 { 0.0 } else { 1e-3 });
        let (result, bound) = match case.text("op") {
            "bgr2gray" => (bgr2gray(input), close),
            "bgr2hsv" => (bgr2hsv(input), close),
            "hsv2bgr" => (hsv2bgr(input), level),
            "bgr2hls" => (bgr2hls(input), level),
            "hls2bgr" => (hls2bgr(input), level),
            "rgb2ycbcr" => (rgb2ycbcr(input, false), level),
            "bgr2ycbcr" => (bgr2ycbcr(input, false), level),
            "bgr2y" => (bgr2ycbcr(input, true), level),
            "ycbcr2rgb" => (ycbcr2rgb(input), level),
            "ycbcr2bgr" => (ycbcr2bgr(input), level),
            "iminvert" => (Ok(iminvert(input)), exact),
            "solarize" => (Ok(solarize(input, p()[0])), exact),
            "posterize" => (posterize(input, p()[0] as u32), exact),
            "imequalize" => (imequalize(input), exact),
            "auto_contrast" => (auto_contrast(input, (p()[0], p()[1])), exact),
            "adjust_color" => (adjust_color(input, p()[0], None, p()[1]), level),
            "adjust_brightness" => (Ok(adjust_brightness(input, p()[0])), level),
            "adjust_contrast" => (adjust_contrast(input, p()[0]), level),
            "adjust_sharpness" => (adjust_sharpness(input, p()[0], None), level),
            "adjust_hue" => (adjust_hue(input, p()[0]), 1.0),
            "clahe" => (clahe(input, p()[0], (p()[1] as usize, p()[2] as usize)), level),
            "lut" => (lut_transform(input, &std::array::from_fn(|i| (i * 7 % 256) as u8)), exact),
            "cutout" => {
                let p = p();
                (cutout(input, (p[0] as usize, p[1] as usize), (p[2], p[3]), &p[4..]), exact)
            }
            other => panic!("unknown operation {other}"),
        };
        (result.unwrap(), bound)
    });
}
