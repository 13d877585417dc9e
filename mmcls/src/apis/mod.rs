//! What the tools do, for programs of one's own: build a model from a config and test it.

mod model;
mod test;

pub use model::{ClsModel, num_classes_fit};
pub use test::single_gpu_test;
