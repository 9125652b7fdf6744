"""Opens GLB files in Blender (bpy 5.0) and writes what it found. Run by a Python that has bpy, never imported by the tests.

    python blender_judge.py ORDER.json REPORT.json

ORDER: a list of {"path": GLB, "moments": [{"clip": name, "time_s": s}]}. REPORT: a list with bones, actions, images and the deformed
vertices (glTF axes: Blender's own are z up) at those moments.
"""

import base64
import json
import sys

import bpy  # pyright: ignore[reportMissingImports]
import numpy as np


def deformed(mesh_object):
    evaluated = mesh_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    points = np.empty(3 * len(mesh.vertices))
    mesh.vertices.foreach_get("co", points)
    world = np.array(evaluated.matrix_world)
    points = points.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
    evaluated.to_mesh_clear()
    return points[:, [0, 2, 1]] * [1, 1, -1]


def judge(job):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=job["path"])
    armatures = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
    meshes = [thing for thing in bpy.data.objects if thing.type == "MESH" and thing.find_armature() is not None]
    report = {
        "armatures": len(armatures),
        "skinned_meshes": len(meshes),
        "bones": [bone.name for bone in armatures[0].data.bones],
        "actions": sorted(action.name for action in bpy.data.actions),
        "images": [
            {"name": image.name, "size": list(image.size), "colorspace": image.colorspace_settings.name} for image in bpy.data.images
        ],
        "lights": [light.type for light in bpy.data.lights],
        "moments": [],
    }
    scene, armature = bpy.context.scene, armatures[0]
    data = armature.animation_data or armature.animation_data_create()
    for track in data.nla_tracks:
        track.mute = True
    for moment in job.get("moments", []):
        # Blender names an action "walk" or, with several objects, "walk_horse".
        action = next(
            action for action in bpy.data.actions if action.name == moment["clip"] or action.name.startswith(moment["clip"] + "_")
        )
        data.action = action
        data.action_slot = action.slots[0]
        frame = moment["time_s"] * scene.render.fps / scene.render.fps_base
        scene.frame_set(int(frame), subframe=frame - int(frame))
        points = deformed(meshes[0]).astype("<f4")
        report["moments"].append({**moment, "vertices": base64.b64encode(points.tobytes()).decode()})
    return report


if __name__ == "__main__":
    with open(sys.argv[1]) as order:
        jobs = json.load(order)
    reports = [{"path": job["path"], **judge(job)} for job in jobs]
    with open(sys.argv[2], "w") as out:
        json.dump(reports, out)
