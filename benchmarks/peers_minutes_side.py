"""One training of fastai, Hugging Face's Trainer or LightlyTrain, each as its documentation shows it, and its validation scores.

Run by `peers_minutes.py` in the peer's environment, without polytag: `python peers_minutes_side.py SIDE JOB.json`. The job holds
{"paths", "targets", "val_paths", "classes", "backbone", "weights", "setting", "seed", "amounts", "scores"}; each of `amounts` is a
training, {"frozen_images", "trained_images"}: how many training images pass with a frozen backbone and how many without, an image
counted each time. `scores` is the .npy file for one logit a class of each validation image, by the last training, or null. Prints
one JSON object with the seconds of each training, on the clock and of the processor, children included.
"""

import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch

LEFT_TO_VALIDATE = 8  # validation images while training: scoring happens once, at the end, and its time is not counted


def seconds_now() -> tuple[float, float]:
    """On the clock, and of the processor: this process and the ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rounds(num_images: int, job: dict, *, batch_size: int) -> tuple[int, list[int]]:
    """Epochs, and the rows of each: whole epochs over fewer images where the number does not divide."""
    share = num_images / len(job["paths"])
    epochs = max(1, round(share))
    rows = list(range(len(job["paths"])))
    random.Random(job["seed"]).shuffle(rows)
    batches = max(1, round(num_images / epochs / batch_size))  # fastai drops a last batch that is not full
    return epochs, rows[: batches * batch_size]


def fastai(job: dict, started) -> object:
    """`vision_learner` and `fine_tune` as in fastai's multi-label tutorial (PASCAL 2007): Resize(460), aug_transforms(size=224)."""
    import fastai.callback.progress  # noqa: F401  gives Learner its no_bar
    from fastai.vision.all import (
        DataBlock,
        ImageBlock,
        IndexSplitter,
        MultiCategoryBlock,
        Normalize,
        Resize,
        aug_transforms,
        vision_learner,
    )

    setting, cfg = job["setting"], timm.create_model(job["backbone"]).pretrained_cfg
    paths = job["paths"] + job["val_paths"]
    targets = job["targets"] + [[0] * len(job["classes"])] * len(job["val_paths"])
    to_validate = list(range(len(job["paths"]), len(job["paths"]) + LEFT_TO_VALIDATE))
    augmented = setting.get("augment", True)

    def loaders(rows: list[int]):
        block = DataBlock(
            blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=job["classes"])),
            get_x=lambda item: paths[item],
            get_y=lambda item: targets[item],
            splitter=IndexSplitter(range(len(rows), len(rows) + LEFT_TO_VALIDATE)),
            item_tfms=Resize(460) if augmented else Resize(setting["size_px"], method="squish"),
            batch_tfms=[
                *(aug_transforms(size=setting["size_px"]) if augmented else []),
                Normalize.from_stats(cfg["mean"], cfg["std"]),
            ],
        )
        return block.dataloaders(rows + to_validate, bs=setting["batch_size"])

    (frozen_epochs, frozen_rows), (epochs, rows) = (
        rounds(job[name], job, batch_size=setting["batch_size"]) for name in ("frozen_images", "trained_images")
    )
    overlay, rate = {"file": job["weights"]}, setting["learning_rate"]
    learner = vision_learner(loaders(frozen_rows), job["backbone"], normalize=False, pretrained_cfg_overlay=overlay)
    started()
    with learner.no_bar(), learner.no_logging():
        if job["frozen_images"] and job["trained_images"]:  # fine_tune, with fewer images in the last epochs where they do not fit
            learner.fit_one_cycle(frozen_epochs, slice(rate), pct_start=0.99)
        elif job["frozen_images"]:
            learner.fit_one_cycle(frozen_epochs, slice(rate))
        if job["trained_images"]:
            learner.dls = loaders(rows)
            learner.unfreeze()
            learner.fit_one_cycle(epochs, slice(rate / 2 / 100, rate / 2), pct_start=0.3, div=5.0)

    def scores() -> np.ndarray:
        with learner.no_bar(), learner.no_logging():
            loader = learner.dls.test_dl(list(range(len(job["paths"]), len(paths))), bs=32)
            return learner.get_preds(dl=loader, act=torch.nn.Identity())[0].numpy()

    return scores


def transformers(job: dict, started) -> object:
    """`Trainer` with timm's model in TimmWrapperForImageClassification, as in the guide and the example script."""
    from PIL import Image
    from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, ToTensor
    from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

    setting, folder = job["setting"], Path(tempfile.mkdtemp())
    described = timm.create_model(job["backbone"]).pretrained_cfg | {"input_size": [3, setting["size_px"], setting["size_px"]]}
    kept = {
        name: described[name] for name in ("input_size", "interpolation", "crop_pct", "mean", "std", "first_conv", "classifier")
    }
    config = {"architecture": job["backbone"], "num_classes": 1000, "pretrained_cfg": kept}
    (folder / "config.json").write_text(json.dumps(config))
    os.symlink(job["weights"], folder / "model.safetensors")
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForImageClassification.from_pretrained(
        folder, num_labels=len(job["classes"]), problem_type="multi_label_classification", ignore_mismatched_sizes=True
    )
    frozen = job["frozen_images"] > 0
    if frozen:
        model.timm_model.requires_grad_(False)
        model.timm_model.get_classifier().requires_grad_(True)
    steps = [RandomResizedCrop(setting["size_px"]), RandomHorizontalFlip(), ToTensor(), Normalize(kept["mean"], kept["std"])]
    augment = Compose(steps)

    class Rows(torch.utils.data.Dataset):
        def __init__(self, paths, targets, transform):
            self.paths, self.targets, self.transform = paths, targets, transform

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, row):
            pixels = self.transform(Image.open(self.paths[row]).convert("RGB"))
            return {"pixel_values": pixels, "labels": torch.tensor(self.targets[row], dtype=torch.float32)}

    num_steps = max(1, round((job["frozen_images"] or job["trained_images"]) / setting["batch_size"]))
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), max_steps=num_steps, per_device_train_batch_size=setting["batch_size"],
        learning_rate=setting["learning_rate"], seed=job["seed"], save_strategy="no", logging_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(job["paths"], job["targets"], augment))
    started()
    trainer.train()
    zeros = [[0.0] * len(job["classes"])] * len(job["val_paths"])
    return lambda: trainer.predict(Rows(job["val_paths"], zeros, processor.val_transforms)).predictions


def lightlytrain(job: dict, started) -> object:
    """`train_image_classification` for several labels, from tables; scores by `predict_batch` of the last exported model."""
    import lightly_train
    from lightly_train._models.timm import timm as wrapper

    if not job["setting"].get("unrepaired"):
        # 0.18 hands its head the 320 features before timm's conv_head and expects the 1,280 after it
        wrapper._get_forward_features_fn = lambda model: wrapper._forward_features
    setting, folder = job["setting"], Path(tempfile.mkdtemp())
    cfg = timm.create_model(job["backbone"]).pretrained_cfg

    def table(name: str, paths: list[str], targets: list[list[int]]) -> str:
        lines = [f'"{path}","{",".join(str(c) for c, t in enumerate(row) if t)}"' for path, row in zip(paths, targets, strict=True)]
        (folder / name).write_text("\n".join(["image_path,label", *lines]) + "\n")
        return str(folder / name)

    few = job["val_paths"][:LEFT_TO_VALIDATE]
    data = {
        "train": table("train.csv", job["paths"], job["targets"]), "val": table("val.csv", few, job["targets"][: len(few)]),
        "classes": dict(enumerate(job["classes"])), "csv_label_type": "id",
    }  # fmt: skip
    num_images, batch_size = job["frozen_images"] or job["trained_images"], setting["batch_size"]
    num_steps = max(1, round(num_images / batch_size))
    model_args: dict = {"backbone_args": {"checkpoint_path": job["weights"]}, "backbone_freeze": job["frozen_images"] > 0}
    model_args["lr"] = setting["learning_rate"]
    if "warmup_share" in setting:
        model_args["lr_warmup_steps"] = math.ceil(setting["warmup_share"] * num_steps)
    started()
    lightly_train.train_image_classification(
        out=folder / "out", data=data, model=f"timm/{job['backbone']}", classification_task="multilabel", steps=num_steps,
        batch_size=batch_size, seed=job["seed"], accelerator="cpu", model_args=model_args, logger_args={"tensorboard": None},
        transform_args={
            "image_size": (setting["size_px"], setting["size_px"]), "normalize": {"mean": cfg["mean"], "std": cfg["std"]},
        },
    )  # fmt: skip

    def scores() -> np.ndarray:
        model = lightly_train.load_model(folder / "out" / "exported_models" / "exported_last.pt", device="cpu")
        rows = np.zeros((len(job["val_paths"]), len(job["classes"])))
        for first in range(0, len(rows), 32):
            found = model.predict_batch(job["val_paths"][first : first + 32], threshold=-1.0)
            for row, each in enumerate(found, start=first):
                rows[row, each["labels"].numpy()] = torch.logit(each["scores"].double(), eps=1e-12).numpy()
        return rows

    return scores


SIDES = {"fastai": fastai, "transformers": transformers, "lightlytrain": lightlytrain}


def main() -> None:
    side, path = sys.argv[1:]
    job = json.loads(Path(path).read_text())
    took = []
    for amount in job["amounts"]:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(job["seed"])
        begun: list[tuple[float, float]] = []
        scores = SIDES[side](job | amount, lambda begun=begun: begun.append(seconds_now()))
        ended = seconds_now()
        took.append({"wall": ended[0] - begun[0][0], "processor": ended[1] - begun[0][1]})
    if job["scores"]:
        np.save(job["scores"], np.asarray(scores(), dtype=np.float32))
    print("\n" + json.dumps({"seconds": took, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
