"""The model card of a repository on the hub: README.md, with what was measured, what was not, and how to use the model."""

import re
from collections.abc import Mapping

import numpy as np
import yaml

from polytag import __version__
from polytag.export.measured import Measured
from polytag.export.timm_config import Compared, without_paths
from polytag.metrics.decisions import ALWAYS
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.metrics.values import FEW_MARK, Metrics, positives_text
from polytag.models.checkpoint import Checkpoint
from polytag.models.hub import EXPORT_FOLDER, Address
from polytag.text import counted, interval_text, markdown, number_text


def card(
    checkpoint: Checkpoint,
    *,
    address: Address,
    measured: Measured | None,
    compared: Compared | None,
    license: Mapping[str, str],
    has_export: bool,
) -> str:
    """README.md. `license` holds the keys of a license in the front matter, or none: it is the owner's to say."""
    parts = [
        f"# {markdown(address.repo.partition('/')[2])}",
        _summary(checkpoint, compared),
        _use(checkpoint, address, has_export=has_export),
        "## What was measured",
        _results(measured),
        "## How it decides",
        _decisions(checkpoint, measured),
        "## Data",
        _data(checkpoint, measured),
        "## Intended use and limits",
        _limits(checkpoint, measured),
    ]
    return _front_matter(checkpoint, address, measured, license) + "\n\n".join(parts) + "\n"


def license_of(card: Mapping[str, object]) -> dict[str, str]:
    """The keys of a license in the front matter of a card."""
    names = ("license", "license_name", "license_link")
    return {name: value for name in names if isinstance(value := card.get(name), str) and 0 < len(value) <= 200}


def _front_matter(checkpoint: Checkpoint, address: Address, measured: Measured | None, license: Mapping[str, str]) -> str:
    values: dict[str, object] = {
        **license,
        "library_name": "timm" if checkpoint.head == "linear" else "polytag",
        "pipeline_tag": "image-classification",
        "tags": ["multi-label", "image-classification", "polytag", *(["timm"] if checkpoint.head == "linear" else [])],
    }
    if measured is not None and not np.isnan(measured.metrics.mean_ap.value):
        mean = measured.metrics.mean_ap
        interval = interval_text(mean.low, mean.high)
        name = f"mAP over {counted(mean.count, 'classes')}" + (f", 95% interval {interval}" if interval else "")
        data = _name_of_data(checkpoint)
        result = {
            "task": {"type": "image-classification", "name": "Multi-label image classification"},
            "dataset": {"type": re.sub("[^a-z0-9]+", "-", data.lower()).strip("-") or "own", "name": data, "split": "validation"},
            "metrics": [{"type": "mean_average_precision", "name": name, "value": round(mean.value, 6)}],
        }
        values["model-index"] = [{"name": address.repo.partition("/")[2], "results": [result]}]
    return "---\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=200) + "---\n\n"


def _summary(checkpoint: Checkpoint, compared: Compared | None) -> str:
    preprocessing, facts = checkpoint.preprocessing, without_paths(checkpoint.facts)
    recipe = ", ".join(
        f"{word} {markdown(str(facts[name]))}" for name, word in (("recipe", "recipe"), ("epoch", "epoch")) if name in facts
    )
    rows = {
        "backbone": markdown(checkpoint.backbone),
        "head": checkpoint.head,
        "input": f"{preprocessing.image_size_px} px, {preprocessing.fit}, {preprocessing.interpolation}",
        "views": preprocessing.crops,
        "training": recipe or "not known",
        "starting weights": markdown(str(facts.get("weights", "not known"))),
        "checkpoint": f"`{checkpoint.id}`",
        "made by": f"polytag {__version__}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"A multi-label image classifier: one probability for each of {counted(len(checkpoint.label_set), 'classes')}, "
        f"which need not sum to 1.\n\n| | |\n| --- | --- |\n{table}\n\n"
        f"Classes: {', '.join(map(markdown, checkpoint.label_set))}.\n\n"
        + (
            f"timm cannot load it: the head {checkpoint.head} is polytag's."
            if compared is None
            else f"Before it was pushed, timm loaded this folder and was compared with the checkpoint on "
            f"{counted(compared.images, 'images')}: logits differ by at most {compared.max_logit_difference:.1g}."
        )
    )


def _use(checkpoint: Checkpoint, address: Address, *, has_export: bool) -> str:
    revision = "" if address.revision == "main" else f"@{address.revision}"
    second = f', revision="{address.revision}"' if revision else ""
    without_torch = (
        f"\npolytag predict {address}/{EXPORT_FOLDER} photo.jpg    # from the ONNX graphs, without PyTorch" if has_export else ""
    )
    views = (
        ""
        if checkpoint.preprocessing.crops == "center"
        else f" It scores one view of an image, where polytag averages those of `{checkpoint.preprocessing.crops}`."
    )
    by_polytag = f"""## Use

With polytag, which resizes, calibrates and decides as in its evaluation:

```
polytag predict {address} photo.jpg{without_torch}
```"""
    if checkpoint.head != "linear":
        return by_polytag
    return f"""{by_polytag}

With timm alone. Its probabilities are not calibrated, and the thresholds in config.json are for those.{views}

```python
import json

import timm
import torch
from huggingface_hub import hf_hub_download
from PIL import Image

model = timm.create_model("hf-hub:{address.repo}{revision}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
config = json.load(open(hf_hub_download("{address.repo}", "config.json"{second})))
with torch.inference_mode():
    probability = model(transform(Image.open("photo.jpg").convert("RGB"))[None]).sigmoid()[0].tolist()
thresholds = config["polytag"]["thresholds"]
print([name for name, p, t in zip(config["label_names"], probability, thresholds) if p > t])
```"""


def _results(measured: Measured | None) -> str:
    if measured is None:
        return "Nothing here: the checkpoint was pushed without the run that has its predictions."
    metrics = measured.metrics
    mean, interval = metrics.mean_ap, interval_text(metrics.mean_ap.low, metrics.mean_ap.high)
    headline = (
        f"On {counted(metrics.num_images, 'validation images')}: mAP {number_text(mean.value)}"
        + (f", 95% interval {interval}" if interval else "")
        + f", the unweighted mean over {counted(mean.count, 'classes')}; a random order has {number_text(metrics.chance)}."
    )
    lost = "Intervals draw images, not the groups that the run was trained with." if measured.lost_groups else ""
    notes = " ".join(markdown(note) for note in (metrics.left_out, metrics.note, lost) if note)
    return "\n\n".join(part for part in (headline, notes, _table(metrics)) if part)


def _table(metrics: Metrics) -> str:
    """A row a class, best first."""
    heading = ["class", "AP", "95% interval", "positives", "negatives", "unknown", "threshold", "precision", "recall"]
    rows = [heading, ["---"] + ["---:"] * (len(heading) - 1)]
    for column in metrics.best_first.tolist():
        rows.append(
            [
                markdown(metrics.label_set.names[column]),
                number_text(float(metrics.ap_C[column])),
                interval_text(float(metrics.ap_low_C[column]), float(metrics.ap_high_C[column])),
                positives_text(int(metrics.support_C[column])).replace(FEW_MARK, "\\" + FEW_MARK),
                f"{int(metrics.num_negative_C[column]):,}",
                f"{int(metrics.num_unknown_C[column]):,}",
                _threshold(float(metrics.threshold_C[column])),
                number_text(float(metrics.precision_C[column])),
                number_text(float(metrics.recall_C[column])),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _threshold(value: float) -> str:
    return "always" if value == ALWAYS else "never" if value == 1 else f"{value:.4g}"


def _decisions(checkpoint: Checkpoint, measured: Measured | None) -> str:
    goal = measured.goal if measured else ""
    chosen = {
        "": "How they were chosen is not recorded.",
        "default": "They are 0.5 for each class: no goal was chosen.",
    }.get(goal, f"They were chosen on the validation images for the goal `{goal}`.")
    if measured and measured.guarantee:
        chosen += f" {markdown(measured.guarantee)}"
    calibration = checkpoint.calibration
    how = (
        f"Probabilities are calibrated on the validation images by the method {calibration.method} (`{calibration.id}`)."
        if calibration
        else "Probabilities are the sigmoid of the network's logits, which nothing has calibrated."
    )
    return f"A class is present where its probability is strictly above its threshold. {chosen}\n\n{how}"


def _name_of_data(checkpoint: Checkpoint) -> str:
    return str(without_paths(checkpoint.facts).get("data") or "data of its own")


def _data(checkpoint: Checkpoint, measured: Measured | None) -> str:
    facts = without_paths(checkpoint.facts)
    counts = [
        f"{facts[name]:,} {what} images"
        for name, what in (("num_train", "training"), ("num_val", "validation"))
        if isinstance(facts.get(name), int)
    ]
    if not counts and measured is not None:
        counts = [f"{measured.metrics.num_images:,} validation images"]
    sentences = [f"{markdown(_name_of_data(checkpoint))}: {', '.join(counts) or 'sizes not recorded'}"]
    if "data_fingerprint" in facts:
        sentences.append(f"fingerprint of ids, splits and labels `{facts['data_fingerprint']}`")
    return ", ".join(sentences) + ". The images are not in this repository."


def _limits(checkpoint: Checkpoint, measured: Measured | None) -> str:
    limits = [
        "It is for images like those it was trained on. How it does on images from elsewhere was not measured: judge it on "
        "labelled images of your own first (`polytag predict`, then `polytag evaluate`)."
    ]
    if measured is None:
        limits.append("No metric is in this card.")
        return "\n".join(f"- {limit}" for limit in limits)
    metrics = measured.metrics
    limits.append(
        "The validation images also chose the epoch, and the thresholds and calibration where these were chosen: the numbers "
        "favour the model a little."
    )
    names = metrics.label_set.names
    few = [names[column] for column in np.flatnonzero(metrics.is_few_C)]
    undefined = [names[column] for column in np.flatnonzero(np.isnan(metrics.ap_C))]
    if few:
        limits.append(
            f"Fewer than {FEW_POSITIVES} positives ({FEW_MARK} in the table), so their numbers say little: ".replace(
                FEW_MARK, "\\" + FEW_MARK
            )
            + ", ".join(map(markdown, few))
            + "."
        )
    if undefined:
        limits.append(f"Not measured for lack of a positive or a negative: {', '.join(map(markdown, undefined))}.")
    if num_unknown := int(metrics.num_unknown_C.sum()):
        share = num_unknown / (metrics.num_images * len(names))
        limits.append(f"{num_unknown:,} labels ({share:.1%}) are unknown and count nowhere.")
    limits.append("Whether it treats groups of people alike, and attacks on it, were not measured.")
    return "\n".join(f"- {limit}" for limit in limits)
