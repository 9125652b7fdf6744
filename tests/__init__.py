"""Tests; they mirror src/farm3d file for file. tests/testing holds what several of them share."""
