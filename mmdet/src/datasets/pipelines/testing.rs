//! The sample that the steps' tests share. Expected numbers come from mmdet 2.28.2 on the same sample:
//!
//! ```python
//! y, x, c = np.meshgrid(np.arange(37), np.arange(53), np.arange(3), indexing='ij')
//! img = ((x*7 + y*13 + c*29 + (x*y) % 17) % 256).astype(np.uint8)
//! gt_bboxes = np.array([[3.5,4.25,20.75,30.5],[10,-3,60,12],[50.2,35.1,52.9,36.9]], dtype=np.float32)
//! gt_bboxes_ignore = np.array([[0,0,8,9.5]], dtype=np.float32)
//! gt_labels = np.array([0, 1, 2])
//! polygon = [4., 3., 20., 5., 18., 30., 6., 25.]
//! ```

use mmcv::config::Node;
use mmcv::image::{Image, Pixels};
use mmcv::registry::build;
use mmcv::{Result, Rng};

use super::{InstanceMasks, PIPELINES, Picture, Results, Transform};
use crate::core::AnnMask;

pub const POLYGON: [f64; 8] = [4.0, 3.0, 20.0, 5.0, 18.0, 30.0, 6.0, 25.0];

pub fn sample() -> Results {
    let (h, w) = (37, 53);
    let value = |i: usize| {
        let (y, x, c) = (i / (w * 3), i / 3 % w, i % 3);
        ((x * 7 + y * 13 + c * 29 + (x * y) % 17) % 256) as u8
    };
    let image = Image::new(h, w, 3, Pixels::U8((0..h * w * 3).map(value).collect())).unwrap();
    Results {
        img: Some(Picture::new(image)),
        img_shape: Some([h, w, 3]),
        ori_shape: Some([h, w, 3]),
        filename: Some("a.jpg".into()),
        ori_filename: Some("a.jpg".into()),
        gt_bboxes: Some(vec![[3.5, 4.25, 20.75, 30.5], [10.0, -3.0, 60.0, 12.0], [50.2, 35.1, 52.9, 36.9]]),
        gt_labels: Some(vec![0, 1, 2]),
        gt_bboxes_ignore: Some(vec![[0.0, 0.0, 8.0, 9.5]]),
        ..Results::default()
    }
}

pub fn bitmap() -> InstanceMasks {
    InstanceMasks::bitmaps(&[AnnMask::Polygons(vec![POLYGON.to_vec()])], 37, 53).unwrap()
}

pub fn polygon() -> InstanceMasks {
    InstanceMasks::polygons(&[AnnMask::Polygons(vec![POLYGON.to_vec()])], 37, 53).unwrap()
}

/// The step that a JSON config asks for.
pub fn step(json: &str) -> Result<Box<dyn Transform>> {
    build(&PIPELINES, &Node::from_json(json).unwrap(), ())
}

/// Runs a step that keeps the sample.
pub fn run(json: &str, results: Results) -> Results {
    step(json).unwrap().apply(results, &mut Rng::new(1)).unwrap().unwrap()
}

/// The message of a config that is refused.
pub fn refused(json: &str) -> String {
    step(json).err().map(|e| e.to_string()).unwrap_or_default()
}

pub fn image(results: &Results) -> Image {
    results.img.clone().unwrap().into_image().unwrap()
}

/// The bytes of an image.
pub fn bytes(image: &Image) -> &[u8] {
    let Pixels::U8(v) = image.pixels() else { panic!("bytes") };
    v
}

pub fn sum(image: &Image) -> u64 {
    bytes(image).iter().map(|v| u64::from(*v)).sum()
}
