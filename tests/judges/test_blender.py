"""Blender opens our files and finds every bone by name, the clips, the texture, and the vertices we compute."""

from pathlib import Path

import numpy as np
import pytest

from farm3d.export.glb import write_glb
from farm3d.export.glb_reader import read_glb
from farm3d.motion.clips import CLIP_NAMES
from tests.judges.judges import blender_reports
from tests.testing.animals import quadruped

pytestmark = [pytest.mark.judges, pytest.mark.slow]


def test_opens_and_agrees(tmp_path: Path) -> None:
    jobs = []
    for name, tail in (("horse", True), ("tailless", False)):
        path = tmp_path / f"{name}.glb"
        write_glb(quadruped(tail=tail), path, texture_px=64, with_light=not tail)
        moments = [
            {"clip": clip.name, "time_s": share * clip.duration_s}
            for clip in read_glb(path).clips
            for share in (0.0, 0.21, 0.5, 0.83, 0.97)
        ]
        jobs.append({"path": str(path), "moments": moments})
    for report in blender_reports(jobs):
        model = read_glb(Path(report["path"]))
        assert report["armatures"] == 1 and report["skinned_meshes"] == 1
        assert sorted(report["bones"]) == sorted(model.joint_names)
        assert report["actions"] == sorted(CLIP_NAMES)
        assert [(image["size"], image["colorspace"]) for image in report["images"]] == [([64, 64], "sRGB")]
        for moment in report["moments"]:
            # Blender interpolates quaternions in a straight line and not along the arc; keys are dense enough for that not to matter.
            ours = model.vertices_at(moment["clip"], moment["time_s"]).numpy()
            assert np.abs(moment["vertices"] - ours).max() < 1e-4, (moment["clip"], moment["time_s"])
    assert report["lights"] == ["SUN"]
