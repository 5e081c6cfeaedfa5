"""Draws a case: anatomy of a patient, its place on a grid of voxels, and the image that a scanner would make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.seeds import stream
from nnactive_nf.phantom.variants import AIR, BODY, LESION, MUSCLE, ORGAN, TAIL, TISSUES, Variant

Vector = npt.NDArray[np.float64]

CASES_PER_PATIENT = 2


@dataclass(frozen=True)
class Case:
    """One case: `image` float32 `[channels, z, y, x]`, `mask_zyx` uint8 of label values."""

    image: npt.NDArray[np.float32]
    mask_zyx: npt.NDArray[np.uint8]
    spacing_mm_zyx: tuple[float, float, float]
    origin_mm_zyx: tuple[float, float, float]


@dataclass(frozen=True)
class Patient:
    """What the cases of one patient have in common. Positions are in mm from the middle of the body, (z, y, x)."""

    shape_zyx: Shape
    spacing_mm_zyx: Vector
    organ_mm: Vector
    organ_radii_mm: Vector
    organ_rotation: Rotation
    muscle_mm: Vector
    lesion_mm: Vector | None
    brightness: Vector  # per tissue, around 1
    gain: float


def draw_patient(seed: int, patient: int) -> Patient:
    """Anatomy of a patient (numbered from 0); two of three patients have a lesion."""
    rng = stream(seed, 0, "phantom", "patient", patient)
    spacing = np.array([rng.uniform(2.3, 2.7), *[rng.uniform(0.92, 1.08)] * 2])
    shape = as_shape(rng.integers((24, 40, 40), (33, 49, 49)))
    radii = np.array([rng.uniform(15, 19), rng.uniform(8, 11), rng.uniform(10, 13)])
    organ = rng.uniform(-3.0, 3.0, 3) + np.array([-2.0, 0.0, -3.0])
    rotation = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True)
    # The lesion lies on the organ's rim, so that neither its place nor its surroundings are always the same.
    direction = rng.normal(size=3)
    rim = organ + rotation.apply(direction / np.linalg.norm(direction) * radii * 0.8)
    return Patient(
        shape_zyx=shape,
        spacing_mm_zyx=spacing,
        organ_mm=organ,
        organ_radii_mm=radii,
        organ_rotation=rotation,
        muscle_mm=np.array([rng.uniform(-8, 8), rng.uniform(-13, -10), rng.uniform(7, 11)]),
        lesion_mm=rim if patient % 3 != 2 else None,
        brightness=rng.normal(1.0, 0.06, len(TISSUES)),
        gain=float(rng.uniform(0.5, 2.0)),
    )


def draw_case(seed: int, variant: Variant, patient: int, visit: int) -> Case:
    """A visit (numbered from 0) of a patient: the same anatomy, moved and bent a little, newly scanned."""
    anatomy = draw_patient(seed, patient)
    rng = stream(seed, 0, "phantom", "visit", patient, visit)
    tissue = _draw_tissue(anatomy, rng)
    image = np.stack(
        [
            _scan(tissue, np.array(means) * anatomy.brightness, noise, anatomy, rng)
            for means, noise in zip(variant.means, variant.noise, strict=True)
        ]
    )
    return Case(
        image=image,
        mask_zyx=np.array(variant.label_of, dtype=np.uint8)[tissue],
        spacing_mm_zyx=_triple(anatomy.spacing_mm_zyx),
        origin_mm_zyx=_triple(rng.uniform(-50, 50, 3)),
    )


def _draw_tissue(anatomy: Patient, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which of `TISSUES` each voxel `[z, y, x]` consists of."""
    shape, spacing = anatomy.shape_zyx, anatomy.spacing_mm_zyx
    middle = (np.array(shape) - 1) / 2
    axes = [(np.arange(n) - m) * s for n, m, s in zip(shape, middle, spacing, strict=True)]
    place_mm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    body_radii = (np.array(shape) / 2 - (0.5, 1.5, 1.5)) * spacing
    body = (((place_mm / body_radii) ** 4).sum(axis=-1)) < 1

    turn = Rotation.from_euler("xyz", rng.uniform(-6, 6, 3), degrees=True)
    inner_mm = turn.apply((place_mm + rng.uniform(-1.5, 1.5, 3)).reshape(-1, 3)).reshape(place_mm.shape)
    inner_mm = inner_mm + _bend(shape, spacing, rng)

    rotation, radii = anatomy.organ_rotation, anatomy.organ_radii_mm
    # The tail goes on from the organ's end along its longest axis (z of the organ).
    tail_mm = anatomy.organ_mm + rotation.apply(radii * (1.0, 0.4, 0.4))
    tissue = np.where(body, BODY, AIR)
    tissue[body & _ellipsoid(inner_mm, anatomy.muscle_mm, np.array([16.0, 4.5, 6.0]), Rotation.identity())] = MUSCLE
    tissue[body & _ellipsoid(inner_mm, tail_mm, radii * (0.6, 0.6, 0.6), rotation)] = TAIL
    tissue[body & _ellipsoid(inner_mm, anatomy.organ_mm, radii, rotation)] = ORGAN
    lesion_radii = rng.uniform(4.0, 6.0) * rng.uniform(0.9, 1.1, 3)
    if anatomy.lesion_mm is not None:
        tissue[body & _ellipsoid(inner_mm, anatomy.lesion_mm, lesion_radii, Rotation.identity())] = LESION
    return tissue


def _scan(
    tissue: npt.NDArray[np.int64], means: Vector, noise: float, anatomy: Patient, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """One channel `[z, y, x]`: means, texture, partial volume, bias field, noise, gain; 0 outside the body."""
    shape, spacing = anatomy.shape_zyx, anatomy.spacing_mm_zyx
    signal = means[tissue] + 0.6 * noise * _smooth_noise(shape, 2.5 / spacing, rng)
    signal = gaussian_filter(signal, 0.7 / spacing)
    bias = np.exp(0.18 * _smooth_noise(shape, 18.0 / spacing, rng))
    signal = np.hypot(signal * bias + rng.normal(0, noise, shape), rng.normal(0, noise, shape))
    signal[tissue == AIR] = 0
    return np.round(signal * anatomy.gain).astype(np.float32)


def _bend(shape: Shape, spacing_mm: Vector, rng: np.random.Generator) -> Vector:
    """Smooth displacement `[z, y, x, 3]` of about 1 mm."""
    return np.stack([1.2 * _smooth_noise(shape, 8.0 / spacing_mm, rng) for _ in range(3)], axis=-1)


def _smooth_noise(shape: Shape, sigma_voxels: Vector, rng: np.random.Generator) -> Vector:
    """Gaussian noise of this smoothness with mean 0 and standard deviation 1."""
    values = gaussian_filter(rng.normal(size=shape), sigma_voxels, mode="wrap")
    return (values - values.mean()) / values.std()


def _ellipsoid(place_mm: Vector, centre_mm: Vector, radii_mm: Vector, rotation: Rotation) -> npt.NDArray[np.bool_]:
    """Voxels `[z, y, x]` inside an ellipsoid."""
    local = rotation.inv().apply((place_mm - centre_mm).reshape(-1, 3)) / radii_mm
    return ((local**2).sum(axis=-1) < 1).reshape(place_mm.shape[:-1])


def _triple(values: Vector) -> tuple[float, float, float]:
    """Three numbers of a header, rounded to what NIfTI's float32 surely keeps."""
    z, y, x = (round(float(v), 4) for v in values)
    return z, y, x
