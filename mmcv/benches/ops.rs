//! The ops at the sizes of a detector's training step: `cargo bench -p mmcv --bench ops`.

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use mmcv::{Rng, nn, ops};

fn random(shape: &[usize]) -> Tensor {
    let mut rng = Rng::new(shape.iter().sum::<usize>() as u64);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(-2.0, 2.0) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The gradients of a graph that ends at `y` in `grad`, so that no reduction is timed.
fn backward(y: &Tensor, grad: &Tensor) {
    std::hint::black_box(nn::backward(&nn::seeded(y, grad).unwrap()).unwrap());
}

fn maps(c: &mut Criterion) {
    let (shape, half) = ([4, 64, 100, 152], [4, 64, 50, 76]);
    let (x, small) = (Var::from_tensor(&random(&shape)).unwrap(), Var::from_tensor(&random(&half)).unwrap());
    let (g, small_g) = (random(&shape), random(&half));
    let w = Var::from_tensor(&random(&[64])).unwrap();
    let b = Var::from_tensor(&random(&[64])).unwrap();
    let mut group = c.benchmark_group("4x64x100x152");
    group.sample_size(20);
    group.bench_function("batch_norm_train forward+backward", |t| {
        t.iter(|| backward(&ops::batch_norm_train(&x, &w, &b, 1e-5).unwrap().0, &g));
    });
    group.bench_function("batch_norm_train_act (add, relu) forward+backward", |t| {
        t.iter(|| backward(&ops::batch_norm_train_act(&x, &w, &b, 1e-5, Some(&g), true).unwrap().0, &g));
    });
    group.bench_function("relu forward", |t| t.iter(|| ops::relu(&g).unwrap()));
    group.bench_function("relu forward+backward", |t| t.iter(|| backward(&ops::relu(&x).unwrap(), &g)));
    group.bench_function("max_pool2d 3x3/2 forward", |t| {
        t.iter(|| ops::max_pool2d(&g, [3, 3], [2, 2], [1, 1], false).unwrap());
    });
    group.bench_function("max_pool2d 3x3/2 forward+backward", |t| {
        t.iter(|| backward(&ops::max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap(), &small_g));
    });
    group.bench_function("interpolate_nearest x2 forward+backward", |t| {
        t.iter(|| backward(&ops::interpolate_nearest(&small, (100, 152)).unwrap(), &g));
    });
    group.bench_function("interpolate_bilinear x2 forward+backward", |t| {
        t.iter(|| backward(&ops::interpolate_bilinear(&small, (100, 152), false).unwrap(), &g));
    });
    // What candle's own bookkeeping costs in each of the above.
    group.bench_function("no op, backward", |t| t.iter(|| backward(&x.affine(1.0, 0.0).unwrap(), &g)));
}

fn heads(c: &mut Criterion) {
    let mut rng = Rng::new(1);
    let (n, classes) = (76_725, 80);
    let pred = Var::from_tensor(&random(&[n, classes])).unwrap();
    let labels: Vec<u32> =
        (0..n).map(|_| if rng.chance(0.01) { rng.below(classes) as u32 } else { classes as u32 }).collect();
    let labels = Tensor::from_vec(labels, n, &Device::Cpu).unwrap();
    let grad = random(&[n, classes]);
    let mut group = c.benchmark_group("heads");
    group.sample_size(20);
    group.bench_function("sigmoid_focal_loss 76725x80 forward+backward", |t| {
        t.iter(|| backward(&ops::sigmoid_focal_loss(&pred, &labels, 2.0, 0.25).unwrap(), &grad));
    });
    let scores = random(&[8192, 1000]);
    group.bench_function("softmax 8192x1000", |t| t.iter(|| ops::softmax(&scores, 1).unwrap()));
    let maps = random(&[2, 19, 256, 512]);
    group.bench_function("softmax 2x19x256x512 over channels", |t| t.iter(|| ops::softmax(&maps, 1).unwrap()));
    let boxes: Vec<[f32; 4]> = (0..2000)
        .map(|_| {
            let (x, y) = (rng.uniform(0.0, 1000.0), rng.uniform(0.0, 800.0));
            let (w, h) = (rng.uniform(20.0, 170.0), rng.uniform(20.0, 170.0));
            [x, y, x + w, y + h].map(|v| v as f32)
        })
        .collect();
    let scores: Vec<f32> = (0..2000).map(|_| rng.unit() as f32).collect();
    group.bench_function("nms 2000 boxes", |t| t.iter(|| ops::nms(&boxes, &scores, 0.5, 0.0)));
}

criterion_group!(benches, maps, heads);
criterion_main!(benches);
