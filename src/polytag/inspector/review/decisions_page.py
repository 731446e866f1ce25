"""Builds the page of decisions: what they are worth on the inspected images, and what training on them gives."""

from collections import Counter

from polytag.errors import PolytagError
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.review.contexts import DecisionsPage, TrainedClass, TrainingShown
from polytag.inspector.review.training import CorrectedData, DecisionTraining, Trained, commands

_MAX_CLASSES = 50


def decisions_page(service: InspectorService, training: DecisionTraining, *, against: int = 0) -> DecisionsPage:
    """Return the page as of the decisions that are on the disk now. `against` is the place of the compared run."""
    run_path = service.inspection.run_path
    return DecisionsPage(
        run=service.run(against),
        worth=service.worth(),
        training=_shown(service, training),
        path="" if run_path is None else str(run_path),
    )


def _shown(service: InspectorService, training: DecisionTraining) -> TrainingShown:
    corrected, why_not = None, ""
    try:
        corrected = training.corrected()
    except PolytagError as error:  # decisions that do not fit the data, or a review that cannot be read
        why_not = f"The decisions cannot be applied to the data: {error.what}."
    why_not = why_not or training.why_not(corrected)
    trained, run_path = training.trained, service.inspection.run_path
    return TrainingShown(
        why_not=why_not,
        num_decided=corrected.num_decided("train") if corrected else 0,
        num_changed=corrected.num_changed("train") if corrected else 0,
        num_val_changed=corrected.num_changed("val") if corrected else 0,
        status=training.status,
        step=training.step,
        num_done=training.num_done,
        num_images=training.num_images,
        failure=training.failure,
        trained=trained,
        classes=_classes(trained) if trained else (),
        is_stale=_is_stale(trained, corrected),
        commands=commands(run_path) if run_path is not None and corrected is not None and not why_not else (),
    )


def _is_stale(trained: Trained | None, corrected: CorrectedData | None) -> bool:
    return trained is not None and (corrected is None or trained.data.corrections != corrected.corrections)


def _classes(trained: Trained) -> list[TrainedClass]:
    """The classes with corrected training labels, the most of them first."""
    comparison = trained.comparison
    (difference,) = comparison.differences
    num_of = Counter(each.class_name for each in trained.data.changes if each.split == "train")
    column_of = {name: column for column, name in enumerate(comparison.label_set)}
    return [
        TrainedClass(
            name=name,
            num_changed=num_changed,
            before=float(comparison.ap_RC[0, column_of[name]]),
            after=float(comparison.ap_RC[1, column_of[name]]),
            difference=float(difference.ap_C[column_of[name]]),
            low=float(difference.low_C[column_of[name]]),
            high=float(difference.high_C[column_of[name]]),
        )
        for name, num_changed in sorted(num_of.items(), key=lambda each: (-each[1], each[0]))[:_MAX_CLASSES]
    ]
