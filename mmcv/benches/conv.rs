//! Convolution, forward and with both gradients: `cargo bench -p mmcv --bench conv`.
//!
//! The same in PyTorch, to be run on the same quiet machine with as many threads (here two):
//!
//! ```python
//! import time, torch, torch.nn.functional as F
//! torch.set_num_threads(2)
//! for name, n, c, h, w, o, k, s, p, g in SIZES:  # the table below
//!     x = torch.randn(n, c, h, w, requires_grad=True); wt = torch.randn(o, c // g, k, k, requires_grad=True)
//!     def forward():
//!         with torch.no_grad(): F.conv2d(x, wt, None, s, p, 1, g)
//!     def both():
//!         x.grad = wt.grad = None; F.conv2d(x, wt, None, s, p, 1, g).sum().backward()
//!     for what, f in ("forward", forward), ("both", both):
//!         best = 1e9
//!         for _ in range(20): t = time.perf_counter(); f(); best = min(best, time.perf_counter() - t)
//!         print(f"{name} {what} {best * 1e3:.2f} ms")
//! ```

use std::hint::black_box;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mmcv::ops::{Conv2dConfig, conv2d};

// As the binaries do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, images, channels, height, width, output channels, kernel, stride, padding, groups.
type Size = (&'static str, usize, usize, usize, usize, usize, usize, usize, usize, usize);

/// ResNet's convolutions at 224 pixels, a depthwise pair, and a detector's head on the finest level of 256x320 pixels.
const SIZES: [Size; 14] = [
    ("stem 7x7/2 3-64 224", 4, 3, 224, 224, 64, 7, 2, 3, 1),
    ("1x1 64-256 56", 4, 64, 56, 56, 256, 1, 1, 0, 1),
    ("1x1 256-64 56", 4, 256, 56, 56, 64, 1, 1, 0, 1),
    ("1x1 1024-256 14", 4, 1024, 14, 14, 256, 1, 1, 0, 1),
    ("3x3 64-64 56", 4, 64, 56, 56, 64, 3, 1, 1, 1),
    ("3x3 128-128 28", 4, 128, 28, 28, 128, 3, 1, 1, 1),
    ("3x3 256-256 14", 4, 256, 14, 14, 256, 3, 1, 1, 1),
    ("3x3 512-512 7", 4, 512, 7, 7, 512, 3, 1, 1, 1),
    ("3x3/2 128-128 56", 4, 128, 56, 56, 128, 3, 2, 1, 1),
    ("1x1/2 256-512 56", 4, 256, 56, 56, 512, 1, 2, 0, 1),
    ("depthwise 3x3 96 112", 4, 96, 112, 112, 96, 3, 1, 1, 96),
    ("depthwise 3x3/2 96 112", 4, 96, 112, 112, 96, 3, 2, 1, 96),
    ("head 3x3 256-256 32x40", 8, 256, 32, 40, 256, 3, 1, 1, 1),
    ("head 3x3 256-256 8x10", 8, 256, 8, 10, 256, 3, 1, 1, 1),
];

fn both(x: &Var, w: &Var, cfg: &Conv2dConfig) -> Result<Tensor> {
    let grads = conv2d(x, w, None, cfg)?.sum_all()?.backward()?;
    Ok(grads.get(w).expect("the weight takes part").clone())
}

fn convolution(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv2d");
    group.sample_size(20);
    for (name, n, channels, h, w, out, k, stride, padding, groups) in SIZES {
        let cfg = Conv2dConfig { stride: [stride; 2], padding: [padding; 2], groups, ..Default::default() };
        let random = |shape: [usize; 4]| Var::randn(0f32, 1.0, &shape, &Device::Cpu).expect("a small tensor");
        let (x, wt) = (random([n, channels, h, w]), random([out, channels / groups, k, k]));
        let (xc, wc) = (x.as_detached_tensor(), wt.as_detached_tensor());
        group.bench_function(BenchmarkId::new("forward", name), |b| {
            b.iter(|| black_box(conv2d(&xc, &wc, None, &cfg).expect("valid sizes")))
        });
        group.bench_function(BenchmarkId::new("both", name), |b| {
            b.iter(|| black_box(both(&x, &wt, &cfg).expect("valid sizes")))
        });
    }
    group.finish();
}

criterion_group!(benches, convolution);
criterion_main!(benches);
