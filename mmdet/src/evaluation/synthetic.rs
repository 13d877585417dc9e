//! Annotations and detections for tests and benches, made from a seed by the lines quoted in `coco/golden.rs`, so that
//! the Python originals see the same bits. Shared by `#[path]`: it names nothing of the crate.
#![allow(dead_code)] // each user needs a part

/// SplitMix64.
pub struct Mix(pub u64);

impl Mix {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2f64.powi(-53)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }
}

pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 480;

/// A detection: image, category, `[x, y, w, h]`, score.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub image_id: i64,
    pub category_id: i64,
    pub bbox: [f64; 4],
    pub score: f64,
}

fn cents(v: f64) -> f64 {
    (v * 100.0).floor() / 100.0
}

fn a_box(m: &mut Mix) -> [f64; 4] {
    let w = m.unit();
    let h = m.unit();
    let (w, h) = (4.0 + cents(w * w * 300.0), 4.0 + cents(h * h * 200.0));
    let x = cents(m.unit() * (WIDTH as f64 - w));
    [x, cents(m.unit() * (HEIGHT as f64 - h)), w, h]
}

/// A polygon in a box.
pub fn diamond([x, y, w, h]: [f64; 4]) -> Vec<f64> {
    vec![x, y + h / 4.0, x + w / 2.0, y, x + w, y + h / 2.0, x + w / 4.0, y + h]
}

fn solid(b: [f64; 4]) -> Vec<usize> {
    let [x, y, w, h] = b.map(|v| v as usize);
    let mut runs = vec![x * HEIGHT + y, h];
    (1..w).for_each(|_| runs.extend([HEIGHT - h, h]));
    runs.push(HEIGHT * WIDTH - (x + w - 1) * HEIGHT - y - h);
    runs
}

/// The annotation file and the detections; `gts` and `noise` are one more than the most objects and stray detections
/// in an image.
pub fn make(seed: u64, images: i64, cats: u64, gts: u64, noise: u64) -> (String, Vec<Found>) {
    let mut m = Mix(seed);
    let (mut imgs, mut anns, mut dets) = (Vec::new(), Vec::new(), Vec::new());
    let cat_id = |cat: u64| 3 * cat as i64 + 2;
    for i in 0..images {
        let image_id = 10 + i * 7919 % 10007;
        imgs.push(format!(
            r#"{{"id": {image_id}, "file_name": "{image_id}.jpg", "width": {WIDTH}, "height": {HEIGHT}}}"#
        ));
        let add = |m: &mut Mix, dets: &mut Vec<Found>, bbox, cat| {
            let score = m.below(64) as f64 / 64.0;
            dets.push(Found { image_id, category_id: cat_id(cat), bbox, score });
        };
        for _ in 0..m.below(gts) {
            let b = a_box(&mut m);
            let cat = m.below(cats);
            let crowd = m.unit() < 0.1;
            let segmentation = if crowd {
                format!(r#"{{"size": [{HEIGHT}, {WIDTH}], "counts": {:?}}}"#, solid(b))
            } else {
                format!("[{:?}]", diamond(b))
            };
            anns.push(format!(
                r#"{{"id": {}, "image_id": {image_id}, "category_id": {}, "bbox": {b:?}, "area": {:?}, "iscrowd": {}, "segmentation": {segmentation}}}"#,
                anns.len() + 1,
                cat_id(cat),
                b[2] * b[3] * 0.7,
                u8::from(crowd),
            ));
            for _ in 0..m.below(3) {
                let j: [f64; 4] = std::array::from_fn(|_| (m.unit() - 0.5) * 0.3);
                let near = [b[0] + j[0] * b[2], b[1] + j[1] * b[3], b[2] + j[2] * b[2], b[3] + j[3] * b[3]];
                let cat = if m.unit() < 0.9 { cat } else { m.below(cats) };
                add(&mut m, &mut dets, near, cat);
            }
        }
        for _ in 0..m.below(noise) {
            let b = a_box(&mut m);
            let cat = m.below(cats);
            add(&mut m, &mut dets, b, cat);
        }
    }
    let cats: Vec<String> = (0..cats).map(|c| format!(r#"{{"id": {}, "name": "c{c}"}}"#, cat_id(c))).collect();
    let json = format!(
        r#"{{"images": [{}], "annotations": [{}], "categories": [{}]}}"#,
        imgs.join(", "),
        anns.join(", "),
        cats.join(", ")
    );
    (json, dets)
}
