//! What every prior generator answers.

use candle_core::{Result, bail};
use mmcv::registry::registry;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::BBox;

registry!(
    /// Anchors and points; mmdet's `PRIOR_GENERATORS`, which is also its `ANCHOR_GENERATORS`.
    pub PRIOR_GENERATORS: dyn PriorGenerator, ()
);

/// A number for both axes, or `[w, h]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Pair {
    /// Both.
    One(f64),
    /// Along x and along y.
    Two([f64; 2]),
}

impl Pair {
    /// `[w, h]`.
    pub fn pair(self) -> [f64; 2] {
        match self {
            Self::One(v) => [v, v],
            Self::Two(v) => v,
        }
    }
}

/// Lays priors over feature maps. Sizes are `(h, w)`; strides are `[w, h]` pixels.
pub trait PriorGenerator: Send + Sync {
    /// Pixels between neighbouring positions, one pair per level.
    fn strides(&self) -> &[[f64; 2]];

    /// Priors at one position, per level.
    fn num_base_priors(&self) -> Vec<usize>;

    /// The priors of level `level` at column `x` and row `y`, appended to `out`.
    fn at(&self, level: usize, x: usize, y: usize, out: &mut Vec<BBox>);

    /// Number of levels.
    fn num_levels(&self) -> usize {
        self.strides().len()
    }

    /// Every prior of each level: rows from the top, in a row from the left, then the priors of one position.
    /// Boxes in pixels for anchors; `[x, y, stride_w, stride_h]` for points.
    fn grid_priors(&self, featmap_sizes: &[(usize, usize)]) -> Result<Vec<Vec<BBox>>> {
        self.check_levels(featmap_sizes)?;
        let base = self.num_base_priors();
        let level = |(level, &(h, w)): (usize, &(usize, usize))| {
            let mut priors = Vec::with_capacity(h * w * base[level]);
            (0..h).for_each(|y| (0..w).for_each(|x| self.at(level, x, y, &mut priors)));
            priors
        };
        Ok(featmap_sizes.iter().enumerate().map(level).collect())
    }

    /// The priors of one level at positions `prior_idxs` of [`PriorGenerator::grid_priors`]' order.
    fn sparse_priors(&self, prior_idxs: &[usize], featmap_size: (usize, usize), level: usize) -> Vec<BBox> {
        let base = self.num_base_priors()[level];
        let (h, w) = featmap_size;
        let mut cell = Vec::with_capacity(base);
        prior_idxs
            .iter()
            .map(|i| {
                cell.clear();
                self.at(level, i / base % w, i / base / w % h, &mut cell);
                cell[i % base]
            })
            .collect()
    }

    /// Which priors lie on the image rather than on the batch's padding, where `pad_shape` is the `(h, w)` that this
    /// image was padded to by its own pipeline.
    fn valid_flags(&self, featmap_sizes: &[(usize, usize)], pad_shape: (usize, usize)) -> Result<Vec<Vec<bool>>> {
        self.check_levels(featmap_sizes)?;
        let base = self.num_base_priors();
        let mut flags = Vec::with_capacity(featmap_sizes.len());
        for ((&(h, w), stride), n) in featmap_sizes.iter().zip(self.strides()).zip(base) {
            let rows = ((pad_shape.0 as f64 / stride[1]).ceil() as usize).min(h);
            let cols = ((pad_shape.1 as f64 / stride[0]).ceil() as usize).min(w);
            let mut level = vec![false; h * w * n];
            for y in 0..rows {
                level[y * w * n..(y * w + cols) * n].fill(true);
            }
            flags.push(level);
        }
        Ok(flags)
    }

    /// Which priors sit in a cell that holds the centre of a box; YOLO's `responsible_flags`.
    fn responsible_flags(&self, featmap_sizes: &[(usize, usize)], gt_bboxes: &[BBox]) -> Result<Vec<Vec<bool>>> {
        self.check_levels(featmap_sizes)?;
        let base = self.num_base_priors();
        let mut flags = Vec::with_capacity(featmap_sizes.len());
        for ((&(h, w), stride), n) in featmap_sizes.iter().zip(self.strides()).zip(base) {
            let mut level = vec![false; h * w * n];
            for b in gt_bboxes {
                let x = ((b[0] + b[2]) * 0.5 / stride[0] as f32).floor();
                let y = ((b[1] + b[3]) * 0.5 / stride[1] as f32).floor();
                let cell = y as i64 * w as i64 + x as i64;
                // As in mmdet, a centre past the end of a row counts for the next row's cell.
                let Some(cell) = usize::try_from(cell).ok().filter(|c| *c < h * w) else {
                    bail!(
                        "responsible_flags: the centre of box {b:?} is outside a map of {h}x{w} with stride {stride:?}"
                    );
                };
                level[cell * n..(cell + 1) * n].fill(true);
            }
            flags.push(level);
        }
        Ok(flags)
    }

    /// An error unless there is one size per level.
    fn check_levels(&self, featmap_sizes: &[(usize, usize)]) -> Result<()> {
        if featmap_sizes.len() != self.num_levels() {
            bail!("the prior generator has {} levels and got {} feature maps", self.num_levels(), featmap_sizes.len());
        }
        Ok(())
    }
}

/// Base anchors shifted to position `(x, y)`: what the anchor generators share.
pub(super) fn shifted(base: &[BBox], stride: [f64; 2], x: usize, y: usize, out: &mut Vec<BBox>) {
    let (dx, dy) = (x as f32 * stride[0] as f32, y as f32 * stride[1] as f32);
    out.extend(base.iter().map(|b| [b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy]));
}
