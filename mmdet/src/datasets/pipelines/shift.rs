//! Shifting.

use mmcv::image::{Image, Pixels};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::ensure;
use super::results::{BoxField, clip};
use super::{PIPELINES, Results, Transform};
use crate::core::BBox;

/// `type = "RandomShift"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomShiftConfig {
    /// Probability.
    #[serde(default = "half")]
    pub shift_ratio: f64,
    /// Shifts are from `-max_shift_px` to `max_shift_px - 1`, as in mmdet.
    #[serde(default = "max_shift")]
    pub max_shift_px: i64,
    /// Boxes not wider or not higher than this after the shift are left out.
    #[serde(default = "filter_thr")]
    pub filter_thr_px: f64,
}

fn half() -> f64 {
    0.5
}

fn max_shift() -> i64 {
    32
}

fn filter_thr() -> f64 {
    1.0
}

/// Shifts image and boxes; what comes in from outside is black. Masks and semantic maps stay, as in mmdet.
pub struct RandomShift(RandomShiftConfig);

impl RandomShift {
    /// An error when the probability is outside `[0, 1]` or the greatest shift negative.
    pub fn new(cfg: &RandomShiftConfig) -> Result<Self> {
        ensure((0.0..=1.0).contains(&cfg.shift_ratio), || "RandomShift: shift_ratio is not in [0, 1]".into())?;
        ensure(cfg.max_shift_px >= 0, || "RandomShift: max_shift_px is negative".into())?;
        Ok(Self(cfg.clone()))
    }

    /// Shifts by `(dx, dy)`. When no ground truth stays, the image does not move either.
    fn shift(&self, mut results: Results, dx: i64, dy: i64) -> Result<Results> {
        let [h, w, _] = results.picture("RandomShift")?.shape();
        let least = self.0.filter_thr_px.trunc() as f32;
        for field in BoxField::ALL {
            let Some(boxes) = results.boxes_mut(field) else { continue };
            let moved = boxes.iter().map(|b| {
                let (dx, dy) = (dx as f32, dy as f32);
                let mut b = [b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy];
                clip(&mut b, w, h);
                b
            });
            let moved: Vec<BBox> = moved.collect();
            let keep: Vec<bool> = moved.iter().map(|b| b[2] - b[0] > least && b[3] - b[1] > least).collect();
            if field == BoxField::Gt && !keep.contains(&true) {
                return Ok(results);
            }
            *boxes = moved;
            // mmdet's masks don't follow here.
            super::results::retain(boxes, &keep);
            if let (BoxField::Gt, Some(labels)) = (field, results.gt_labels.as_mut()) {
                super::results::retain(labels, &keep);
            }
        }
        let image = results.take_image("RandomShift")?;
        results.set_image(shifted(&image, dx, dy)?);
        Ok(results)
    }
}

fn shifted(image: &Image, dx: i64, dy: i64) -> Result<Image> {
    let [h, w, c] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(moved(v, [h, w, c], dx, dy)),
        Pixels::F32(v) => Pixels::F32(moved(v, [h, w, c], dx, dy)),
    };
    Image::new(h, w, c, pixels)
}

fn moved<T: Copy + Default>(values: &[T], [h, w, c]: [usize; 3], dx: i64, dy: i64) -> Vec<T> {
    let mut out = vec![T::default(); values.len()];
    let (ax, ay) = (dx.unsigned_abs() as usize, dy.unsigned_abs() as usize);
    if ax >= w || ay >= h {
        return out;
    }
    let (to_x, from_x) = if dx > 0 { (ax, 0) } else { (0, ax) };
    let (to_y, from_y) = if dy > 0 { (ay, 0) } else { (0, ay) };
    let n = (w - ax) * c;
    for y in 0..h - ay {
        let (to, from) = (((to_y + y) * w + to_x) * c, ((from_y + y) * w + from_x) * c);
        out[to..to + n].copy_from_slice(&values[from..from + n]);
    }
    out
}

impl Transform for RandomShift {
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        if !rng.chance(self.0.shift_ratio) {
            return Ok(Some(results));
        }
        let max = self.0.max_shift_px;
        let (dx, dy) = (rng.int(-max, max - 1), rng.int(-max, max - 1));
        self.shift(results, dx, dy).map(Some)
    }
}

register!(PIPELINES: dyn Transform, "RandomShift" => RandomShift(RandomShiftConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, image, refused, sample, sum};
    use super::*;

    fn shifter(json: &str) -> RandomShift {
        RandomShift::new(&mmcv::config::Node::from_json(json).unwrap().parse().unwrap()).unwrap()
    }

    #[test]
    fn a_shift_is_mmdets() {
        // RandomShift()(sample), randint giving -7 and 5
        let r = shifter("{}").shift(sample(), -7, 5).unwrap();
        assert_eq!(r.gt_bboxes.as_deref().unwrap(), [[0.0, 9.25, 13.75, 35.5], [3.0, 2.0, 53.0, 17.0]]);
        assert_eq!(r.gt_labels.as_deref().unwrap(), [0, 1]);
        assert!(r.gt_bboxes_ignore.as_ref().unwrap().is_empty());
        let image = image(&r);
        let at = |y: usize| &bytes(&image)[y * 53 * 3..][..3];
        assert_eq!((sum(&image), at(5), at(4)), (573_706, &[49, 78, 107][..], &[0, 0, 0][..]));
    }

    #[test]
    fn a_shift_that_loses_every_box_leaves_the_image() {
        let r = shifter("{}").shift(sample(), 53, 0).unwrap();
        assert_eq!((image(&r), r.gt_bboxes), (image(&sample()), sample().gt_bboxes));
        // mmdet has moved the ignored boxes by then.
        assert!(r.gt_bboxes_ignore.unwrap().is_empty());
    }

    #[test]
    fn a_shift_out_of_the_image_leaves_black() {
        let r = shifter(r#"{"filter_thr_px": -1}"#).shift(sample(), 0, -60).unwrap();
        assert_eq!(sum(&image(&r)), 0);
        assert!(refused(r#"{"type": "RandomShift", "shift_ratio": 2}"#).contains("shift_ratio"));
    }
}
