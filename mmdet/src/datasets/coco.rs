//! COCO.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmcv::error::did_you_mean;
use mmcv::{Error, Result, Rng, register};

use super::base::{Base, MIN_SIZE, filter};
use super::pipelines::{ImgInfo, Results};
use super::{COCO_CLASSES, COCO_PALETTE, CustomDatasetConfig, DATASETS, DatasetDefaults, DetDataset, Source};
use crate::core::AnnInfo;
use crate::evaluation::coco::{CocoAnn, CocoApi};

/// Annotations in COCO's JSON; 80 classes unless the config lists others.
///
/// Labels follow the order of `categories` in the file, not that of the class list, as in mmdet.
pub struct CocoDataset {
    base: Base,
    api: CocoApi,
    cat_ids: Vec<i64>,
    img_ids: Vec<i64>,
    seg_suffix: String,
}

impl CocoDataset {
    /// Reads the annotations. Boxes that can't be learned from are left out, with a warning that counts them.
    pub fn new(cfg: &CustomDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let mut base = Base::new(&cfg.args(defaults), &COCO_CLASSES)?;
        let path = Path::new(&base.ann_file);
        let api = CocoApi::from_slice(&base.client.get(&base.ann_file)?, path)?;
        let cat_ids = categories(&api, &base.classes)?;
        let infos: Vec<ImgInfo> = api
            .imgs()
            .values()
            .map(|i| ImgInfo { id: i.id.to_string(), filename: i.file_name.clone(), width: i.width, height: i.height })
            .collect();
        let mut img_ids = api.get_img_ids();
        let keep = if base.test_mode {
            None
        } else {
            warn_of_skipped(&api);
            let with_objects: HashSet<i64> = cat_ids.iter().flat_map(|c| api.imgs_of_cat(*c)).copied().collect();
            Some(filter(&infos, cfg.filter_empty_gt, |i| with_objects.contains(&img_ids[i])))
        };
        if let Some(keep) = &keep {
            img_ids = keep.iter().map(|i| img_ids[*i]).collect();
        }
        base.load(infos, keep, || {
            format!("they are smaller than {MIN_SIZE} pixels or, with filter_empty_gt, without a box of the classes")
        })?;
        Ok(Self { base, api, cat_ids, img_ids, seg_suffix: cfg.seg_suffix.clone() })
    }

    /// The annotation file.
    pub fn api(&self) -> &CocoApi {
        &self.api
    }

    /// COCO's category id of each label.
    pub fn cat_id_of_label(&self) -> &[i64] {
        &self.cat_ids
    }

    /// COCO's image ids, in the data set's order.
    pub fn img_ids(&self) -> &[i64] {
        &self.img_ids
    }

    fn parse(&self, index: usize) -> AnnInfo {
        let info = &self.base.infos[index];
        let mut ann = AnnInfo::default();
        let mut all_masked = true;
        for a in self.api.anns_of(self.img_ids[index]) {
            let Some(label) = self.cat_ids.iter().position(|c| *c == a.category_id) else { continue };
            if a.ignore || fault(a, info.width, info.height).is_some() {
                continue;
            }
            let [x, y, w, h] = a.bbox;
            let bbox = [x as f32, y as f32, (x + w) as f32, (y + h) as f32];
            if a.iscrowd {
                ann.bboxes_ignore.push(bbox);
                continue;
            }
            ann.bboxes.push(bbox);
            ann.labels.push(label as i64);
            match &a.segmentation {
                Some(mask) => ann.masks.push(mask.clone()),
                None => all_masked = false,
            }
        }
        if !all_masked {
            ann.masks.clear();
        }
        let stem = info.filename.rsplit_once('.').map_or(info.filename.as_str(), |(stem, _)| stem);
        ann.seg_map = Some(format!("{stem}{}", self.seg_suffix));
        ann
    }
}

/// Ids of the categories that the classes name; an error when a class is not in the file.
fn categories(api: &CocoApi, classes: &[String]) -> Result<Vec<i64>> {
    let names: Vec<&str> = api.cats().values().map(|c| c.name.as_str()).collect();
    let missing: Vec<&String> = classes.iter().filter(|c| !names.contains(&c.as_str())).collect();
    if let Some(first) = missing.first() {
        let hint = did_you_mean(first, names.iter().copied());
        let (shown, more) =
            (names.iter().take(10).copied().collect::<Vec<_>>().join(", "), names.len().saturating_sub(10));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!(
            "{} of {} classes are not among the {} categories of {}: '{first}'{hint} (the file has: {shown}{more})",
            missing.len(),
            classes.len(),
            names.len(),
            api.path().display(),
        );
        return Err(Error::config(message).under("classes"));
    }
    let ids = api.get_cat_ids(Some(classes));
    if ids.len() != classes.len() {
        return Err(Error::data(api.path(), "two categories of the class list have one name"));
    }
    if ids.iter().zip(classes).any(|(id, class)| api.cats()[id].name != *class) {
        tracing::warn!(
            "{}: labels follow the order of the file's categories, which is not that of the class list",
            api.path().display()
        );
    }
    Ok(ids)
}

/// Why mmdet leaves a box out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A coordinate is NaN or infinite.
    NotFinite,
    /// Nothing of it is in the image; inverted and empty ones are among these.
    Outside,
    /// Its area is 0 or less, or it is less than a pixel wide or high.
    Small,
}

fn fault(a: &CocoAnn, width: usize, height: usize) -> Option<Fault> {
    let [x, y, w, h] = a.bbox;
    if a.bbox.iter().any(|v| !v.is_finite()) {
        return Some(Fault::NotFinite);
    }
    let inter_w = ((x + w).min(width as f64) - x.max(0.0)).max(0.0);
    let inter_h = ((y + h).min(height as f64) - y.max(0.0)).max(0.0);
    if inter_w * inter_h == 0.0 {
        return Some(Fault::Outside);
    }
    (a.area <= 0.0 || w < 1.0 || h < 1.0).then_some(Fault::Small)
}

fn warn_of_skipped(api: &CocoApi) {
    let mut counts = [0usize; 3];
    for a in api.anns() {
        let Some(image) = api.imgs().get(&a.image_id) else { continue };
        match fault(a, image.width, image.height) {
            Some(Fault::NotFinite) => counts[0] += 1,
            Some(Fault::Outside) => counts[1] += 1,
            Some(Fault::Small) => counts[2] += 1,
            None => {}
        }
    }
    let [nan, outside, small] = counts;
    if nan + outside + small > 0 {
        tracing::warn!(
            "{}: {} of {} boxes are left out: {nan} not finite, {outside} inverted, empty or outside their image, \
             {small} smaller than a pixel",
            api.path().display(),
            nan + outside + small,
            api.anns().len(),
        );
    }
}

impl DetDataset for CocoDataset {
    fn len(&self) -> usize {
        self.base.infos.len()
    }
    fn classes(&self) -> &[String] {
        &self.base.classes
    }
    fn palette(&self) -> &[[u8; 3]] {
        &COCO_PALETTE
    }
    fn img_info(&self, index: usize) -> &ImgInfo {
        &self.base.infos[index]
    }
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        Ok(Arc::new(self.parse(index)))
    }
    /// COCO's category ids, not labels.
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        Ok(self.api.anns_of(self.img_ids[index]).map(|a| a.category_id).collect())
    }
    fn labels_in(&self, index: usize) -> Result<Vec<i64>> {
        let label = |cat: i64| self.cat_ids.iter().position(|c| *c == cat).map(|l| l as i64);
        Ok(self.cat_ids(index)?.into_iter().filter_map(label).collect())
    }
    fn flag(&self, index: usize) -> u8 {
        self.base.flag(index)
    }
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        self.base.fetch(index, rng, |i| self.ann_info(i))
    }
    fn source(&self) -> Source<'_> {
        Source::Coco(self)
    }
}

register!(DATASETS: dyn DetDataset, "CocoDataset" => CocoDataset, CustomDatasetConfig);

#[cfg(test)]
mod tests {
    use super::super::testing::{built, files, message, real};
    use super::*;

    const FILE: &str = r#"{"images": [
        {"id": 7, "file_name": "b/x.y.jpg", "width": 100, "height": 80},
        {"id": 3, "file_name": "a.jpg", "width": 40, "height": 64},
        {"id": 4, "file_name": "small.jpg", "width": 31, "height": 64},
        {"id": 5, "file_name": "none.jpg", "width": 64, "height": 64},
        {"id": 6, "file_name": "other.jpg", "width": 64, "height": 64}],
      "categories": [{"id": 9, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 4, "name": "cat"}],
      "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1.1, 2.2, 30.3, 40.4], "area": 1000, "segmentation": [[1, 2, 31, 2, 31, 42]]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [50, 60, 70, 70], "area": 10, "segmentation": [[50, 60, 60, 60, 60, 70]]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 4, "bbox": [10, 10, 20, 20], "area": 400},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [10, 10, -5, 20], "area": 400},
        {"id": 6, "image_id": 7, "category_id": 1, "bbox": [120, 10, 20, 20], "area": 400},
        {"id": 7, "image_id": 7, "category_id": 1, "bbox": [10, 10, 0.5, 20], "area": 400},
        {"id": 8, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 0},
        {"id": 9, "image_id": 7, "category_id": 1, "bbox": [NaN, 10, 20, 20], "area": 400},
        {"id": 10, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "ignore": true},
        {"id": 11, "image_id": 3, "category_id": 1, "bbox": [-5, -6, 20, 20], "area": 400},
        {"id": 12, "image_id": 4, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400},
        {"id": 13, "image_id": 6, "category_id": 4, "bbox": [0, 0, 20, 20], "area": 400}]}"#;

    fn folder(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.json"), text).unwrap();
        dir
    }

    const TWO: &str = r#"{"type": "CocoDataset", "ann_file": "{dir}/a.json", "classes": ["person", "dog"]}"#;

    #[test]
    fn images_are_filtered_as_mmdet_does() {
        // CocoDataset(file, [], classes=('person', 'dog'), ...): len, data_infos, cat_ids, flag
        let dir = folder(FILE);
        let d = built(dir.path(), TWO, false).unwrap();
        assert_eq!(files(&*d), ["b/x.y.jpg", "a.jpg"]);
        assert_eq!((d.flag(0), d.flag(1)), (1, 0));
        let Source::Coco(coco) = d.source() else { panic!("COCO") };
        assert_eq!((coco.cat_id_of_label(), coco.img_ids()), (&[9, 1][..], &[7, 3][..]));
        let all = TWO.replace("\"classes\"", "\"filter_empty_gt\": false, \"classes\"");
        assert_eq!(files(&*built(dir.path(), &all, false).unwrap()), ["b/x.y.jpg", "a.jpg", "none.jpg", "other.jpg"]);
        assert_eq!(built(dir.path(), TWO, true).unwrap().len(), 5);
        let said = TWO.replace("\"classes\"", "\"test_mode\": true, \"classes\"");
        assert_eq!(built(dir.path(), &said, false).unwrap().len(), 5);
    }

    #[test]
    fn boxes_are_parsed_as_mmdet_does() {
        // .get_ann_info(0), .get_cat_ids(0), .get_ann_info(1)['bboxes']
        let d = built(folder(FILE).path(), TWO, false).unwrap();
        let ann = d.ann_info(0).unwrap();
        assert_eq!(ann.bboxes, [[1.1, 2.2, 31.4, 42.6], [50.0, 60.0, 120.0, 130.0]]);
        assert_eq!((&ann.labels[..], &ann.bboxes_ignore[..]), (&[0, 1][..], &[[10.0, 10.0, 30.0, 30.0]][..]));
        assert_eq!((ann.masks.len(), ann.seg_map.as_deref()), (2, Some("b/x.y.png")));
        assert_eq!(d.cat_ids(0).unwrap(), [9, 1, 1, 4, 1, 1, 1, 1, 1, 1]);
        assert_eq!(d.labels_in(0).unwrap(), [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        let second = d.ann_info(1).unwrap();
        assert_eq!((&second.bboxes[..], second.masks.len()), (&[[-5.0, -6.0, 15.0, 14.0]][..], 0));
        assert_eq!(d.cat2imgs().unwrap(), [vec![0], vec![0, 1]]);
    }

    #[test]
    fn classes_can_be_a_file() {
        let dir = folder(FILE);
        std::fs::write(dir.path().join("classes.txt"), "cat\ndog\n").unwrap();
        let json = TWO.replace(r#"["person", "dog"]"#, r#""{dir}/classes.txt""#);
        assert_eq!(built(dir.path(), &json, false).unwrap().classes(), ["cat", "dog"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = folder(FILE);
        let path = dir.path();
        let with = |classes: &str| TWO.replace(r#"["person", "dog"]"#, classes);
        let e = message(path, &with(r#"["persn", "dog"]"#), false);
        assert!(e.contains("classes: ") && e.contains("1 of 2 classes") && e.contains("did you mean 'person'"), "{e}");
        assert!(built(path, &with(r#"["persn", "dog"]"#), false).err().unwrap().is_usage());
        let e = message(path, &with("null"), false);
        assert!(e.contains("of 80 classes are not among the 3 categories"), "{e}");
        assert!(message(path, &with(r#"["dog", "dog"]"#), false).contains("'dog' is listed twice"));
        let e = message(path, &TWO.replace("a.json", "b.json"), false);
        assert!(e.contains("b.json"), "{e}");
        assert!(
            message(path, &TWO.replace("\"ann_file\"", "\"anno_file\""), false).contains("did you mean 'ann_file'")
        );

        let e = message(folder(&FILE[..400]).path(), TWO, false);
        assert!(e.contains("a.json: not JSON"), "{e}");
        let e = message(folder(&FILE.replace("\"id\": 3, \"file", "\"id\": 7, \"file")).path(), TWO, false);
        assert!(e.contains("images[1] (id 7): another image has this id"), "{e}");
        let empty = r#"{"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]}"#;
        for test_mode in [false, true] {
            let e = message(folder(empty).path(), TWO, test_mode);
            assert!(e.contains("a.json: the data set is empty"), "{e}");
        }
        let e = message(folder(&FILE.replace("\"width\": 100", "\"width\": 10")).path(), &with(r#"["dog"]"#), false);
        assert!(e.contains("none of its 5 images is left") && e.contains("smaller than 32"), "{e}");
    }

    #[test]
    fn proposals_go_with_their_images() {
        let dir = folder(FILE);
        std::fs::write(dir.path().join("p.json"), "[[[1,2,3,4,0.5]],[[2,2,2,2]],[],[],[]]").unwrap();
        let json = TWO.replace("\"classes\"", "\"data_root\": \"{dir}\", \"proposal_file\": \"p.json\", \"classes\"");
        let d = built(dir.path(), &json, false).unwrap();
        let r = d.fetch(1, &mut Rng::new(0)).unwrap();
        assert_eq!(*r.raw_proposals.unwrap(), [[2.0; 4]]);
        assert_eq!(r.img_prefix, Some(format!("{}/", dir.path().display())));
        std::fs::write(dir.path().join("p.json"), "[[]]").unwrap();
        assert!(message(dir.path(), &json, false).contains("has proposals of 1 images, the data set has 5"));
    }

    #[test]
    fn real_images_load_where_they_are_present() {
        let Some(dir) = real("coco_val128") else { return };
        let json = r#"{"type": "CocoDataset", "ann_file": "{dir}/instances_val128_from_yolo.json", "img_prefix": "{dir}/images/",
            "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]}"#;
        let d = built(&dir, json, false).unwrap();
        assert_eq!(d.classes().len(), d.palette().len());
        for i in 0..d.len().min(8) {
            let r = d.fetch(i, &mut Rng::new(0)).unwrap();
            let info = d.img_info(i);
            assert_eq!(r.ori_shape, Some([info.height, info.width, 3]));
            assert_eq!(r.gt_bboxes.unwrap(), d.ann_info(i).unwrap().bboxes);
        }
    }
}
