//! Instance masks in a pipeline: mmdet's `BitmapMasks` and `PolygonMasks`.

use mmcv::image::{FlipDirection, Image, Interpolation, PadMode, Pixels, crop, imflip, impad, imresize, rescale_size};
use mmcv::{Error, Result};

use super::resize::within;
use super::results::retain;
use crate::core::mask::Rle;
use crate::core::{AnnMask, BBox};

/// The masks of one image's instances, all of the image's size.
#[derive(Debug, Clone, PartialEq)]
pub enum InstanceMasks {
    /// One byte per pixel, 0 or 1, one channel.
    Bitmap {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// One per instance.
        masks: Vec<Image>,
    },
    /// Polygons `[x0, y0, x1, y1, ...]`; several may make one instance.
    Polygon {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// One list per instance.
        masks: Vec<Vec<Vec<f64>>>,
    },
}

/// The values of a one-channel byte image.
fn bytes(mask: &Image) -> &[u8] {
    match mask.pixels() {
        Pixels::U8(v) => v,
        Pixels::F32(_) => &[],
    }
}

impl InstanceMasks {
    /// `[height, width]` of the image they belong to.
    pub fn size(&self) -> [usize; 2] {
        match self {
            Self::Bitmap { height, width, .. } | Self::Polygon { height, width, .. } => [*height, *width],
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bitmap { masks, .. } => masks.len(),
            Self::Polygon { masks, .. } => masks.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps those that `keep` marks.
    pub fn retain(&mut self, keep: &[bool]) {
        match self {
            Self::Bitmap { masks, .. } => retain(masks, keep),
            Self::Polygon { masks, .. } => retain(masks, keep),
        }
    }

    /// Resized to fit `scale` (its greater value bounds the long edge, its smaller the short one).
    pub fn rescale(self, scale: [f64; 2]) -> Result<Self> {
        let [height, width] = self.size();
        let (w, h) = rescale_size((width, height), within(scale))?.0;
        self.resize([h, w])
    }

    /// Resized to `[height, width]`: bitmaps by the nearest pixel.
    pub fn resize(self, [h, w]: [usize; 2]) -> Result<Self> {
        Ok(match self {
            Self::Bitmap { masks, .. } => {
                let masks =
                    masks.iter().map(|m| imresize(m, (w, h), Interpolation::Nearest)).collect::<Result<Vec<_>>>()?;
                Self::Bitmap { height: h, width: w, masks }
            }
            Self::Polygon { height, width, mut masks } => {
                let (sy, sx) = (h as f64 / height as f64, w as f64 / width as f64);
                map_points(&mut masks, |x, y| (x * sx, y * sy));
                Self::Polygon { height: h, width: w, masks }
            }
        })
    }

    /// Mirrored.
    pub fn flip(self, direction: FlipDirection) -> Result<Self> {
        Ok(match self {
            Self::Bitmap { height, width, masks } => {
                Self::Bitmap { height, width, masks: masks.iter().map(|m| imflip(m, direction)).collect() }
            }
            Self::Polygon { height, width, mut masks } => {
                let (h, w) = (height as f64, width as f64);
                let (across, down) = (direction != FlipDirection::Vertical, direction != FlipDirection::Horizontal);
                map_points(&mut masks, |x, y| (if across { w - x } else { x }, if down { h - y } else { y }));
                Self::Polygon { height, width, masks }
            }
        })
    }

    /// Enlarged at the right and bottom to `[height, width]`; bitmaps are filled with `value`.
    pub fn pad(self, [h, w]: [usize; 2], value: f64) -> Result<Self> {
        Ok(match self {
            Self::Bitmap { masks, .. } => {
                let masks =
                    masks.iter().map(|m| impad(m, (h, w), &[value], PadMode::Constant)).collect::<Result<Vec<_>>>()?;
                Self::Bitmap { height: h, width: w, masks }
            }
            Self::Polygon { masks, .. } => Self::Polygon { height: h, width: w, masks },
        })
    }

    /// The part inside `[x1, y1, x2, y2]`, which is clipped to the image first; at least one pixel.
    pub fn crop(self, [x1, y1, x2, y2]: [usize; 4]) -> Self {
        let [height, width] = self.size();
        let (x1, x2, y1, y2) = (x1.min(width), x2.min(width), y1.min(height), y2.min(height));
        let (w, h) = (x2.saturating_sub(x1).max(1), y2.saturating_sub(y1).max(1));
        match self {
            Self::Bitmap { masks, .. } => {
                let masks = masks.iter().map(|m| crop(m, y1, x1, h, w)).collect();
                Self::Bitmap { height: h, width: w, masks }
            }
            Self::Polygon { mut masks, .. } => {
                map_points(&mut masks, |x, y| (x - x1 as f64, y - y1 as f64));
                Self::Polygon { height: h, width: w, masks }
            }
        }
    }

    /// Placed at `(left, top)` on an empty canvas of `[height, width]`; an error for polygons, as in mmdet.
    pub fn expand(self, [h, w]: [usize; 2], top: usize, left: usize) -> Result<Self> {
        let Self::Bitmap { masks, .. } = self else {
            return Err(Error::config(
                "Expand: polygon masks can't be expanded; set poly2mask=True in LoadAnnotations",
            ));
        };
        let place = |m: &Image| {
            let mut canvas = vec![0; h * w];
            for (y, row) in bytes(m).chunks_exact(m.width().max(1)).enumerate() {
                let at = (top + y) * w + left;
                canvas[at..at + row.len()].copy_from_slice(row);
            }
            Image::new(h, w, 1, Pixels::U8(canvas))
        };
        Ok(Self::Bitmap { height: h, width: w, masks: masks.iter().map(place).collect::<Result<_>>()? })
    }

    /// How many pixels each covers: counted for bitmaps, by the shoelace formula for polygons.
    pub fn areas(&self) -> Vec<f64> {
        match self {
            Self::Bitmap { masks, .. } => {
                masks.iter().map(|m| bytes(m).iter().map(|v| u64::from(*v)).sum::<u64>() as f64).collect()
            }
            Self::Polygon { masks, .. } => masks.iter().map(|m| m.iter().map(|p| polygon_area(p)).sum()).collect(),
        }
    }

    /// The smallest box around each; all zero for an empty bitmap.
    pub fn bboxes(&self) -> Vec<BBox> {
        match self {
            Self::Bitmap { masks, .. } => masks.iter().map(bitmap_box).collect(),
            Self::Polygon { height, width, masks } => {
                masks.iter().map(|m| polygon_box(m, *width as f32, *height as f32)).collect()
            }
        }
    }

    /// As annotations: bitmaps become run lengths.
    pub fn into_ann(self) -> Vec<AnnMask> {
        match self {
            Self::Bitmap { masks, height, width } => {
                masks.iter().map(|m| AnnMask::Rle(Rle::encode(bytes(m), height, width))).collect()
            }
            Self::Polygon { masks, .. } => masks.into_iter().map(AnnMask::Polygons).collect(),
        }
    }

    /// Bitmaps of annotated masks in an image of `height` x `width`.
    pub fn bitmaps(masks: &[AnnMask], height: usize, width: usize) -> Result<Self> {
        let decode = |mask: &AnnMask| {
            let rle = match mask {
                AnnMask::Polygons(polygons) => Rle::from_polygons(polygons, height, width),
                AnnMask::Rle(rle) => rle.clone(),
            };
            let (h, w) = (rle.height(), rle.width());
            if (h, w) != (height, width) {
                return Err(Error::config(format!("a mask of {h}x{w} in an image of {height}x{width}")));
            }
            Image::new(height, width, 1, Pixels::U8(rle.decode()))
        };
        Ok(Self::Bitmap { height, width, masks: masks.iter().map(decode).collect::<Result<_>>()? })
    }

    /// Polygons of annotated masks; those with an odd number of values or fewer than three points are left out.
    /// `None` when one is given as run lengths.
    pub fn polygons(masks: &[AnnMask], height: usize, width: usize) -> Option<Self> {
        let valid = |p: &&Vec<f64>| p.len().is_multiple_of(2) && p.len() >= 6;
        let masks = masks
            .iter()
            .map(|m| match m {
                AnnMask::Polygons(polygons) => Some(polygons.iter().filter(valid).cloned().collect()),
                AnnMask::Rle(_) => None,
            })
            .collect::<Option<Vec<Vec<Vec<f64>>>>>()?;
        Some(Self::Polygon { height, width, masks })
    }
}

fn map_points(masks: &mut [Vec<Vec<f64>>], f: impl Fn(f64, f64) -> (f64, f64)) {
    for polygon in masks.iter_mut().flatten() {
        for point in polygon.chunks_exact_mut(2) {
            (point[0], point[1]) = f(point[0], point[1]);
        }
    }
}

fn bitmap_box(mask: &Image) -> BBox {
    let width = mask.width();
    let mut found: Option<[usize; 4]> = None;
    for (i, _) in bytes(mask).iter().enumerate().filter(|(_, v)| **v != 0) {
        let (x, y) = (i % width, i / width);
        let [x1, y1, x2, y2] = found.unwrap_or([x, y, x + 1, y + 1]);
        found = Some([x1.min(x), y1.min(y), x2.max(x + 1), y2.max(y + 1)]);
    }
    found.map_or([0.0; 4], |b| b.map(|v| v as f32))
}

fn polygon_box(polygons: &[Vec<f64>], width: f32, height: f32) -> BBox {
    // mmdet's starting values: an instance without polygons gets the box they make.
    let (mut low, mut high) = ([width * 2.0, height * 2.0], [0.0f32, 0.0]);
    for point in polygons.iter().flat_map(|p| p.chunks_exact(2)) {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis] as f32);
            high[axis] = high[axis].max(point[axis] as f32);
        }
    }
    [low[0], low[1], high[0], high[1]]
}

fn polygon_area(p: &[f64]) -> f64 {
    let n = p.len() / 2;
    let cross = |i: usize| {
        let j = (i + n - 1) % n;
        p[2 * i] * p[2 * j + 1] - p[2 * i + 1] * p[2 * j]
    };
    0.5 * (0..n).map(cross).sum::<f64>().abs()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{POLYGON, bitmap, polygon};
    use super::*;

    #[test]
    fn areas_and_boxes_are_mmdets() {
        // BitmapMasks([bm], 37, 53).areas, .get_bboxes(); PolygonMasks([[polygon]], 37, 53) likewise
        assert_eq!((bitmap().areas(), polygon().areas()), (vec![328.0], vec![329.0]));
        assert_eq!(
            (bitmap().bboxes(), polygon().bboxes()),
            (vec![[4.0, 3.0, 20.0, 30.0]], vec![[4.0, 3.0, 20.0, 30.0]])
        );
    }

    #[test]
    fn crops_pads_and_expansions_are_mmdets() {
        // .crop(np.array([5, 6, 16, 60]))
        let (b, p) = (bitmap().crop([5, 6, 16, 60]), polygon().crop([5, 6, 16, 60]));
        assert_eq!((b.size(), b.areas(), b.bboxes()), ([31, 11], vec![224.0], vec![[0.0, 0.0, 11.0, 23.0]]));
        assert_eq!((p.size(), p.areas(), p.bboxes()), ([31, 11], vec![329.0], vec![[-1.0, -3.0, 15.0, 24.0]]));
        // .pad((64, 64), pad_val=1)
        let (b, p) = (bitmap().pad([64, 64], 1.0).unwrap(), polygon().pad([64, 64], 1.0).unwrap());
        assert_eq!((b.size(), b.areas(), b.bboxes()), ([64, 64], vec![2463.0], vec![[0.0, 0.0, 64.0, 64.0]]));
        assert_eq!((p.size(), p.areas()), ([64, 64], vec![329.0]));
        // .expand(80, 90, 7, 11)
        let b = bitmap().expand([80, 90], 7, 11).unwrap();
        assert_eq!((b.size(), b.areas(), b.bboxes()), ([80, 90], vec![328.0], vec![[15.0, 10.0, 31.0, 37.0]]));
        assert!(polygon().expand([80, 90], 7, 11).is_err());
    }

    #[test]
    fn annotations_go_in_and_come_out() {
        let ann = AnnMask::Polygons(vec![POLYGON.to_vec(), vec![1.0, 2.0, 3.0]]);
        let masks = InstanceMasks::polygons(std::slice::from_ref(&ann), 37, 53).unwrap();
        assert_eq!(masks.into_ann(), [AnnMask::Polygons(vec![POLYGON.to_vec()])]);
        let AnnMask::Rle(rle) = &bitmap().into_ann()[0] else { panic!("run lengths") };
        assert_eq!(rle.area(), 328);
        assert!(InstanceMasks::polygons(&[AnnMask::Rle(rle.clone())], 37, 53).is_none());
        assert!(InstanceMasks::bitmaps(&[AnnMask::Rle(rle.clone())], 37, 52).is_err());
    }

    #[test]
    fn no_masks_keep_their_size() {
        let none = InstanceMasks::bitmaps(&[], 37, 53).unwrap();
        assert!(none.is_empty());
        assert_eq!(none.clone().rescale([100.0, 60.0]).unwrap().size(), [60, 86]);
        assert_eq!(none.crop([5, 6, 16, 60]).size(), [31, 11]);
        // An empty bitmap's box.
        let blank = Image::new(4, 5, 1, Pixels::U8(vec![0; 20])).unwrap();
        assert_eq!(InstanceMasks::Bitmap { height: 4, width: 5, masks: vec![blank] }.bboxes(), [[0.0; 4]]);
    }
}
