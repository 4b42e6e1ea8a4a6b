"""The functions whose gradients are compared: plain JAX, and the same in PyTorch and HIPS autograd where that is short."""
