//! Values from PyTorch 1.13.1 in f64, and gradients against differences of a plain f64 convolution.

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;

use super::{Conv2dConfig, conv2d};

/// Exact in f32: `val(i, s) = ((37 i + 11 s) mod 23) / 8 - 1.375`.
pub(super) fn pattern(shape: &[usize], s: usize) -> Tensor {
    let n = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// `[v.sum(), (v * ((i * 7) % 13 - 6)).sum(), (v * ((i * 5) % 17 - 8)).sum()]` with `i` the flat index.
fn sums(t: &Tensor) -> Result<[f64; 3]> {
    let v: Vec<f32> = t.contiguous()?.flatten_all()?.to_vec1()?;
    let mut s = [0.0; 3];
    for (i, v) in v.into_iter().enumerate() {
        let v = v as f64;
        s[0] += v;
        s[1] += v * (((i * 7) % 13) as f64 - 6.0);
        s[2] += v * (((i * 5) % 17) as f64 - 8.0);
    }
    Ok(s)
}

/// The sums agree to 2e-6 an element (Winograd's error at these sizes).
pub(super) fn close(t: &Tensor, want: [f64; 3], what: &str) {
    let (got, tolerance) = (sums(t).unwrap(), 2e-3 + 2e-6 * t.elem_count() as f64);
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < tolerance, "{what}: {got:?}, expected {want:?}");
    }
}

fn case(
    x: [usize; 4],
    w: [usize; 4],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    bias: bool,
    shape: [usize; 4],
    y_sums: [f64; 3],
    dx_sums: [f64; 3],
    dw_sums: [f64; 3],
    db_sums: [f64; 3],
) {
    let run = || -> Result<()> {
        let (x, wv) = (Var::from_tensor(&pattern(&x, 1))?, Var::from_tensor(&pattern(&w, 2))?);
        let b = Var::from_tensor(&pattern(&[w[0]], 3))?;
        let cfg = Conv2dConfig { stride, padding, dilation, groups };
        let y = conv2d(&x, &wv, bias.then_some(b.as_tensor()), &cfg)?;
        assert_eq!(y.dims(), shape);
        close(&y, y_sums, "y");
        let grads = (&y * pattern(&shape, 4))?.sum_all()?.backward()?;
        close(grads.get(&x).unwrap(), dx_sums, "dx");
        close(grads.get(&wv).unwrap(), dw_sums, "dw");
        if bias {
            close(grads.get(&b).unwrap(), db_sums, "db");
        }
        Ok(())
    };
    run().unwrap();
}

// python: t(shape, s) is the pattern above in f64 with requires_grad; the sums as above:
//   x = t((n, c, h, w), 1); wt = t((o, c // g, kh, kw), 2); bb = t((o,), 3) if bias else None
//   y = F.conv2d(x, wt, bb, stride, padding, dilation, g); y.backward(t(y.shape, 4).detach())
//   sums of y, x.grad, wt.grad, bb.grad
#[test]
fn matches_pytorch() {
    case(
        [2, 5, 9, 11],
        [7, 5, 3, 3],
        [1, 1],
        [1, 1],
        [1, 1],
        1,
        true,
        [2, 7, 9, 11],
        [-302.6875, -166.9375, 381.96875],
        [26.671875, 126.125, 113.75],
        [-56.4375, 163.171875, 100.59375],
        [2.125, -27.5, -14.375],
    );
    case(
        [2, 3, 13, 18],
        [8, 3, 3, 3],
        [2, 2],
        [1, 1],
        [1, 1],
        1,
        true,
        [2, 8, 7, 9],
        [-133.953125, -417.375, 1535.609375],
        [-2.9375, -647.640625, 358.8125],
        [2.375, 34.828125, 335.640625],
        [1.0, 5.0, -14.125],
    );
    case(
        [1, 4, 13, 18],
        [13, 4, 7, 7],
        [2, 2],
        [3, 3],
        [1, 1],
        1,
        false,
        [1, 13, 7, 9],
        [-9.734375, -903.640625, 28.015625],
        [35.703125, -374.609375, -1586.34375],
        [-27.859375, 399.359375, -805.546875],
        [0.0; 3],
    );
    case(
        [2, 6, 10, 12],
        [4, 6, 3, 3],
        [1, 1],
        [2, 2],
        [2, 2],
        1,
        true,
        [2, 4, 10, 12],
        [-371.671875, 255.859375, 2.453125],
        [-15.515625, -123.171875, -106.671875],
        [419.59375, -2239.09375, -2.234375],
        [0.5, 4.5, -26.5],
    );
    case(
        [1, 6, 15, 14],
        [9, 2, 3, 2],
        [3, 2],
        [0, 1],
        [1, 3],
        3,
        true,
        [1, 9, 5, 7],
        [-38.984375, -131.53125, 134.0],
        [-7.625, 16.328125, -322.53125],
        [-8.796875, 133.859375, -229.6875],
        [0.0, -4.125, 3.375],
    );
    case(
        [2, 4, 12, 9],
        [4, 1, 3, 3],
        [1, 1],
        [1, 1],
        [1, 1],
        4,
        true,
        [2, 4, 12, 9],
        [-301.125, -95.96875, -253.296875],
        [-14.375, -61.578125, -281.53125],
        [92.65625, -850.3125, 246.828125],
        [0.375, -1.125, -32.375],
    );
    case(
        [1, 4, 13, 18],
        [8, 1, 5, 3],
        [2, 1],
        [2, 0],
        [1, 1],
        4,
        false,
        [1, 8, 7, 16],
        [-16.4375, -244.3125, 93.828125],
        [-0.75, 32.25, 63.25],
        [-58.828125, -101.796875, -38.5],
        [0.0; 3],
    );
    case(
        [2, 19, 7, 7],
        [33, 19, 1, 1],
        [1, 1],
        [0, 0],
        [1, 1],
        1,
        true,
        [2, 33, 7, 7],
        [-20.71875, 126.15625, -88.46875],
        [8.8125, -104.109375, -35.203125],
        [57.453125, 284.5625, -99.0625],
        [1.375, -25.625, -8.125],
    );
    case(
        [2, 8, 13, 18],
        [16, 8, 1, 1],
        [2, 2],
        [0, 0],
        [1, 1],
        1,
        false,
        [2, 16, 7, 9],
        [-2.21875, 197.65625, 114.078125],
        [-3.390625, 207.25, -631.359375],
        [14.28125, 632.046875, 1259.125],
        [0.0; 3],
    );
    case(
        [1, 3, 5, 8],
        [2, 3, 3, 5],
        [1, 3],
        [2, 4],
        [1, 1],
        1,
        true,
        [1, 2, 7, 4],
        [-58.390625, -33.1875, 184.890625],
        [12.8125, -15.0625, -96.734375],
        [0.1875, 19.171875, -6.265625],
        [2.125, -3.125, -10.125],
    );
    case(
        [1, 40, 17, 16],
        [50, 40, 3, 3],
        [1, 1],
        [1, 1],
        [1, 1],
        1,
        true,
        [1, 50, 17, 16],
        [-378.34375, 2554.03125, 831.140625],
        [50.484375, -1844.265625, 181.296875],
        [-176.078125, 2497.15625, 1142.453125],
        [2.375, 12.125, 35.25],
    );
    case(
        [3, 8, 6, 5],
        [8, 4, 2, 2],
        [2, 3],
        [1, 0],
        [1, 1],
        2,
        true,
        [3, 8, 4, 2],
        [54.546875, 150.0625, 89.53125],
        [-6.421875, 97.75, 37.609375],
        [8.796875, 21.265625, -112.796875],
        [1.5, -14.25, -7.125],
    );
}

/// A plain convolution in f64.
fn reference(x: &[f64], xs: [usize; 4], w: &[f64], ws: [usize; 4], c: &Conv2dConfig, os: [usize; 2]) -> Vec<f64> {
    let [n, ci, h, wd] = xs;
    let [co, cg, kh, kw] = ws;
    let mut y = Vec::new();
    for b in 0..n {
        for o in 0..co {
            for oy in 0..os[0] {
                for ox in 0..os[1] {
                    let mut sum = 0.0;
                    for k in 0..cg {
                        let ch = o / (co / c.groups) * cg + k;
                        for i in 0..kh {
                            for j in 0..kw {
                                let iy = (oy * c.stride[0] + i * c.dilation[0]).wrapping_sub(c.padding[0]);
                                let ix = (ox * c.stride[1] + j * c.dilation[1]).wrapping_sub(c.padding[1]);
                                if iy < h && ix < wd {
                                    sum += x[((b * ci + ch) * h + iy) * wd + ix] * w[((o * cg + k) * kh + i) * kw + j];
                                }
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

fn doubles(t: &Tensor) -> Vec<f64> {
    t.contiguous().unwrap().flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The output, and directional differences of the plain convolution along unit steps of `x` and `w` (exact up to
    /// rounding, as the operation is linear in each).
    #[test]
    fn agrees_with_a_plain_convolution(
        (n, groups, cg, og) in (1usize..3, 1usize..4, 1usize..7, 1usize..9),
        (h, w, kh, kw) in (1usize..20, 1usize..20, 1usize..5, 1usize..5),
        (s0, s1, p0, p1, d0, d1) in (1usize..4, 1usize..4, 0usize..4, 0usize..4, 1usize..3, 1usize..3),
    ) {
        prop_assume!(h + 2 * p0 > d0 * (kh - 1) && w + 2 * p1 > d1 * (kw - 1));
        let cfg = Conv2dConfig { stride: [s0, s1], padding: [p0, p1], dilation: [d0, d1], groups };
        let (xs, ws) = ([n, groups * cg, h, w], [groups * og, cg, kh, kw]);
        let x = Var::from_tensor(&pattern(&xs, 5)).unwrap();
        let wt = Var::from_tensor(&pattern(&ws, 6)).unwrap();
        let y = conv2d(&x, &wt, None, &cfg).unwrap();
        let os = [y.dims()[2], y.dims()[3]];
        let (xv, wv) = (doubles(&x), doubles(&wt));
        let want = reference(&xv, xs, &wv, ws, &cfg, os);
        for (i, (g, w)) in doubles(&y).iter().zip(&want).enumerate() {
            prop_assert!((g - w).abs() < 1e-4, "y[{i}] = {g}, expected {w}");
        }
        let dy = pattern(y.dims(), 7);
        let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let dyv = doubles(&dy);
        let loss = |x: &[f64], w: &[f64]| -> f64 {
            reference(x, xs, w, ws, &cfg, os).iter().zip(&dyv).map(|(a, b)| a * b).sum()
        };
        let base = loss(&xv, &wv);
        for (var, is_x) in [(&x, true), (&wt, false)] {
            let got = doubles(grads.get(var).unwrap());
            for i in (0..got.len()).step_by(got.len().div_ceil(12)) {
                let (mut xv, mut wv) = (xv.clone(), wv.clone());
                if is_x { xv[i] += 1.0 } else { wv[i] += 1.0 }
                let want = loss(&xv, &wv) - base;
                prop_assert!((got[i] - want).abs() < 2e-3, "{is_x} [{i}]: {}, expected {want}", got[i]);
            }
        }
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output_and_zero_gradients() -> Result<()> {
    for (channels, groups) in [(3, 1), (4, 4)] {
        let x = Var::zeros((0, channels, 8, 8), DType::F32, &Device::Cpu)?;
        let w = Var::from_tensor(&pattern(&[4, channels / groups, 3, 3], 0))?;
        let b = Var::from_tensor(&pattern(&[4], 0))?;
        let cfg = Conv2dConfig { padding: [1, 1], groups, ..Default::default() };
        let y = conv2d(&x, &w, Some(&b), &cfg)?;
        assert_eq!(y.dims(), [0, 4, 8, 8]);
        let grads = y.sum_all()?.backward()?;
        assert_eq!(sums(grads.get(&w).unwrap())?, [0.0; 3]);
        assert_eq!(sums(grads.get(&b).unwrap())?, [0.0; 3]);
        assert_eq!(grads.get(&x).unwrap().dims(), [0, channels, 8, 8]);
    }
    Ok(())
}

#[test]
fn strided_inputs_give_what_contiguous_ones_do() -> Result<()> {
    let x = pattern(&[2, 9, 7, 6], 1).permute((0, 3, 1, 2))?; // [2, 6, 9, 7], channels last
    let w = pattern(&[6, 8, 3, 3], 2).transpose(0, 1)?;
    let dy = pattern(&[2, 9, 8, 7], 3).transpose(1, 2)?;
    let run = |x: &Tensor, w: &Tensor, dy: &Tensor| -> Result<[[f64; 3]; 3]> {
        let (x, w) = (Var::from_tensor(x)?, Var::from_tensor(w)?);
        let (xt, wt) = (x.as_tensor().clone(), w.as_tensor().clone());
        let y = conv2d(&xt, &wt, None, &Conv2dConfig { padding: [1, 1], ..Default::default() })?;
        let g = (&y * dy)?.sum_all()?.backward()?;
        Ok([sums(&y)?, sums(g.get(&x).unwrap())?, sums(g.get(&w).unwrap())?])
    };
    assert_eq!(run(&x, &w, &dy)?, run(&x.contiguous()?, &w.contiguous()?, &dy.contiguous()?)?);
    Ok(())
}

#[test]
fn constants_get_no_gradient() -> Result<()> {
    let (x, w) = (pattern(&[1, 3, 6, 6], 1), Var::from_tensor(&pattern(&[4, 3, 3, 3], 2))?);
    let y = conv2d(&x, &w, None, &Conv2dConfig::default())?;
    let g = y.sum_all()?.backward()?;
    assert!(g.get(&x).is_none() && g.get(&w).is_some());
    assert!(!conv2d(&x, &w.as_detached_tensor(), None, &Conv2dConfig::default())?.track_op());
    Ok(())
}

#[test]
fn half_precision_is_computed_in_f32() -> Result<()> {
    let (x, w) = (pattern(&[1, 3, 6, 6], 1), pattern(&[4, 3, 3, 3], 2));
    let full = conv2d(&x, &w, None, &Conv2dConfig::default())?;
    for dtype in [DType::F16, DType::BF16] {
        let y = conv2d(&x.to_dtype(dtype)?, &w.to_dtype(dtype)?, None, &Conv2dConfig::default())?;
        assert_eq!(y.dtype(), dtype);
        assert_eq!(doubles(&y), doubles(&full.to_dtype(dtype)?));
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_named() {
    let cfg = Conv2dConfig::default();
    let err = |x: &[usize], w: &[usize], b: Option<usize>, cfg: &Conv2dConfig| {
        let b = b.map(|b| pattern(&[b], 0));
        conv2d(&pattern(x, 0), &pattern(w, 0), b.as_ref(), cfg).unwrap_err().to_string()
    };
    assert!(err(&[1, 4, 8, 8], &[4, 3, 3, 3], None, &cfg).contains("expects 3 input channels"));
    assert!(err(&[1, 3, 2, 8], &[4, 3, 3, 3], None, &cfg).contains("smaller than the kernel"));
    assert!(err(&[3, 8, 8], &[4, 3, 3, 3], None, &cfg).contains("expected [N, C, H, W]"));
    assert!(err(&[1, 3, 8, 8], &[4, 3, 3, 3], Some(5), &cfg).contains("bias [5] for 4 output channels"));
    let zero = Conv2dConfig { stride: [0, 1], ..cfg };
    assert!(err(&[1, 3, 8, 8], &[4, 3, 3, 3], None, &zero).contains("must be positive"));
    let groups = Conv2dConfig { groups: 2, ..cfg };
    assert!(err(&[1, 3, 8, 8], &[4, 3, 3, 3], None, &groups).contains("don't divide into 2 groups"));
}
