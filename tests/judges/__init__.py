"""Outside judges of our GLB files: the Khronos validator, three.js in headless Chromium, Blender. For tests only."""
