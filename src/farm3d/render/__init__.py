"""Pictures from mesh, camera and light, differentiable: the only door to the kernels.

``farm3d.render.rasterize`` turns triangles into pixels, ``farm3d.render.shade`` lights them, ``farm3d.render.renderer`` does it all.
"""
