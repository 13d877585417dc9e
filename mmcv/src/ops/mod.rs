//! Tensor operations with parallel CPU kernels, forward and backward.
