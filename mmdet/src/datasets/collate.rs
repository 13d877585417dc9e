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
