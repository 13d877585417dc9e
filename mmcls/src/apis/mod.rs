//! What the tools do, for programs of one's own: build a model from a config, test it, see what it looks at.

mod cam;
mod classes;
mod model;
mod test;

pub use cam::{Activations, CamMethod, activations, class_activation_map, merge_maps};
pub use classes::{class_names, image_steps};
pub use model::{ClsModel, num_classes_fit};
pub use test::single_gpu_test;
