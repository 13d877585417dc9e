//! The COCO metrics on 500 images with 80 classes and about 35 000 detections; `coco_eval.py` beside this file times
//! pycocotools on the same data, bit for bit.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mmdet::core::mask::Rle;
use mmdet::evaluation::coco::{CocoApi, CocoDet, CocoEval, CocoEvalParams, IouType};

#[path = "../src/evaluation/synthetic.rs"]
mod synthetic;
use synthetic::{Found, HEIGHT, WIDTH, diamond, make};

fn dets(found: &[Found], iou_type: IouType) -> Vec<CocoDet<'static>> {
    let mask = |f: &Found| Cow::Owned(Rle::from_polygons(&[diamond(f.bbox)], HEIGHT, WIDTH));
    let det = |f: &Found| CocoDet {
        image_id: f.image_id,
        category_id: f.category_id,
        bbox: f.bbox,
        score: f.score,
        mask: (iou_type == IouType::Segm).then(|| mask(f)),
    };
    found.iter().map(det).collect()
}

fn coco(c: &mut Criterion) {
    let (json, found) = make(7, 500, 80, 16, 121);
    let gt: CocoApi = json.parse().expect("make writes COCO's format");
    println!("{} images, {} objects, {} detections", gt.imgs().len(), gt.anns().len(), found.len());
    let mut group = c.benchmark_group("coco_eval");
    group.sample_size(10);
    group.bench_function("load", |b| b.iter(|| black_box(&json).parse::<CocoApi>().expect("as above")));
    for (name, iou_type) in [("bbox", IouType::Bbox), ("segm", IouType::Segm)] {
        let dets = dets(&found, iou_type);
        group.bench_function(name, |b| {
            b.iter(|| {
                let params = CocoEvalParams::new(iou_type, gt.get_img_ids(), gt.get_cat_ids::<&str>(None));
                let eval = CocoEval::new(&gt, black_box(&dets), params).expect("results fit");
                eval.summarize().expect("three numbers of detections").stats
            });
        });
    }
    group.finish();
}

criterion_group!(benches, coco);
criterion_main!(benches);
