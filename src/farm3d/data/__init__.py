"""Photographs to Crops."""
