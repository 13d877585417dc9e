//! Images on one thread: `cargo bench -p mmcv --bench image`.
//!
//! `MMRS_BENCH_JPEG` names a 1920x1080 JPEG in place of the made one; `image.py` beside this file times mmcv on the
//! same file.

use criterion::{Criterion, criterion_group, criterion_main};
use mmcv::image::{
    ChannelOrder, ColorFlag, FlipDirection, Image, Interpolation, Pixels, Scale, Warp, bgr2hsv, hsv2bgr, imencode,
    imflip, imfrombytes, imnormalize, impad_to_multiple, imrescale, imresize, imrotate, normalize_to_chw,
};

/// The binaries' allocator: without it a fresh picture costs its page faults each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEAN: [f64; 3] = [123.675, 116.28, 103.53];
const STD: [f64; 3] = [58.395, 57.12, 57.375];

/// Slopes, edges and noise, as much of each as in a photograph.
fn made() -> Vec<u8> {
    let (h, w) = (1080, 1920);
    let mut noise = 1u32;
    let mut bytes = Vec::with_capacity(h * w * 3);
    for y in 0..h {
        for x in 0..w {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = (noise >> 28) as usize;
            let shape = if (x / 120 + y / 90) % 3 == 0 { 60 } else { 0 };
            bytes.extend(
                [x * 150 / w + shape + grain, y * 150 / h + grain, (x + y) * 120 / (w + h) + shape].map(|v| v as u8),
            );
        }
    }
    imencode(&Image::new(h, w, 3, Pixels::U8(bytes)).expect("the bytes are counted"), "jpg").expect("it fits JPEG")
}

fn bench(c: &mut Criterion) {
    let jpeg = match std::env::var_os("MMRS_BENCH_JPEG") {
        Some(path) => std::fs::read(path).expect("MMRS_BENCH_JPEG is readable"),
        None => made(),
    };
    let decode = || imfrombytes(&jpeg, ColorFlag::Color, ChannelOrder::Bgr, None).expect("a JPEG");
    let rescale =
        |image: &Image| imrescale(image, Scale::Within(1333, 800), Interpolation::Bilinear).expect("a size").0;
    let flip = |image: &Image| imflip(image, FlipDirection::Horizontal);
    let image = decode();
    let small = rescale(&image);
    let normalized = imnormalize(&small, &MEAN, &STD, true).expect("three channels");

    let mut group = c.benchmark_group("image");
    group.sample_size(20);
    group.bench_function("decode", |b| b.iter(decode));
    group.bench_function("resize", |b| b.iter(|| rescale(&image)));
    group.bench_function("flip", |b| b.iter(|| flip(&small)));
    group.bench_function("normalize", |b| b.iter(|| imnormalize(&small, &MEAN, &STD, true)));
    group.bench_function("pad", |b| b.iter(|| impad_to_multiple(&normalized, 32, &[0.0])));
    group.bench_function("pipeline, step by step", |b| {
        b.iter(|| {
            let image = imnormalize(&flip(&rescale(&decode())), &MEAN, &STD, true)?;
            impad_to_multiple(&image, 32, &[0.0])?.to_chw_tensor()
        })
    });
    group.bench_function("pipeline, fused", |b| {
        b.iter(|| {
            let image = flip(&rescale(&decode()));
            let up = |n: usize| n.div_ceil(32) * 32;
            normalize_to_chw(&image, &MEAN, &STD, true, (up(image.height()), up(image.width())))
        })
    });
    for i in [Interpolation::Nearest, Interpolation::Area, Interpolation::Bicubic, Interpolation::Lanczos] {
        group.bench_function(format!("resize {i:?}"), |b| b.iter(|| imresize(&image, (1333, 750), i)));
    }
    group.bench_function("rotate", |b| b.iter(|| imrotate(&small, 10.0, None, 1.0, false, Warp::default())));
    let floats = small.clone().into_f32();
    group.bench_function("hsv there and back", |b| b.iter(|| bgr2hsv(&floats).and_then(|hsv| hsv2bgr(&hsv))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
