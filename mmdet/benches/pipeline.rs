//! The pipeline of a 1080p JPEG, whole and step by step, on one thread. `pipeline.py` beside this file times mmdet's on the same file.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use mmcv::Rng;
use mmcv::config::Node;
use mmcv::image::{Image, Pixels, imwrite};
use mmdet::datasets::{Pipeline, Results};

/// The file that both sides read: soft shapes with some noise, about 0.4 bytes a pixel.
fn picture() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pipeline_1080p.jpg");
    if !path.exists() {
        let (h, w, mut rng) = (1080, 1920, Rng::new(1));
        let mut values = Vec::with_capacity(h * w * 3);
        for y in 0..h {
            for x in 0..w {
                let (u, v) = (x as f64 / 190.0, y as f64 / 140.0);
                let shape = if (u.fract() - 0.5).hypot(v.fract() - 0.5) < 0.4 { 60.0 } else { 0.0 };
                for c in 0..3 {
                    let soft = 110.0 + 50.0 * (u * 0.7 + c as f64).sin() * (v * 0.9).cos();
                    values.push((soft + shape + 6.0 * rng.normal()) as u8);
                }
            }
        }
        imwrite(&Image::new(h, w, 3, Pixels::U8(values)).expect("the size fits"), &path)
            .expect("the folder is writable");
    }
    path
}

const STEPS: [&str; 7] = [
    r#"{"type": "LoadImageFromFile"}"#,
    r#"{"type": "Resize", "img_scale": [1333, 800], "keep_ratio": true}"#,
    r#"{"type": "RandomFlip", "flip_ratio": 0.5}"#,
    r#"{"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": true}"#,
    r#"{"type": "Pad", "size_divisor": 32}"#,
    r#"{"type": "DefaultFormatBundle"}"#,
    r#"{"type": "Collect", "keys": ["img"]}"#,
];

fn pipeline(steps: &[&str]) -> Pipeline {
    let steps: Vec<Node> = steps.iter().map(|s| Node::from_json(s).expect("JSON")).collect();
    Pipeline::new(&steps).expect("the steps are registered")
}

fn benches(c: &mut Criterion) {
    let path = picture().display().to_string();
    println!("reading {path}");
    let mut group = c.benchmark_group("pipeline_1080p");
    group.sample_size(20);
    for (name, steps) in [("load", &STEPS[..1]), ("load_resize", &STEPS[..2]), ("whole", &STEPS[..])] {
        let (pipeline, mut rng) = (pipeline(steps), Rng::new(0));
        group.bench_function(name, |b| {
            b.iter(|| pipeline.run(black_box(Results::from_file(&path)), &mut rng).expect("the file is good"))
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
