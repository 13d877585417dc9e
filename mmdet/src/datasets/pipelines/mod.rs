//! Pipelines: what happens to an image and its annotation between the file and the network.

mod compose;
mod crop;
mod cut_out;
mod expand;
mod flip;
mod formatting;
mod loading;
mod masks;
mod min_iou_random_crop;
mod normalize;
mod options;
mod pad;
mod photometric;
mod picture;
mod resize;
mod results;
mod shift;
mod test_time_aug;
#[cfg(test)]
mod testing;

use mmcv::registry::registry;
use mmcv::{Result, Rng};

pub use compose::Pipeline;
pub(crate) use loading::join;
pub use masks::InstanceMasks;
pub use options::OneOrMany;
pub(crate) use options::yes;
pub use picture::Picture;
pub use results::{ImgInfo, Results, ScaleFactor};

/// One step of a pipeline.
pub trait Transform: Send + Sync {
    /// Changes `results`; `None` drops the sample (training then takes another image).
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>>;

    /// The other samples that this step mixes in, as indices into a data set of `len`; none for most steps.
    fn mix_indices(&self, _len: usize, _rng: &mut Rng) -> Vec<usize> {
        Vec::new()
    }
}

registry!(
    /// Steps of a pipeline.
    pub PIPELINES: dyn Transform, ()
);
