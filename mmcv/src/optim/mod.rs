//! Optimizers with PyTorch's numerics.
