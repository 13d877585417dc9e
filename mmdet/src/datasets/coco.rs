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
