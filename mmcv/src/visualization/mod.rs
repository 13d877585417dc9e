//! Drawing on pictures, and plots.
//!
//! All of it is the crate's own: lines with smooth edges, areas, a bitmap font. Nothing depends on fonts or displays of
//! the machine, so that the same input gives the same pixels everywhere. mmdet draws with matplotlib; the content is the
//! same (boxes at 0.8, captions `name|0.95` on dark ground, masks with white edges), the pixels are not.

mod canvas;
mod captions;
mod detection;
mod font;
mod heat_map;
mod palette;
mod plot;

pub use canvas::{Canvas, Color, Direction, text_size};
pub use captions::with_captions;
pub use detection::{draw_bboxes, draw_keypoints, draw_mask, draw_polygons, draw_segmentation};
pub use heat_map::{heat_map, jet};
pub use palette::{color_val, palette, voc_colormap};
pub use plot::{Series, plot_confusion_matrix, plot_curves};
