"""Crop -> Animal: encoder, category prior, fitting."""
