//! Configs: a tree of [`Node`]s in which every value knows the file and line that set it.

mod de;
mod node;

pub use de::from_node;
pub use node::{Node, Origin, Value};
