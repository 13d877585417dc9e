//! Sizes of a convolution and their checks.

use candle_core::{Result, bail};

/// How a kernel moves over its input; each pair is (vertical, horizontal). PyTorch's arguments and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step between neighbouring outputs.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [usize; 2],
    /// Step between neighbouring taps of the kernel.
    pub dilation: [usize; 2],
    /// Input and output channels fall into this many groups that don't see each other.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// A convolution with all its sizes, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub images: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl Geometry {
    /// From the shapes of the input `[N, C, H, W]` and the weight `[O, C/groups, kh, kw]`.
    pub fn new(x: &[usize], w: &[usize], cfg: &Conv2dConfig) -> Result<Self> {
        let (&[images, channels_in, ih, iw], &[channels_out, per_group, kh, kw]) = (x, w) else {
            bail!("conv2d: input {x:?} and weight {w:?}, expected [N, C, H, W] and [O, C/groups, kh, kw]")
        };
        let Conv2dConfig { stride, padding, dilation, groups } = *cfg;
        if stride.contains(&0) || dilation.contains(&0) || groups == 0 {
            bail!("conv2d: stride {stride:?}, dilation {dilation:?} and groups {groups} must be positive")
        }
        if !channels_out.is_multiple_of(groups) || !channels_in.is_multiple_of(groups) {
            bail!("conv2d: {channels_in} input and {channels_out} output channels don't divide into {groups} groups")
        }
        if channels_in / groups != per_group {
            bail!(
                "conv2d: weight {w:?} with {groups} groups expects {} input channels, the input {x:?} has {channels_in}",
                per_group * groups
            )
        }
        if channels_in == 0 || channels_out == 0 {
            bail!("conv2d: input {x:?} and weight {w:?} must have channels")
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let (size, k) = ([ih, iw][axis], [kh, kw][axis]);
            let (padded, extent) = (size + 2 * padding[axis], dilation[axis] * k.saturating_sub(1) + 1);
            if k == 0 || padded < extent {
                bail!(
                    "conv2d: input {x:?} padded by {padding:?} is smaller than the kernel {:?} dilated by {dilation:?}",
                    [kh, kw]
                )
            }
            output[axis] = (padded - extent) / stride[axis] + 1;
        }
        Ok(Self {
            images,
            channels_in,
            channels_out,
            input: [ih, iw],
            output,
            kernel: [kh, kw],
            stride,
            padding,
            dilation,
            groups,
        })
    }

    /// The convolution whose data gradient is the transposed convolution of `x` `[N, C, H, W]` with `w`
    /// `[C, O/groups, kh, kw]`: its output is `x`, its input the result.
    pub fn transposed(x: &[usize], w: &[usize], cfg: &Conv2dConfig, output_padding: [usize; 2]) -> Result<Self> {
        let (&[images, channels_in, ih, iw], &[rows, per_group, kh, kw]) = (x, w) else {
            bail!("conv_transpose2d: input {x:?} and weight {w:?}, expected [N, C, H, W] and [C, O/groups, kh, kw]")
        };
        if channels_in != rows || ih * iw * kh * kw == 0 {
            bail!("conv_transpose2d: input {x:?} and weight {w:?} don't fit")
        }
        let mut result = [0; 2];
        for axis in 0..2 {
            let (s, d, extra) = (cfg.stride[axis], cfg.dilation[axis], output_padding[axis]);
            if extra >= s.max(d) {
                bail!("conv_transpose2d: output padding {output_padding:?} must be smaller than stride or dilation")
            }
            let full = ([ih, iw][axis] - 1) * s + d * ([kh, kw][axis] - 1) + 1 + extra;
            let Some(size) = full.checked_sub(2 * cfg.padding[axis]).filter(|&n| n > 0) else {
                bail!("conv_transpose2d: input {x:?} with padding {:?} leaves no output", cfg.padding)
            };
            result[axis] = size;
        }
        let [h, w_] = result;
        let g = Self::new(&[images, per_group * cfg.groups, h, w_], w, cfg)?;
        // Output padding past the stride would give the convolution more outputs than `x` has; they don't exist.
        Ok(Self { output: [ih, iw], ..g })
    }

    /// Input channels of one group.
    pub fn group_in(&self) -> usize {
        self.channels_in / self.groups
    }
    /// Output channels of one group.
    pub fn group_out(&self) -> usize {
        self.channels_out / self.groups
    }
    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
    /// Values of an input map.
    pub fn input_area(&self) -> usize {
        self.input[0] * self.input[1]
    }
    /// Values of an output map.
    pub fn output_area(&self) -> usize {
        self.output[0] * self.output[1]
    }
    /// Whether direct loops beat the GEMM: one input channel a group and few outputs of it.
    pub fn is_depthwise(&self) -> bool {
        self.group_in() == 1 && self.group_out() <= 4
    }
}

/// Positions `[lo, hi)` of `count` at which `position · step + offset` is in `0..size`.
pub(super) fn inside(offset: isize, step: usize, size: usize, count: usize) -> (usize, usize) {
    let step = step as isize;
    let lo = if offset < 0 { (-offset + step - 1) / step } else { 0 };
    let last = size as isize - 1 - offset;
    let hi = if last < 0 { 0 } else { last / step + 1 };
    let hi = hi.min(count as isize);
    (lo.min(hi) as usize, hi as usize)
}
