//! What the tools do, for programs of one's own: build a model from a config, test it, show what it finds.

mod model;
mod num_class_check_hook;
mod results;
mod show;
mod test;

pub use model::{DetModel, num_classes_fit};
pub use num_class_check_hook::{NumClassCheckHook, NumClassCheckHookConfig};
pub(crate) use results::result_ids;
pub use results::write_results;
pub use show::{ShowOptions, draw_result, drawing_name, show_result};
pub use test::{infer_image, single_gpu_test};
