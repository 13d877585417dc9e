//! Pipelines: what happens to an image between the file and the network.

mod auto_augment;
mod color_jitter;
mod compose;
mod crop;
mod flip;
mod formatting;
mod grayscale;
mod lighting;
mod loading;
mod normalize;
mod pad;
mod random_erasing;
mod random_resized_crop;
mod resize;
mod results;

use mmcv::registry::registry;
use mmcv::{Result, Rng};

pub use compose::Pipeline;
pub use resize::{ResizeBackend, Side};
pub use results::Results;

/// One step of a pipeline.
pub trait Transform: Send + Sync {
    /// Changes `results`.
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()>;
}

registry!(
    /// Steps of a pipeline.
    pub PIPELINES: dyn Transform, ()
);

/// Refuses a condition that does not hold.
fn ensure(holds: bool, key: &str, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(mmcv::Error::config(message()).under(key)) }
}
