//! Cells that join two feature maps, as NAS-FPN searches them (mmcv `merge_cells.py`).

use candle_core::{Result, Tensor, bail};

use super::conv::ConvSpec;
use super::conv_module::{Bias, ConvModule, ConvModuleConfig, Order};
use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};
use crate::ops;

/// How a cell joins its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeOp {
    /// Their sum (`SumCell`).
    Sum,
    /// Their channels one behind the other (`ConcatCell`).
    Concat,
    /// `b + sigmoid(mean(b)) * a` (`GlobalPoolingCell`).
    GlobalPooling,
}

/// Both inputs are brought to one size and joined; then ReLU, a 3x3 convolution and a norm, if the cell has them.
/// Keys: `out_conv.*`.
pub struct MergeCell {
    op: MergeOp,
    out_conv: Option<ConvModule>,
}

impl MergeCell {
    /// A cell that ends in a convolution from `in_channels` of each input to `out_channels`.
    pub fn new(
        op: MergeOp,
        in_channels: usize,
        out_channels: usize,
        norm_cfg: Option<&Node>,
        vb: &VarBuilder,
    ) -> crate::Result<Self> {
        let fused = if op == MergeOp::Concat { 2 * in_channels } else { in_channels };
        let spec = ConvSpec::new(fused, out_channels, 3).padding(1);
        let cfg = ConvModuleConfig {
            order: [Order::Act, Order::Conv, Order::Norm],
            ..ConvModuleConfig::new(spec).bias(Bias::True).norm(norm_cfg)
        };
        Ok(Self { op, out_conv: Some(ConvModule::new(cfg, vb.pp("out_conv"))?) })
    }

    /// A cell that only joins.
    pub fn without_conv(op: MergeOp) -> Self {
        Self { op, out_conv: None }
    }

    /// Two maps of the same channels to one of `(h, w)`.
    pub fn forward(&self, a: &Tensor, b: &Tensor, size: (usize, usize), ctx: &Ctx) -> Result<Tensor> {
        let (a, b) = (resize(a, size)?, resize(b, size)?);
        let y = match self.op {
            MergeOp::Sum => (&a + &b)?,
            MergeOp::Concat => Tensor::cat(&[&a, &b], 1)?,
            MergeOp::GlobalPooling => {
                let weight = ops::sigmoid(&ops::adaptive_avg_pool2d(&b, (1, 1))?)?;
                (&b + a.broadcast_mul(&weight)?)?
            }
        };
        self.out_conv.as_ref().map_or(Ok(y.clone()), |conv| conv.forward(&y, ctx))
    }
}

/// Enlarges by repeating, shrinks by max pooling (zeros around a map that the target doesn't divide).
fn resize(x: &Tensor, (th, tw): (usize, usize)) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if (h, w) == (th, tw) {
        return Ok(x.clone());
    }
    if th == 0 || tw == 0 {
        bail!("a merge cell can't make a map of {th}x{tw}");
    }
    // The original compares the pairs in dictionary order.
    if (h, w) < (th, tw) {
        return ops::interpolate_nearest(x, (th, tw));
    }
    let mut x = x.clone();
    for (dim, n, target) in [(2, h, th), (3, w, tw)] {
        let pad = n.div_ceil(target) * target - n;
        if (h % th != 0 || w % tw != 0) && pad > 0 {
            x = x.pad_with_zeros(dim, pad / 2, pad - pad / 2)?;
        }
    }
    let kernel = [x.dim(2)? / th, x.dim(3)? / tw];
    ops::max_pool2d(&x, kernel, kernel, [0, 0], false)
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::*;
    use crate::ops::testing::{close, var, wave, weighted_grad};
    use crate::testing::fill_by_name;

    fn gn() -> Node {
        Node::from_json(r#"{"type": "GN", "num_groups": 1}"#).unwrap()
    }

    /// Output with weights by name, and both inputs' gradients of its sum weighted by `cos(1.1 i)`.
    fn run(
        made: impl Fn(VarBuilder) -> crate::Result<MergeCell>,
        a: &[usize],
        b: &[usize],
        size: (usize, usize),
    ) -> (Tensor, Tensor, Tensor) {
        let vb = VarBuilder::scratch();
        let cell = made(vb.pp("c")).unwrap();
        fill_by_name(vb.store()).unwrap();
        let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let a = var(&values(wave(a)), a);
        let b = var(&values(((wave(b) * 0.5).unwrap() + 0.1).unwrap()), b);
        let y = cell.forward(&a, &b, size, &Ctx::eval()).unwrap();
        let (da, db) = (weighted_grad(&y, &a), weighted_grad(&y, &b));
        (y, da, db)
    }

    // y = cell(a = wave(..), b = wave(..) / 2 + .1, size) with weights by name; (y * cos(1.1 i)).sum().backward()
    #[test]
    #[rustfmt::skip]
    fn a_sum_enlarges_and_pools() {
        let (y, da, db) = run(|vb| MergeCell::new(MergeOp::Sum, 2, 2, Some(&gn()), &vb), &[1, 2, 2, 2], &[1, 2, 5, 4], (4, 3));
        close(&y, &[-0.51588386, -0.69250911, -0.67923474, -0.22953109, -1.6925145, -1.1084691, -0.48490393, -1.3086104, -1.1186018, -0.55619258, -0.2542581, -0.1425301, 0.12435531, 1.3621795, 2.2217088, 0.56602049, 0.59776163, 1.7115974, 1.0413816, 0.029687187, 0.73737746, 0.14685513, -0.59169126, 0.20149855]);
        close(&da, &[-0.052008748, 0.22246861, 0.66380739, -0.69406688, -0.53628564, -1.4662769, 0.0, 0.0]);
        close(&db, &[0.57849449, 0.0, 0.082714438, -1.050226, -0.70639241, 0.0, 0.0, 0.0, 0.0, 0.0, -0.0068252683, 1.2726946, 1.0000461, 0.12634034, 0.0, 0.0, 0.0, 0.0, 0.0, -0.97918677, -0.64870632, -0.55674005, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.2103748, -0.54121411, 0.0, -1.4662769, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_concatenation() {
        let (y, da, db) = run(|vb| MergeCell::new(MergeOp::Concat, 1, 1, None, &vb), &[1, 1, 2, 3], &[1, 1, 2, 3], (2, 3));
        close(&y, &[-0.26059198, -0.76434332, -0.42700785, -0.22483446, -0.32355079, -0.39087847]);
        close(&da, &[0.0815387, -0.2475585, -0.2920019, -0.022491459, 0.51286089, 0.0]);
        close(&db, &[0.03619194, -0.13906536, -0.053155079, 0.22627188, -0.007609576, 0.0]);
    }

    #[test]
    #[rustfmt::skip]
    fn global_pooling_without_convolution() {
        let (y, da, db) = run(|_| Ok(MergeCell::without_conv(MergeOp::GlobalPooling)), &[1, 2, 4, 4], &[1, 2, 2, 2], (2, 2));
        close(&y, &[0.56992662, 1.0024637, 1.1263897, 1.0774064, 0.65793657, 0.24216595, 0.14899316, 0.017833829]);
        close(&da, &[0.0, 0.60140049, 0.27279294, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.59387082, -0.35392484, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3311325, -0.14360411, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.44400492, 0.071665354, 0.0]);
        close(&db, &[0.9754532, 0.42904928, -0.6130479, -1.0120265, -0.22976869, 0.78623396, 1.0277967, 0.23093805]);
    }
}
