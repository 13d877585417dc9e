//! From images to tensors; mmcls's `formatting.py`.

use candle_core::{DType, Device, Tensor};
use mmcv::image::{Image, Pixels};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform};

/// `type = "ImageToTensor"` and `type = "ToTensor"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// What is converted: `img`, `gt_label`.
    pub keys: Vec<String>,
}

/// `type = "Collect"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectConfig {
    /// What goes on to the network: `img`, `gt_label`.
    pub keys: Vec<String>,
    /// Accepted: what a sample says of its image is not chosen here.
    #[serde(default)]
    #[allow(dead_code)] // so that configs that give it are taken
    pub meta_keys: Option<Vec<String>>,
}

fn known(keys: &[String]) -> Result<()> {
    match keys.iter().find(|k| !["img", "gt_label"].contains(&k.as_str())) {
        Some(k) => Err(Error::config(format!("'{k}' is none (allowed: 'img', 'gt_label')")).under("keys")),
        None => Ok(()),
    }
}

fn only_image(keys: &[String]) -> Result<()> {
    match keys.iter().find(|k| *k != "img") {
        Some(k) => Err(Error::config(format!("'{k}' can't be changed so (allowed: 'img')")).under("keys")),
        None => Ok(()),
    }
}

/// The image `[H, W, C]` becomes a tensor `[C, H, W]`.
pub struct ImageToTensor;

impl ImageToTensor {
    /// An error for keys that are none.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        known(&cfg.keys).map(|()| Self)
    }
}

impl Transform for ImageToTensor {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        results.tensor = Some(results.take_image("ImageToTensor")?.to_chw_tensor()?);
        Ok(())
    }
}

/// The label becomes a tensor with its batch; until then it is a number. The image becomes a tensor with its axes as they are.
pub struct ToTensor {
    image: bool,
}

impl ToTensor {
    /// An error for keys that are none.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        known(&cfg.keys)?;
        Ok(Self { image: cfg.keys.iter().any(|k| k == "img") })
    }
}

impl Transform for ToTensor {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        // A tensor stays one.
        if self.image && results.tensor.is_none() {
            results.tensor = Some(as_it_is(results.take_image("ToTensor")?)?);
        }
        Ok(())
    }
}

/// The values of an image with its axes as they are, f32.
fn as_it_is(image: Image) -> Result<Tensor> {
    let shape = image.shape().to_vec();
    let values = match image.into_f32().into_pixels() {
        Pixels::F32(v) => v,
        Pixels::U8(v) => v.into_iter().map(f32::from).collect(),
    };
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// `type = "Transpose"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransposeConfig {
    /// `img`.
    pub keys: Vec<String>,
    /// The image's axes (0: height, 1: width, 2: channels) in their new order.
    pub order: Vec<usize>,
}

/// The image's axes change places.
pub struct Transpose([usize; 3]);

impl Transpose {
    /// An error unless `order` has each of three axes once.
    pub fn new(cfg: &TransposeConfig) -> Result<Self> {
        only_image(&cfg.keys)?;
        let mut sorted = cfg.order.clone();
        sorted.sort_unstable();
        match (sorted.as_slice(), cfg.order.as_slice()) {
            ([0, 1, 2], [a, b, c]) => Ok(Self([*a, *b, *c])),
            _ => {
                let message = format!("is {:?}, expected the axes 0, 1 and 2 in some order", cfg.order);
                Err(Error::config(message).under("order"))
            }
        }
    }
}

/// `values` of axes `shape` with the axes in another order.
fn permuted<T: Copy>(values: &[T], shape: [usize; 3], order: [usize; 3]) -> Vec<T> {
    let strides = [shape[1] * shape[2], shape[2], 1];
    let [n0, n1, n2] = order.map(|axis| shape[axis]);
    let [s0, s1, s2] = order.map(|axis| strides[axis]);
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n0 {
        for j in 0..n1 {
            out.extend((0..n2).map(|k| values[i * s0 + j * s1 + k * s2]));
        }
    }
    out
}

impl Transform for Transpose {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("Transpose")?;
        let shape = image.shape();
        let pixels = match image.pixels() {
            Pixels::U8(v) => Pixels::U8(permuted(v, shape, self.0)),
            Pixels::F32(v) => Pixels::F32(permuted(v, shape, self.0)),
        };
        let [h, w, c] = self.0.map(|axis| shape[axis]);
        results.img = Some(Image::new(h, w, c, pixels)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Transpose" => Transpose(TransposeConfig));

/// `type = "ToPIL"`, `"ToNumpy"` and `"WrapFieldsToLists"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A Pillow image in the original, for torchvision's steps; the image here is one and the same, which must be of bytes.
pub struct ToPil;

impl ToPil {
    /// There is nothing to refuse.
    pub fn new(_: &NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Transform for ToPil {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("ToPIL")?;
        if matches!(image.pixels(), Pixels::F32(_)) {
            return Err(Error::data(&results.filename, "ToPIL needs an image of bytes: it comes before Normalize"));
        }
        results.img = Some(image);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ToPIL" => ToPil(NoConfig));

/// Values become f32.
pub struct ToNumpy;

impl ToNumpy {
    /// There is nothing to refuse.
    pub fn new(_: &NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Transform for ToNumpy {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        results.img = Some(results.take_image("ToNumpy")?.into_f32());
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ToNumpy" => ToNumpy(NoConfig));

/// Lists of one in the original, for inference on one image; batches are made all the same here.
pub struct WrapFieldsToLists;

impl WrapFieldsToLists {
    /// There is nothing to refuse.
    pub fn new(_: &NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Transform for WrapFieldsToLists {
    fn apply(&self, _: &mut Results, _: &mut Rng) -> Result<()> {
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "WrapFieldsToLists" => WrapFieldsToLists(NoConfig));

/// Values are rounded to f16, and handed on as f32, which networks take.
pub struct ToHalf;

impl ToHalf {
    /// An error for other keys than `img`.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        only_image(&cfg.keys).map(|()| Self)
    }
}

fn rounded(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F16)?.to_dtype(DType::F32)?)
}

impl Transform for ToHalf {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        if let Some(tensor) = &results.tensor {
            results.tensor = Some(rounded(tensor)?);
            return Ok(());
        }
        let image = results.take_image("ToHalf")?;
        let [h, w, c] = image.shape();
        let values = rounded(&as_it_is(image)?)?.flatten_all()?.to_vec1::<f32>()?;
        results.img = Some(Image::new(h, w, c, Pixels::F32(values))?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ToHalf" => ToHalf(KeysConfig));

/// Ends a pipeline.
pub struct Collect;

impl Collect {
    /// An error unless the image is among the keys.
    pub fn new(cfg: &CollectConfig) -> Result<Self> {
        known(&cfg.keys)?;
        if !cfg.keys.iter().any(|k| k == "img") {
            return Err(Error::config("'img' is not in it").under("keys"));
        }
        Ok(Self)
    }
}

impl Transform for Collect {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        results.collected = true;
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ImageToTensor" => ImageToTensor(KeysConfig));
register!(PIPELINES: dyn Transform, "ToTensor" => ToTensor(KeysConfig));
register!(PIPELINES: dyn Transform, "Collect" => Collect(CollectConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;

    use super::super::Pipeline;
    use super::*;

    fn run(steps: &[&str], image: &Image) -> Result<Results> {
        let steps: Vec<Node> = steps.iter().map(|s| Node::from_json(s).unwrap()).collect();
        let results = Results { img: Some(image.clone()), ..Results::default() };
        Pipeline::new(&steps)?.run(results, &mut Rng::new(0))
    }

    // Compose([Transpose(['img'], (2, 0, 1)), ToTensor(['img'])])(dict(img=np.arange(12, dtype=np.uint8).reshape(2, 2, 3)))
    #[test]
    fn a_transposed_image_is_what_image_to_tensor_makes() {
        let image = Image::new(2, 2, 3, Pixels::U8((0..12).collect())).unwrap();
        let steps = [
            r#"{"type": "Transpose", "keys": ["img"], "order": [2, 0, 1]}"#,
            r#"{"type": "ToTensor", "keys": ["img"]}"#,
        ];
        let tensor = run(&steps, &image).unwrap().tensor.unwrap();
        let want = [[[0f32, 3.0], [6.0, 9.0]], [[1.0, 4.0], [7.0, 10.0]], [[2.0, 5.0], [8.0, 11.0]]];
        assert_eq!(tensor.to_vec3::<f32>().unwrap(), want);
        let same = run(&[r#"{"type": "ImageToTensor", "keys": ["img"]}"#], &image).unwrap().tensor.unwrap();
        assert_eq!(same.to_vec3::<f32>().unwrap(), want);
        for wrong in [r#""order": [0, 1]"#, r#""order": [0, 1, 1]"#, r#""order": [0, 1, 3]"#] {
            let step = format!(r#"{{"type": "Transpose", "keys": ["img"], {wrong}}}"#);
            assert!(run(&[step.as_str()], &image).err().unwrap().is_usage(), "{wrong}");
        }
    }

    // np.float32([2049, 0.1]).astype(np.float16).astype(np.float32)
    #[test]
    fn halves_have_eleven_bits() {
        let image = Image::new(1, 2, 1, Pixels::F32(vec![2049.0, 0.1])).unwrap();
        let out = run(&[r#"{"type": "ToHalf", "keys": ["img"]}"#], &image).unwrap().img.unwrap();
        assert_eq!(out.pixels(), &Pixels::F32(vec![2048.0, 0.099975586]));
        assert!(run(&[r#"{"type": "ToPIL"}"#], &image).is_err());
        let bytes = Image::new(1, 1, 1, Pixels::U8(vec![3])).unwrap();
        let out = run(&[r#"{"type": "ToPIL"}"#, r#"{"type": "ToNumpy"}"#], &bytes).unwrap().img.unwrap();
        assert_eq!(out.pixels(), &Pixels::F32(vec![3.0]));
    }
}
