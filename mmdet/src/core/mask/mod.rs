//! Masks: COCO's run-length encoding.

mod rle;
mod rle_poly;
mod rle_text;

pub use rle::Rle;
