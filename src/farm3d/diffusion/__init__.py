"""Words to pictures: the text-to-image prior behind one door, and score distillation. The only room that knows diffusers."""
