//! One training step of RetinaNet R18 at the size of the blood cells' config: `cargo bench -p mmdet --bench train_step`.
//! `cargo xtask bench torch --only retinanet_r18` times mmdet's beside it.
#![allow(missing_docs, dead_code)] // criterion's macros make undocumented functions; the modules serve another bench too

#[path = "torch/mmcv_ops.rs"]
mod mmcv_ops;
#[path = "torch/nets.rs"]
mod nets;
#[path = "torch/ops.rs"]
mod ops;
#[path = "torch/run.rs"]
mod run;

use criterion::{Criterion, criterion_group, criterion_main};

// As the binaries do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn benches(c: &mut Criterion) {
    mmcv::cli::keep_pages();
    let mut step =
        nets::retinanet("retinanet_r18", &[8, 256, 320], "step", std::path::Path::new("")).expect("the config is good");
    let mut group = c.benchmark_group("train_step");
    group.sample_size(10);
    group.bench_function("retinanet_r18 8x256x320", |b| {
        b.iter_custom(|n| (0..n).map(|_| step().expect("the loss is finite")).sum())
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
