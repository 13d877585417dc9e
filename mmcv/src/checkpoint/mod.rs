//! Checkpoints: `.pth` and `.safetensors`, load reports.
