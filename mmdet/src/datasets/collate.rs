//! Samples to a batch.

use candle_core::Tensor;
use mmcv::Result;

use crate::core::{DetBatch, DetSample};

/// Pads the images at the right and bottom to the greatest height and width among them and stacks them.
/// Sets `batch_input_shape`. An error when there are none, or their channels differ.
pub fn collate(samples: Vec<DetSample>) -> Result<DetBatch> {
    let (mut h, mut w) = (0, 0);
    for s in &samples {
        let (_, sh, sw) = s.img.dims3()?;
        (h, w) = (h.max(sh), w.max(sw));
    }
    let imgs = samples.iter().map(|s| Ok(fill(&s.img, h, w, f64::from(s.padding.img))?));
    let img = Tensor::stack(&imgs.collect::<Result<Vec<_>>>()?, 0)?;
    let segs: Option<Vec<&Tensor>> = samples.iter().map(|s| s.gt_semantic_seg.as_ref()).collect();
    let gt_semantic_seg = match segs {
        Some(segs) if !segs.is_empty() => {
            let (mut h, mut w) = (0, 0);
            for seg in &segs {
                let (_, sh, sw) = seg.dims3()?;
                (h, w) = (h.max(sh), w.max(sw));
            }
            let padded = segs.iter().zip(&samples).map(|(seg, s)| Ok(fill(seg, h, w, f64::from(s.padding.seg))?));
            Some(Tensor::stack(&padded.collect::<Result<Vec<_>>>()?, 0)?)
        }
        _ => None,
    };
    let n = samples.len();
    let mut batch = DetBatch {
        img,
        metas: Vec::with_capacity(n),
        gt_bboxes: Vec::with_capacity(n),
        gt_labels: Vec::with_capacity(n),
        gt_bboxes_ignore: Some(Vec::with_capacity(n)),
        gt_masks: Some(Vec::with_capacity(n)),
        gt_semantic_seg,
        proposals: Some(Vec::with_capacity(n)),
    };
    for mut s in samples {
        s.meta.batch_input_shape = Some([h, w]);
        batch.metas.push(s.meta);
        batch.gt_bboxes.push(s.gt_bboxes);
        batch.gt_labels.push(s.gt_labels);
        push(&mut batch.gt_bboxes_ignore, s.gt_bboxes_ignore);
        push(&mut batch.gt_masks, s.gt_masks);
        push(&mut batch.proposals, s.proposals);
    }
    Ok(batch)
}

/// A list that every sample has to have a part in, or it is dropped.
fn push<T>(all: &mut Option<Vec<T>>, one: Option<T>) {
    match (all.as_mut(), one) {
        (Some(list), Some(one)) => list.push(one),
        _ => *all = None,
    }
}

/// `[C, H, W]` enlarged to `h` x `w`.
fn fill(t: &Tensor, h: usize, w: usize, value: f64) -> candle_core::Result<Tensor> {
    let (c, th, tw) = t.dims3()?;
    let blank = |c, h, w| Tensor::full(value as f32, (c, h, w), t.device())?.to_dtype(t.dtype());
    let mut t = t.clone();
    if tw < w {
        t = Tensor::cat(&[&t, &blank(c, th, w - tw)?], 2)?;
    }
    if th < h {
        t = Tensor::cat(&[&t, &blank(c, h - th, w)?], 1)?;
    }
    Ok(t)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::core::{ImgMeta, Padding};

    fn sample(h: usize, w: usize) -> DetSample {
        let meta = ImgMeta {
            filename: String::new(),
            ori_filename: String::new(),
            ori_shape: [h, w, 1],
            img_shape: [h, w, 1],
            pad_shape: [h, w, 1],
            scale_factor: [1.0; 4],
            flip: false,
            flip_direction: None,
            img_norm_cfg: None,
            batch_input_shape: None,
        };
        DetSample {
            img: Tensor::ones((1, h, w), candle_core::DType::F32, &Device::Cpu).unwrap(),
            meta,
            gt_bboxes: vec![[0.0, 0.0, w as f32, h as f32]],
            gt_labels: vec![w as i64],
            gt_bboxes_ignore: Some(vec![]),
            gt_masks: None,
            gt_semantic_seg: Some(Tensor::ones((1, h, w), candle_core::DType::U8, &Device::Cpu).unwrap()),
            proposals: None,
            padding: Padding { img: 0.5, seg: 255 },
        }
    }

    #[test]
    fn smaller_images_are_filled_up_at_the_right_and_bottom() {
        let batch = collate(vec![sample(2, 3), sample(1, 4)]).unwrap();
        assert_eq!(batch.img.dims(), [2, 1, 2, 4]);
        let rows = batch.img.to_vec2_of_first_channel();
        assert_eq!(rows[0], [[1.0, 1.0, 1.0, 0.5], [1.0, 1.0, 1.0, 0.5]]);
        assert_eq!(rows[1], [[1.0; 4], [0.5; 4]]);
        let seg = batch.gt_semantic_seg.unwrap().get(1).unwrap().get(0).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(seg, [[1; 4], [255; 4]]);
        assert!(batch.metas.iter().all(|m| m.batch_input_shape == Some([2, 4])));
        assert_eq!(batch.gt_labels, [[3], [4]]);
        assert!(batch.gt_bboxes_ignore.is_some() && batch.gt_masks.is_none() && batch.proposals.is_none());
    }

    #[test]
    fn no_samples_are_an_error() {
        assert!(collate(vec![]).is_err());
    }

    trait FirstChannel {
        fn to_vec2_of_first_channel(&self) -> Vec<Vec<Vec<f32>>>;
    }

    impl FirstChannel for Tensor {
        fn to_vec2_of_first_channel(&self) -> Vec<Vec<Vec<f32>>> {
            (0..self.dims()[0]).map(|i| self.get(i).unwrap().get(0).unwrap().to_vec2().unwrap()).collect()
        }
    }
}
