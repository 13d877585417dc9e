//! Polygons to run-length masks, as COCO's API rasterises them.

use super::Rle;

/// The outline is walked on a grid this many times finer than the pixels.
const SCALE: f64 = 5.0;

impl Rle {
    /// The mask of one polygon, `[x, y]` vertices in pixels; less than 3 vertices give an empty mask.
    pub fn from_polygon(xy: &[[f64; 2]], height: usize, width: usize) -> Self {
        if xy.len() < 3 || xy.iter().flatten().any(|v| !v.is_finite()) {
            return Self::encode(&vec![0; height * width], height, width);
        }
        let crossings = crossings(&outline(xy), height, width);
        let counts = runs(crossings);
        Self::from_counts(height, width, counts).expect("the last crossing is the mask's end")
    }

    /// The union of the polygons of one object (COCO's `segmentation` list of flat `[x, y, x, y, ...]`).
    pub fn from_polygons(polygons: &[Vec<f64>], height: usize, width: usize) -> Self {
        let masks: Vec<Self> = polygons
            .iter()
            .map(|p| {
                let xy: Vec<[f64; 2]> = p.chunks_exact(2).map(|c| [c[0], c[1]]).collect();
                Self::from_polygon(&xy, height, width)
            })
            .collect();
        Self::merge(&masks, false).unwrap_or_else(|| Self::encode(&vec![0; height * width], height, width))
    }
}

/// Every point of the closed outline on the fine grid, in order.
fn outline(xy: &[[f64; 2]]) -> Vec<[i64; 2]> {
    // Far outside the image nothing is drawn, so coordinates are kept where the arithmetic can't overflow.
    let fine: Vec<[i64; 2]> = xy.iter().map(|p| p.map(|v| (SCALE * v.clamp(-1e5, 1e5) + 0.5) as i64)).collect();
    let mut points = Vec::new();
    for (j, &from) in fine.iter().enumerate() {
        let to = fine[(j + 1) % fine.len()];
        let (dx, dy) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
        // Along the longer axis, always upwards, so that an edge is drawn alike from both ends.
        let long = usize::from(dx < dy);
        let flip = from[long] > to[long];
        let (a, b) = if flip { (to, from) } else { (from, to) };
        let steps = dx.max(dy);
        let slope = if steps == 0 { 0.0 } else { (b[1 - long] - a[1 - long]) as f64 / steps as f64 };
        for d in 0..=steps {
            let t = if flip { steps - d } else { d };
            let across = (a[1 - long] as f64 + slope * t as f64 + 0.5) as i64;
            points.push(if long == 0 { [t + a[0], across] } else { [across, t + a[1]] });
        }
    }
    points
}

/// Column-major positions at which the outline crosses a pixel column's centre, and the mask's end, sorted.
fn crossings(points: &[[i64; 2]], height: usize, width: usize) -> Vec<u32> {
    let mut at: Vec<u32> = points
        .windows(2)
        .filter(|p| p[0][0] != p[1][0])
        .filter_map(|p| {
            let ([u0, v0], [u1, v1]) = (p[0], p[1]);
            let x = (if u1 < u0 { u1 } else { u1 - 1 }) as f64;
            let x = (x + 0.5) / SCALE - 0.5;
            if x.floor() != x || x < 0.0 || x > width as f64 - 1.0 {
                return None;
            }
            let y = ((v0.min(v1)) as f64 + 0.5) / SCALE - 0.5;
            Some(x as u32 * height as u32 + y.clamp(0.0, height as f64).ceil() as u32)
        })
        .collect();
    at.push((height * width) as u32);
    at.sort_unstable();
    at
}

/// Distances between crossings; two crossings at one place cancel out.
fn runs(crossings: Vec<u32>) -> Vec<u32> {
    let mut last = 0;
    let steps: Vec<u32> = crossings
        .into_iter()
        .map(|c| {
            let step = c - last;
            last = c;
            step
        })
        .collect();
    let mut counts = vec![steps[0]];
    let mut j = 1;
    while j < steps.len() {
        if steps[j] > 0 {
            counts.push(steps[j]);
            j += 1;
        } else {
            if let (Some(next), Some(end)) = (steps.get(j + 1), counts.last_mut()) {
                *end += next;
            }
            j += 2;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polygon, height, width, and pycocotools 2.0's `frPyObjects` of it: text, area, bounding box.
    const CASES: [(&[f64], usize, usize, &str, u64, [f64; 4]); 6] = [
        (
            &[10.3, 2.1, 30.7, 8.9, 25.2, 28.4, 5.5, 20.0],
            32,
            40,
            "a63i05K4L5L31O01O010O0010O00010O01O010O00O2L3L4M4K4Mj8",
            407,
            [6.0, 2.0, 25.0, 26.0],
        ),
        (
            &[0.0, 0.0, 39.0, 0.0, 39.0, 31.0, 0.0, 31.0],
            32,
            40,
            "0o01000000000000000000000000000000000000000000000000000000000000000000000000000P1",
            1209,
            [0.0, 0.0, 39.0, 31.0],
        ),
        (
            &[-5.5, 3.0, 50.0, 10.2, 20.0, 60.0],
            32,
            40,
            "4<d02N3M2N2N2O2M2N000000000001O000000000000001O0000000000001O000000000000001N1N2OH",
            956,
            [0.0, 4.0, 40.0, 28.0],
        ),
        (&[3.0, 3.0, 3.0, 3.0, 10.49, 3.5, 7.0, 12.5], 16, 16, "c11?2N3M2N00N3Lo2", 34, [3.0, 3.0, 7.0, 8.0]),
        (&[1.0, 1.0, 2.0, 2.0, 3.0, 1.0], 5, 5, "i0", 0, [0.0; 4]),
        (
            &[5.0, 5.0, 20.0, 5.2, 5.0, 5.4, 18.0, 14.0, 4.0, 9.0],
            20,
            24,
            "g22a02O01O10O01O10O01O10O0d4",
            28,
            [4.0, 6.0, 12.0, 7.0],
        ),
    ];

    fn rle(case: usize) -> Rle {
        let (polygon, h, w, ..) = CASES[case];
        Rle::from_polygons(&[polygon.to_vec()], h, w)
    }

    #[test]
    fn polygons_rasterise_as_in_pycocotools() {
        for (i, (_, h, w, text, area, bbox)) in CASES.into_iter().enumerate() {
            let r = rle(i);
            assert_eq!(r.to_text(), text, "case {i}");
            assert_eq!((r.area(), r.to_bbox()), (area, bbox), "case {i}");
            assert_eq!(Rle::from_text(h, w, text), Some(r), "case {i}");
        }
    }

    #[test]
    fn iou_and_merge_are_pycocotools() {
        let pair = [rle(0), rle(2)];
        let iou = |crowd| Rle::iou(&pair[..1], &pair[1..], &[crowd])[0][0];
        assert!((iou(false) - 0.397_948_72).abs() < 1e-8 && (iou(true) - 0.953_316_95).abs() < 1e-8);
        let merged = |intersect| Rle::merge(&pair, intersect).unwrap().to_text();
        assert_eq!(merged(true), "a63i05K4L5O00001O010O001O00001O0010O01O00O2L3L4M4K4Mj8");
        assert_eq!(merged(false), "4<d02N3M2N2N2O2M2N000M31O00001O00001O00001O00001O00000000001O000000000000001N1N2OH");
    }

    #[test]
    fn polygons_that_are_none_are_empty() {
        assert_eq!(Rle::from_polygon(&[[0.0, 0.0], [3.0, 3.0]], 5, 5).area(), 0);
        assert_eq!(Rle::from_polygon(&[[0.0, 0.0], [f64::NAN, 3.0], [1.0, 9.0]], 5, 5).area(), 0);
        assert_eq!(Rle::from_polygon(&[[-1e30, 0.0], [1e30, 3.0], [1.0, 1e300]], 5, 5).height(), 5);
    }
}
