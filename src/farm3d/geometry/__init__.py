"""Pure functions on tensors: rotations, projection, surfaces, skeleton kinematics, skinning, UV atlas."""
