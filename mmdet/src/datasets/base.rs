//! What data sets of all formats share: paths, classes, filtering, the pipeline.

use std::collections::HashSet;
use std::sync::Arc;

use mmcv::config::Node;
use mmcv::fileio::{FileClient, FileClientConfig, list_from_file, load_as};
use mmcv::{Error, Result, Rng};

use super::pipelines::{ImgInfo, Pipeline, Results};
use crate::core::AnnInfo;
use crate::datasets::pipelines::{OneOrMany, join};

/// Images narrower or lower than this are left out of training.
pub(super) const MIN_SIZE: usize = 32;

/// How many images in a row a pipeline may drop before that is an error; mmdet would go on for ever.
const MAX_DROPPED: usize = 1000;

/// The options of every format.
pub(super) struct Args<'a> {
    pub ann_file: &'a str,
    pub pipeline: &'a [Node],
    pub classes: Option<&'a OneOrMany<String>>,
    pub data_root: Option<&'a str>,
    pub img_prefix: Option<&'a str>,
    pub seg_prefix: Option<&'a str>,
    pub proposal_file: Option<&'a str>,
    pub test_mode: bool,
    pub file_client_args: &'a FileClientConfig,
}

/// The shared part of a data set.
pub(super) struct Base {
    pub ann_file: String,
    pub img_prefix: Option<String>,
    pub seg_prefix: Option<String>,
    pub classes: Vec<String>,
    pub test_mode: bool,
    pub client: FileClient,
    pub infos: Vec<ImgInfo>,
    proposal_file: Option<String>,
    proposals: Option<Vec<Arc<Vec<Vec<f32>>>>>,
    /// The images of each flag.
    groups: [Vec<usize>; 2],
    pipeline: Pipeline,
}

impl Base {
    /// Joins paths and builds the pipeline; `load` and `keep` come after.
    pub fn new(args: &Args<'_>, default_classes: &[&str]) -> Result<Self> {
        let client = FileClient::new(args.file_client_args)?;
        let rooted = |path: &str| join(args.data_root, path);
        let classes = match args.classes {
            None => default_classes.iter().map(|c| (*c).to_owned()).collect(),
            Some(OneOrMany::Many(names)) => names.clone(),
            Some(OneOrMany::One(file)) => list_from_file(&client, file, "", 0, 0)?,
        };
        let mut seen = HashSet::new();
        if let Some(twice) = classes.iter().find(|c| !seen.insert(c.as_str())) {
            return Err(Error::config(format!("class '{twice}' is listed twice")).under("classes"));
        }
        Ok(Self {
            ann_file: rooted(args.ann_file),
            img_prefix: args.img_prefix.map(rooted),
            seg_prefix: args.seg_prefix.map(rooted),
            proposal_file: args.proposal_file.map(rooted),
            classes,
            test_mode: args.test_mode,
            client,
            infos: Vec::new(),
            proposals: None,
            groups: [Vec::new(), Vec::new()],
            pipeline: Pipeline::new(args.pipeline).map_err(|e| e.under("pipeline"))?,
        })
    }

    /// Takes the images that `keep` lists of `infos` (all without it), with their proposals; `why` says in the error what is
    /// wrong when none is left.
    pub fn load(&mut self, infos: Vec<ImgInfo>, keep: Option<Vec<usize>>, why: impl Fn() -> String) -> Result<()> {
        if infos.is_empty() {
            return Err(Error::data(&self.ann_file, "the data set is empty: the file lists no images"));
        }
        let proposals = match &self.proposal_file {
            Some(file) => Some(read_proposals(&self.client, file, infos.len())?),
            None => None,
        };
        let Some(keep) = keep else {
            self.infos = infos;
            self.proposals = proposals;
            self.group();
            return Ok(());
        };
        if keep.is_empty() {
            return Err(Error::data(
                &self.ann_file,
                format!(
                    "the data set is empty: none of its {} images is left after filtering ({})",
                    infos.len(),
                    why()
                ),
            ));
        }
        let mut infos: Vec<Option<ImgInfo>> = infos.into_iter().map(Some).collect();
        self.infos = keep.iter().filter_map(|i| infos[*i].take()).collect();
        self.proposals = proposals.map(|p| keep.iter().map(|i| p[*i].clone()).collect());
        self.group();
        Ok(())
    }

    fn group(&mut self) {
        self.groups = [Vec::new(), Vec::new()];
        for i in 0..self.infos.len() {
            self.groups[usize::from(self.flag(i))].push(i);
        }
    }

    pub fn flag(&self, index: usize) -> u8 {
        let info = &self.infos[index];
        u8::from(info.width > info.height)
    }

    fn start(&self, index: usize, ann_info: Option<Arc<AnnInfo>>) -> Results {
        Results {
            img_info: self.infos[index].clone(),
            ann_info,
            img_prefix: self.img_prefix.clone(),
            seg_prefix: self.seg_prefix.clone(),
            raw_proposals: self.proposals.as_ref().map(|p| p[index].clone()),
            ..Results::default()
        }
    }

    /// Runs the pipeline; in training, takes another image of the same flag when it drops one.
    pub fn fetch(
        &self,
        mut index: usize,
        rng: &mut Rng,
        ann: impl Fn(usize) -> Result<Arc<AnnInfo>>,
    ) -> Result<Results> {
        if self.test_mode {
            let dropped = || Error::data(&self.infos[index].filename, "the test pipeline drops the image");
            return self.pipeline.run(self.start(index, None), rng)?.ok_or_else(dropped);
        }
        for _ in 0..MAX_DROPPED {
            if let Some(results) = self.pipeline.run(self.start(index, Some(ann(index)?)), rng)? {
                return Ok(results);
            }
            let pool = &self.groups[usize::from(self.flag(index))];
            index = pool[rng.below(pool.len())];
        }
        Err(Error::data(&self.ann_file, format!("the pipeline dropped {MAX_DROPPED} images in a row")))
    }
}

/// `[image][box][4 or 5 numbers]`, pickled arrays or JSON.
fn read_proposals(client: &FileClient, file: &str, images: usize) -> Result<Vec<Arc<Vec<Vec<f32>>>>> {
    let all: Vec<Vec<Vec<f32>>> = load_as(client, file)?;
    if all.len() != images {
        return Err(Error::data(file, format!("has proposals of {} images, the data set has {images}", all.len())));
    }
    Ok(all.into_iter().map(Arc::new).collect())
}

/// The images that are big enough and, when `filter_empty_gt`, that `has_objects`.
pub(super) fn filter(infos: &[ImgInfo], filter_empty_gt: bool, has_objects: impl Fn(usize) -> bool) -> Vec<usize> {
    let good = |i: &usize| infos[*i].width.min(infos[*i].height) >= MIN_SIZE && (!filter_empty_gt || has_objects(*i));
    (0..infos.len()).filter(good).collect()
}
