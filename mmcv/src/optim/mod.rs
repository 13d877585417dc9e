//! Optimizers with the numerics of PyTorch.
