"""Learning a category from pictures of it: reconstruction, and a diffusion model's judgement of the sides no picture shows."""
