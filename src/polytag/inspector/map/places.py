"""Places the images of a run on a plane: by the features that its model sees, by their scores, or by UMAP of the features.

Shapes: N images of the run, M of the data set, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from polytag.errors import CheckpointError, DataError, UsageError
from polytag.inference.projection import PrincipalPlane, principal_plane
from polytag.inference.umap_process import UmapProcess, has_umap
from polytag.inspector.browse.dataset_rows import dataset_rows
from polytag.inspector.browse.regions import Source, parsed_region
from polytag.inspector.explain.jobs import Jobs
from polytag.inspector.inspection import Inspection
from polytag.inspector.map.umap_cache import places_by_umap
from polytag.inspector.map.umap_job import UmapJob
from polytag.inspector.model.job_queue import Busy
from polytag.inspector.model.text_search import NotYet
from polytag.inspector.model.worker import ModelWorker

if TYPE_CHECKING:
    from polytag.inference.neighbors import NeighborIndex

Status = Literal["ready", "computing", "waiting"]
Step = Literal["features", "umap"]
EXTENT = 65_535
"""Places are integers from 0 to this along the longer side of the map."""
NOWHERE = -1
AT_ONCE = 20_000
"""Features of a data set of up to so many images are computed for the first visit; of a larger one when they are asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherPlaces:
    """Images of the data set that are not of the run, by their rows in it."""

    split: str
    row_n: np.ndarray
    place_n2: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where the images are: int32, 0 to EXTENT, both NOWHERE for an image without a place.

    share_2   of the variance that each axis holds; None where the map is none of principal components
    others    of the other splits, on the same map
    """

    place_N2: np.ndarray
    share_2: tuple[float, float] | None
    others: Sequence[OtherPlaces] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """The places, or the progress of the step that they wait for, a share from 0 to 1."""

    status: Status
    step: Step = "features"
    progress: float = 0.0
    places: Places | None = None


@final
class MapOfImages:
    """Answers where the images are. Each map is computed once: in the queue of jobs, or by UMAP. Safe to call from many threads."""

    def __init__(self, inspection: Inspection, worker: ModelWorker | None, jobs: Jobs):
        self._inspection, self._worker, self._jobs = inspection, worker, jobs
        self._is_stopped = False
        self._umap: UmapJob[Places] = UmapJob()

    @cached_property
    def sources(self) -> list[Source]:
        """What a map can be made of here, the best first."""
        if self._worker is None or self._inspection.data is None or not (self._data_row_N >= 0).any():
            return ["scores"]
        return ["features", "umap", "scores"] if has_umap() else ["features", "scores"]

    def found(self, source: Source, *, is_asked_for: bool = False) -> Found:
        """Return the places. A visit alone computes no features of more than AT_ONCE images, and nothing that was stopped.

        Raises as the model does: CheckpointError, DataError, Busy; UsageError as UMAP does.
        """
        if source == "scores":
            places = self._jobs.answer(source, lambda: places_by_scores(self._inspection))
            return Found(status="ready" if places else "computing", places=places)
        assert self._worker is not None
        assert self._inspection.data is not None
        self._is_stopped = self._is_stopped and not is_asked_for
        is_short = len(self._inspection.data) <= AT_ONCE
        features = self._worker.features(begin=is_asked_for or (is_short and not self._is_stopped))
        index = features.index
        if index is None:
            return Found(status=features.status, progress=features.progress)
        if source == "umap":
            places, progress = self._umap.found(lambda process: self._by_umap(index, process), is_asked_for=is_asked_for)
            status = "ready" if places else "waiting" if progress is None else "computing"
            return Found(status=status, step="umap", progress=progress or 0.0, places=places)
        places = self._jobs.answer(source, lambda: places_by_features(self._inspection, index, self._data_row_N))
        return Found(status="ready" if places else "computing", progress=1.0, places=places)

    def inside(self, region: str) -> np.ndarray:
        """Return which images lie in a region of a map: bool, N.

        Raises NotYet while that map is computed, and UsageError where it cannot be, or waits to be asked for.
        """
        wanted = parsed_region(region)
        if wanted.source not in self.sources:
            raise UsageError("the map that the region was drawn on needs the model of the run, its data set or an extra")
        try:
            found = self.found(wanted.source)
        except Busy as error:
            raise NotYet(error.what) from error
        except (CheckpointError, DataError) as error:
            raise UsageError(error.what) from error
        if found.status == "waiting":
            raise UsageError("the map that the region was drawn on is not computed: the page of the map computes it")
        if found.places is None:
            raise NotYet(f"the map that the region was drawn on is being computed: {found.progress:.0%}. Try again in a moment")
        return wanted.holds(found.places.place_N2)

    def stop(self) -> Found:
        """End the computation by UMAP, or else that of the features, until somebody asks for it."""
        if self._umap.stop():
            return Found(status="waiting", step="umap")
        self._is_stopped = True
        if self._worker is not None:
            self._worker.stop_features()
        return Found(status="waiting")

    def close(self) -> None:
        """End the computation by UMAP."""
        self._umap.stop()

    def _by_umap(self, index: "NeighborIndex", process: UmapProcess) -> Places:
        positions = _positions(self._inspection, index, self._data_row_N)
        place_N2 = np.full((len(positions.of_run_N), 2), np.nan)
        own_N = positions.of_run_N >= 0
        place_N2[own_N] = places_by_umap(index.feature_ND[positions.of_run_N[own_N]], process)
        return Places(place_N2=_on_map(place_N2)[0], share_2=None)

    @cached_property
    def _data_row_N(self) -> np.ndarray:
        return dataset_rows(self._inspection)


def places_by_scores(inspection: Inspection) -> Places:
    """Return the principal components of the logits; of ranks, of each class's share of images with a lower one."""
    score_NC = inspection.predictions.logit_NC
    if inspection.predictions.scale == "rank":
        score_NC = np.stack([np.searchsorted(np.sort(each_N), each_N) / len(each_N) for each_N in score_NC.T], axis=1)
    plane = principal_plane(score_NC)
    return Places(place_N2=_on_map(plane.places(score_NC))[0], share_2=_shares(plane))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Positions:
    """Where the features of images are in an index, of all images of the data set and of those of the run; NOWHERE for none."""

    of_data_M: np.ndarray
    of_run_N: np.ndarray


def _positions(inspection: Inspection, index: "NeighborIndex", data_row_N: np.ndarray) -> _Positions:
    """An image that is not in the index, or whose features are zeros as they were not finite, has no position."""
    assert inspection.data is not None
    position_M = np.full(len(inspection.data), NOWHERE)
    position_M[index.row_N] = np.where(index.feature_ND.any(axis=1), np.arange(len(index.row_N)), NOWHERE)
    return _Positions(of_data_M=position_M, of_run_N=np.where(data_row_N >= 0, position_M[data_row_N], NOWHERE))


def places_by_features(inspection: Inspection, index: "NeighborIndex", data_row_N: np.ndarray) -> Places:
    """Return the principal components of the features, of the run's images and of those of the other splits on the same plane."""
    assert inspection.data is not None
    positions = _positions(inspection, index, data_row_N)
    position_M, position_N = positions.of_data_M, positions.of_run_N
    own_N = position_N >= 0
    feature_nD = index.feature_ND[position_N[own_N]]
    place_N2 = np.full((len(position_N), 2), np.nan)
    plane = principal_plane(feature_nD)
    place_N2[own_N] = plane.places(feature_nD)
    is_other = position_M >= 0
    is_other[data_row_N[own_N]] = False
    row_m = np.flatnonzero(is_other)
    on_map_N2, *on_map = _on_map(place_N2, plane.places(index.feature_ND[position_M[row_m]]))
    split_m = np.array([inspection.data.split_N[row] for row in row_m.tolist()], object)
    others = [
        OtherPlaces(split=split, row_n=row_m[split_m == split], place_n2=on_map[0][split_m == split])
        for split in sorted(set(split_m.tolist()))
    ]
    return Places(place_N2=on_map_N2, share_2=_shares(plane), others=others)


def _shares(plane: PrincipalPlane) -> tuple[float, float]:
    first, second = plane.share_2.tolist()
    return first, second


def _on_map(*parts: np.ndarray) -> list[np.ndarray]:
    """Return places as integers, by one scale along both sides; images that are all in one place are in the middle."""
    every = np.concatenate(parts)
    finite = every[np.isfinite(every).all(axis=1)]
    if not len(finite):
        return [np.full(part.shape, NOWHERE, np.int32) for part in parts]
    low_2, high_2 = finite.min(axis=0), finite.max(axis=0)
    extent = float((high_2 - low_2).max()) or 1.0
    made: list[np.ndarray] = []
    for part in parts:
        place_n2 = np.full(part.shape, NOWHERE, np.int32)
        finite_n = np.isfinite(part).all(axis=1)
        shares_n2 = (part[finite_n] - (low_2 + high_2) / 2) / extent + 0.5
        place_n2[finite_n] = np.clip(np.rint(shares_n2 * EXTENT), 0, EXTENT)
        made.append(place_n2)
    return made
