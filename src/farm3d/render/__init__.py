"""Pictures from mesh, camera and light, differentiable: the only door to the kernels."""
