//! A COCO annotation file with its indexes; pycocotools' `COCO`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use indexmap::IndexMap;
use indexmap::map::Entry;
use mmcv::{Error, Result};
use serde::de::IgnoredAny;

use super::json::{RawAnn, RawCategory, RawFile, RawImage, Records, without_nan};
use crate::core::AnnMask;

/// An entry of `images`.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoImage {
    /// Its id.
    pub id: i64,
    /// Its file, relative to the data set's `img_prefix`.
    pub file_name: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// An entry of `categories`.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoCategory {
    /// Its id; ids need not be contiguous.
    pub id: i64,
    /// The class name.
    pub name: String,
    /// The group that the class belongs to, empty when the file gives none.
    pub supercategory: String,
}

/// An entry of `annotations`.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoAnn {
    /// Its id, unique in the file.
    pub id: i64,
    /// The image it is in.
    pub image_id: i64,
    /// The class.
    pub category_id: i64,
    /// `[x, y, width, height]`, pixels; kept as the file has it, even when not finite or empty.
    pub bbox: [f64; 4],
    /// Area of the object (of its mask, where it has one), square pixels.
    pub area: f64,
    /// Whether it is a crowd: its region can be matched any number of times and is never missed.
    pub iscrowd: bool,
    /// Whether the file says `ignore`; mmdet's data set leaves such objects out.
    pub ignore: bool,
    /// Whether the file says `difficult` (converted VOC files do).
    pub difficult: bool,
    /// The mask, when there is one.
    pub segmentation: Option<AnnMask>,
}

/// How many boxes of a file are of no use as they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BoxFaults {
    /// A coordinate or the area is NaN or infinite.
    pub not_finite: usize,
    /// Width or height is negative.
    pub inverted: usize,
    /// Width or height is zero.
    pub empty: usize,
}

/// Annotations of a data set.
#[derive(Debug, Clone, Default)]
pub struct CocoApi {
    imgs: IndexMap<i64, CocoImage>,
    cats: IndexMap<i64, CocoCategory>,
    anns: Vec<CocoAnn>,
    img_to_anns: HashMap<i64, Vec<usize>>,
    cat_to_imgs: HashMap<i64, Vec<i64>>,
    path: PathBuf,
}

impl CocoApi {
    /// Reads an annotation file.
    ///
    /// # Errors
    /// Names the file and the record when it is not JSON, when a record lacks a field, when an image, category or
    /// annotation id comes twice, and when an annotation is of an image or category that the file doesn't have.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_slice(&std::fs::read(path).map_err(|e| Error::io(path, e))?, path)
    }

    /// Reads annotations from memory; `path` is what errors name.
    pub fn from_slice(json: &[u8], path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let parsed = serde_json::from_slice(json).or_else(|e| match without_nan(json) {
            Some(json) => serde_json::from_slice(&json).map_err(|e| (e, Some(json))),
            None => Err((e, None)),
        });
        let raw: RawFile = parsed.map_err(|(e, mended)| {
            match serde_json::from_slice::<IgnoredAny>(mended.as_deref().unwrap_or(json)) {
                Ok(_) => Error::data(path, format!("not a COCO annotation file: {e}")),
                Err(syntax) => Error::data(path, format!("not JSON: {syntax}")),
            }
        })?;
        Self::index(raw, path)
    }

    fn index(raw: RawFile, path: &Path) -> Result<Self> {
        let bad = |list: &str, at: usize, id: Option<i64>, message: &str| {
            let id = id.map_or_else(String::new, |id| format!(" (id {id})"));
            Error::data(path, format!("{list}[{at}]{id}: {message}"))
        };
        let whole = |key: &str| Error::data(path, format!("not a COCO annotation file: no '{key}'"));
        let images = raw.images.ok_or_else(|| whole("images"))?.0;
        let categories = raw.categories.ok_or_else(|| whole("categories"))?.0;
        // A file of test images has no annotations.
        let annotations = raw.annotations.unwrap_or(Records(Vec::new())).0;

        let mut api = Self { path: path.to_owned(), ..Self::default() };
        for (i, raw) in images.into_iter().enumerate() {
            let id = raw.id;
            let img = image(raw).map_err(|m| bad("images", i, id, &m))?;
            match api.imgs.entry(img.id) {
                Entry::Occupied(_) => return Err(bad("images", i, id, "another image has this id")),
                Entry::Vacant(place) => place.insert(img),
            };
        }
        for (i, raw) in categories.into_iter().enumerate() {
            let id = raw.id;
            let cat = category(raw).map_err(|m| bad("categories", i, id, &m))?;
            match api.cats.entry(cat.id) {
                Entry::Occupied(_) => return Err(bad("categories", i, id, "another category has this id")),
                Entry::Vacant(place) => place.insert(cat),
            };
        }
        let mut ids = HashSet::with_capacity(annotations.len());
        api.anns.reserve_exact(annotations.len());
        for (i, raw) in annotations.into_iter().enumerate() {
            let id = raw.id;
            let ann = annotation(raw).map_err(|m| bad("annotations", i, id, &m))?;
            if !api.imgs.contains_key(&ann.image_id) {
                return Err(bad("annotations", i, id, &format!("no image has the id {} (image_id)", ann.image_id)));
            }
            if !api.cats.contains_key(&ann.category_id) {
                let message = format!("no category has the id {} (category_id)", ann.category_id);
                return Err(bad("annotations", i, id, &message));
            }
            if !ids.insert(ann.id) {
                return Err(bad("annotations", i, id, "another annotation has this id"));
            }
            api.img_to_anns.entry(ann.image_id).or_default().push(i);
            api.cat_to_imgs.entry(ann.category_id).or_default().push(ann.image_id);
            api.anns.push(ann);
        }
        Ok(api)
    }

    /// Where the annotations come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The images by id, in the file's order.
    pub fn imgs(&self) -> &IndexMap<i64, CocoImage> {
        &self.imgs
    }

    /// The categories by id, in the file's order.
    pub fn cats(&self) -> &IndexMap<i64, CocoCategory> {
        &self.cats
    }

    /// All annotations, in the file's order.
    pub fn anns(&self) -> &[CocoAnn] {
        &self.anns
    }

    /// The annotations of an image, in the file's order.
    pub fn anns_of(&self, image_id: i64) -> impl ExactSizeIterator<Item = &CocoAnn> + Clone {
        self.img_to_anns.get(&image_id).map_or(&[][..], Vec::as_slice).iter().map(|&i| &self.anns[i])
    }

    /// The image of each annotation of a category, in the file's order; an image with two comes twice.
    pub fn imgs_of_cat(&self, category_id: i64) -> &[i64] {
        self.cat_to_imgs.get(&category_id).map_or(&[], Vec::as_slice)
    }

    /// Ids of the categories with one of these names; of all without names. In the file's order either way: mmdet's
    /// labels count in this order, not in that of the names.
    pub fn get_cat_ids<S: AsRef<str>>(&self, names: Option<&[S]>) -> Vec<i64> {
        let wanted = |cat: &&CocoCategory| names.is_none_or(|n| n.iter().any(|n| n.as_ref() == cat.name));
        self.cats.values().filter(wanted).map(|c| c.id).collect()
    }

    /// Ids of all images, in the file's order.
    pub fn get_img_ids(&self) -> Vec<i64> {
        self.imgs.keys().copied().collect()
    }

    /// How many boxes are not finite, inverted or empty, counted once each in this order of precedence.
    pub fn box_faults(&self) -> BoxFaults {
        let mut faults = BoxFaults::default();
        for ann in &self.anns {
            let [_, _, w, h] = ann.bbox;
            if !ann.area.is_finite() || ann.bbox.iter().any(|v| !v.is_finite()) {
                faults.not_finite += 1;
            } else if w < 0.0 || h < 0.0 {
                faults.inverted += 1;
            } else if w == 0.0 || h == 0.0 {
                faults.empty += 1;
            }
        }
        faults
    }
}

impl FromStr for CocoApi {
    type Err = Error;

    fn from_str(json: &str) -> Result<Self> {
        Self::from_slice(json.as_bytes(), "<annotations>")
    }
}

fn need<T>(value: Option<T>, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("no '{key}'"))
}

/// A length in whole pixels, at least 1.
fn pixels(value: f64, key: &str) -> Result<usize, String> {
    if value.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&value) {
        Ok(value as usize)
    } else {
        Err(format!("'{key}' is {value}, expected a number of pixels"))
    }
}

fn image(raw: RawImage) -> Result<CocoImage, String> {
    Ok(CocoImage {
        id: need(raw.id, "id")?,
        file_name: need(raw.file_name, "file_name")?,
        width: pixels(need(raw.width, "width")?.0, "width")?,
        height: pixels(need(raw.height, "height")?.0, "height")?,
    })
}

fn category(raw: RawCategory) -> Result<CocoCategory, String> {
    Ok(CocoCategory {
        id: need(raw.id, "id")?,
        name: need(raw.name, "name")?,
        supercategory: raw.supercategory.unwrap_or_default(),
    })
}

fn annotation(raw: RawAnn) -> Result<CocoAnn, String> {
    Ok(CocoAnn {
        id: need(raw.id, "id")?,
        image_id: need(raw.image_id, "image_id")?,
        category_id: need(raw.category_id, "category_id")?,
        bbox: need(raw.bbox, "bbox")?.map(|n| n.0),
        area: need(raw.area, "area")?.0,
        iscrowd: raw.iscrowd.0,
        ignore: raw.ignore.0,
        difficult: raw.difficult.0,
        segmentation: raw.segmentation.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"info": {"year": 2017}, "licenses": [],
        "images": [{"id": 7, "file_name": "b.jpg", "width": 40, "height": 32, "license": 4},
                   {"id": 3, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3.5, 4], "area": 14, "iscrowd": 0,
             "segmentation": [[1, 2, 4, 2, 4, 6]]},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 1,
             "segmentation": {"size": [2, 3], "counts": [2, 3, 1]}},
            {"id": 5, "image_id": 7, "category_id": 9, "bbox": [1, 2, -3, 4], "area": 2, "ignore": true,
             "difficult": 1, "segmentation": {"size": [2, 3], "counts": "231"}, "caption": "NaN"}],
        "categories": [{"id": 9, "name": "dog", "supercategory": "animal"}, {"id": 1, "name": "person"}]}"#;

    fn message(json: &str) -> String {
        CocoApi::from_str(json).unwrap_err().to_string()
    }

    #[test]
    fn a_file_becomes_records_and_indexes_in_its_own_order() {
        let api: CocoApi = SMALL.parse().unwrap();
        assert_eq!(api.get_img_ids(), [7, 3]);
        assert_eq!(api.get_cat_ids::<&str>(None), [9, 1]);
        assert_eq!(api.get_cat_ids(Some(&["person", "dog", "unicorn"])), [9, 1]);
        assert_eq!(api.get_cat_ids(Some(&["person"])), [1]);
        assert_eq!(api.anns_of(7).map(|a| a.id).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(api.anns_of(99).len(), 0);
        assert_eq!(api.imgs_of_cat(9), [7, 7]);
        assert_eq!(api.imgs()[&7].file_name, "b.jpg");
        assert_eq!((api.cats()[&9].supercategory.as_str(), api.cats()[&1].supercategory.as_str()), ("animal", ""));
        let [a, b, c] = api.anns() else { panic!("three annotations") };
        assert_eq!((a.bbox, a.area, a.iscrowd, a.ignore), ([1.0, 2.0, 3.5, 4.0], 14.0, false, false));
        assert_eq!(a.segmentation, Some(AnnMask::Polygons(vec![vec![1.0, 2.0, 4.0, 2.0, 4.0, 6.0]])));
        let Some(AnnMask::Rle(runs)) = &b.segmentation else { panic!("run lengths") };
        assert_eq!((b.iscrowd, runs.counts()), (true, &[2, 3, 1][..]));
        assert_eq!((c.ignore, c.difficult), (true, true));
        assert_eq!(c.segmentation, b.segmentation);
        assert_eq!(api.box_faults(), BoxFaults { inverted: 1, ..BoxFaults::default() });
    }

    #[test]
    fn boxes_that_are_not_numbers_are_kept_and_counted() {
        // Python's json writes and reads these words.
        let api: CocoApi = SMALL.replace("[1, 2, 3.5, 4]", "[NaN, 2, -Infinity, Infinity]").parse().unwrap();
        assert!(api.anns()[0].bbox[0].is_nan());
        assert_eq!(api.box_faults(), BoxFaults { not_finite: 1, inverted: 1, empty: 0 });
    }

    #[test]
    fn a_file_of_test_images_needs_no_annotations() {
        let json = r#"{"images": [{"id": 0, "file_name": "x", "width": 1, "height": 1}], "categories": []}"#;
        assert_eq!(CocoApi::from_str(json).unwrap().anns().len(), 0);
    }

    #[test]
    fn errors_name_the_file_and_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cut.json");
        std::fs::write(&file, &SMALL[..200]).unwrap();
        let e = CocoApi::from_file(&file).unwrap_err().to_string();
        assert!(e.contains("cut.json: not JSON: ") && e.contains("line "), "{e}");
        let e = CocoApi::from_file(dir.path().join("none.json")).unwrap_err().to_string();
        assert!(e.contains("none.json"), "{e}");

        assert_eq!(message("{}"), "<annotations>: not a COCO annotation file: no 'images'");
        assert!(message("[]").contains("not a COCO annotation file"), "{}", message("[]"));
        let cases = [
            ("\"bbox\": [0, 0, 2, 2], ", "", "annotations[1] (id 2): no 'bbox'"),
            ("\"area\": 4, ", "", "annotations[1] (id 2): no 'area'"),
            ("\"id\": 5, ", "", "annotations[2]: no 'id'"),
            ("\"id\": 5", "\"id\": 1", "annotations[2] (id 1): another annotation has this id"),
            ("\"id\": 3", "\"id\": 7", "images[1] (id 7): another image has this id"),
            ("\"id\": 1, \"name\"", "\"id\": 9, \"name\"", "categories[1] (id 9): another category has this id"),
            ("\"image_id\": 3", "\"image_id\": 4", "annotations[1] (id 2): no image has the id 4 (image_id)"),
            (
                "\"category_id\": 1",
                "\"category_id\": 4",
                "annotations[1] (id 2): no category has the id 4 (category_id)",
            ),
            ("\"width\": 8", "\"width\": 0", "images[1] (id 3): 'width' is 0, expected a number of pixels"),
        ];
        for (from, to, expected) in cases {
            assert_eq!(message(&SMALL.replace(from, to)), format!("<annotations>: {expected}"), "{from}");
        }
        let e = message(&SMALL.replace("[2, 3, 1]", "[2, 3, 2]"));
        assert!(e.contains("annotations[1]: run lengths don't sum to the 2 x 3 pixels of `size`"), "{e}");
        let e = message(&SMALL.replace("[1, 2, -3, 4]", "[1, 2, 3]"));
        assert!(e.contains("annotations[2]: invalid length 3"), "{e}");
    }

    #[test]
    fn the_real_annotations_load_where_they_are_present() {
        let root = std::env::var_os("MMRS_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
        let file = root.join("coco_val128/instances_val128_from_yolo.json");
        if !file.exists() {
            println!("skipped: {} is not there", file.display());
            return;
        }
        let api = CocoApi::from_file(&file).unwrap();
        assert_eq!((api.imgs().len(), api.cats().len()), (128, 80));
        assert_eq!(api.box_faults(), BoxFaults::default());
        assert_eq!(api.get_img_ids().iter().map(|&i| api.anns_of(i).len()).sum::<usize>(), api.anns().len());
    }
}
